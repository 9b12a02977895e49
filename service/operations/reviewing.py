"""Submit a release with frozen evidence, and have two auditors decide, blind to each other.

The evidence is a set of digests. If what they name has changed when somebody votes or publishes,
every vote of the round is void and reviewing starts again.
"""

import hashlib
from typing import Any

import sqlalchemy as sa

from privacy import inclusion
from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.datasets import Cohort, Dataset, DatasetVersion
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.jobs import Job
from service.domain.releases import (
    AUDITORS_NEEDED,
    Decision,
    Release,
    ReleaseState,
    Review,
    outcome,
)
from service.domain.trail import TrailEvent
from service.operations.earlier_rounds import check_not_rejected
from service.operations.withdrawals import check_usable
from service.store import journal, tables
from service.store.unit_of_work import UnitOfWork

_REASON_LIMIT = 10_000
AUTHORSHIP = frozenset(
    {
        TrailEvent.RELEASE_CREATE.value,
        TrailEvent.RELEASE_REVISE.value,
        TrailEvent.RELEASE_SUBMIT.value,
    }
)
HANDED_IN = frozenset({TrailEvent.RELEASE_SUBMIT.value, TrailEvent.RELEASE_RESET_VOTES.value})
"""What begins a round of review."""
_AFTER_VOTES = {
    Decision.APPROVE: ReleaseState.APPROVED,
    Decision.RETURN: ReleaseState.RETURNED,
    Decision.REJECT: ReleaseState.REJECTED,
}


def submit_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, if_match: str | None
) -> Release:
    """Freeze the evidence and hand the release to the auditors; earlier votes no longer count.

    Raises: IllegalTransition, PreconditionFailed, Conflict if a document is missing or a person
    whom the candidate was trained on was withdrawn.
    """
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    if release.state not in {ReleaseState.DRAFT, ReleaseState.RETURNED}:
        raise IllegalTransition(
            f"Submitting was refused: release {release.id} is {release.state.value}. Only a draft "
            "or a returned release may be submitted.",
            state=release.state.value,
        )
    if not release.terms.strip():
        raise InputRefused(
            "Submitting was refused: the release has no terms. Write what collaborators accept."
        )
    check_candidate(uow, release, what="Submitting")
    release.move_to(ReleaseState.SUBMITTED)
    _freeze(uow, release, submitted_by=actor.user_id)
    uow.trail(
        actor,
        TrailEvent.RELEASE_SUBMIT,
        release.id,
        round=release.round,
        evidence=release.evidence,
    )
    return release


def review_release(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    decision: Decision | str,
    reason: str = "",
    if_match: str | None,
) -> Release:
    """Record an auditor's vote; the second one decides.

    Raises: PermissionDenied for the author, a forbidden approval or a missing reason; Conflict for
    a second vote or changed evidence; IllegalTransition; PreconditionFailed.
    """
    release = permissions.check_may_review(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    _check_open(release)
    check_revision(release, if_match)
    decision = _decision(decision)
    if len(reason) > _REASON_LIMIT:
        raise InputRefused(
            f"The reason was refused: {len(reason)} characters, the limit is {_REASON_LIMIT}.",
            value=len(reason),
            limit=_REASON_LIMIT,
        )
    check_evidence(uow, actor, release)
    _check_uninvolved(uow, actor, release)
    permissions.check_decision(release, decision=decision, reason=reason)
    if decision is Decision.APPROVE:
        check_not_rejected(uow, release.audit_job_id, what="Approving", release_id=release.id)
    votes = _votes(uow, release)
    _check_not_voted(actor, votes)
    vote = Review(release.id, release.round, actor.user_id, decision, reason, uow.now())
    uow.session.add(vote)
    if release.state is ReleaseState.SUBMITTED:
        release.move_to(ReleaseState.UNDER_REVIEW)
    uow.trail(
        actor,
        TrailEvent.RELEASE_REVIEW,
        release.id,
        round=release.round,
        commitment=vote_commitment(uow, vote),
        evidence=_digests(release.evidence),
    )
    votes.append(vote)
    decided = outcome([cast.decision for cast in votes])
    if decided is not None:
        release.move_to(_AFTER_VOTES[decided])
    if len(votes) >= AUDITORS_NEEDED:
        _reveal(uow, votes)
    return release


def check_may_vote(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """Refuse whoever may not vote on this release now, whatever the vote; changes nothing.

    Raises: NotFound, PermissionDenied, IllegalTransition; Conflict for a second vote.
    """
    permissions.check_may_review(actor, release, asked=release.id)
    _check_open(release)
    _check_uninvolved(uow, actor, release)
    _check_not_voted(actor, _votes(uow, release))


def vote_commitment(uow: UnitOfWork, vote: Review) -> str:
    """Return what the trail says of a vote before the other auditor's is in: it binds, and hides.

    The salt follows from the master key, so that whoever holds it can open the commitment.
    """
    salt = uow.keys.commitment_salt(f"{vote.release_id}/{vote.round}/{vote.auditor_id}")
    return inclusion.commit(
        {"auditor": vote.auditor_id, "decision": vote.decision.value, "reason": vote.reason},
        salt=salt,
    )


def _reveal(uow: UnitOfWork, votes: list[Review]) -> None:
    for vote in votes:
        uow.trail(
            SYSTEM,
            TrailEvent.RELEASE_REVEAL_VOTE,
            vote.release_id,
            round=vote.round,
            auditor=vote.auditor_id,
            decision=vote.decision.value,
            commitment=vote_commitment(uow, vote),
        )


def check_revision(release: Release, if_match: str | None) -> None:
    """Refuse a write by somebody who has not seen the current revision.

    `*` would match whatever is there, which nobody has read: it counts as no If-Match.
    Raises: PreconditionFailed.
    """
    if if_match is None or if_match.strip() == "*":
        raise PreconditionFailed(
            "The change was refused without an If-Match that names a revision. Read the release "
            "and send its ETag.",
            required=True,
        )
    if if_match.removeprefix("W/") != release.etag:
        raise PreconditionFailed(
            f"The change was refused: revision {release.revision} is current, {if_match[:40]} was "
            "named. Read the release again.",
            current=release.etag,
        )


def check_evidence(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """Void the round if what the evidence names has changed since it was frozen.

    The reset is committed; the caller's own action is then refused.  Raises: Conflict.
    """
    if _digests(release.evidence) == _digests(_current_evidence(uow, release)):
        return
    if release.state is not ReleaseState.SUBMITTED:
        release.move_to(ReleaseState.SUBMITTED)
    _freeze(uow, release, submitted_by=release.evidence["submitted_by"])
    uow.trail(actor, TrailEvent.RELEASE_RESET_VOTES, release.id, round=release.round)
    uow.commit()
    raise Conflict(
        "The action was refused: the evidence changed since it was submitted, so every vote is "
        "void and the review starts again. Read the release and its report again."
    )


def check_candidate(uow: UnitOfWork, release: Release, *, what: str) -> None:
    """Refuse a candidate that was rejected before, or whose data hold a person who withdraws.

    Holds the cohort's row, so that no withdrawal begins before the caller commits.
    Raises: Conflict.
    """
    train, _, audit = candidate_jobs(uow, release)
    check_not_rejected(uow, audit.id, what=what, release_id=release.id)
    version = uow.get(DatasetVersion, str(train.version_id))
    dataset = uow.get(Dataset, release.dataset_id)
    if version is None or dataset is None:
        raise Conflict(f"The data behind release {release.id} are missing; train again.")
    uow.get(Cohort, dataset.cohort_id, lock=True)
    check_usable(uow, version, what=what)


def candidate_jobs(uow: UnitOfWork, release: Release) -> tuple[Job, Job, Job]:
    """Return the TRAIN, SAMPLE and AUDIT jobs behind a release.  Raises: Conflict if one is lost."""
    audit = uow.get(Job, release.audit_job_id)
    sample = uow.get(Job, audit.parent_id) if audit and audit.parent_id else None
    train = uow.get(Job, sample.parent_id) if sample and sample.parent_id else None
    if audit is None or sample is None or train is None:
        raise Conflict(f"The jobs behind release {release.id} are incomplete; train again.")
    return train, sample, audit


def approvers(uow: UnitOfWork, release: Release) -> list[str]:
    """Return who approved the current round."""
    return [vote.auditor_id for vote in _votes(uow, release) if vote.decision is Decision.APPROVE]


def _freeze(uow: UnitOfWork, release: Release, *, submitted_by: str) -> None:
    release.round += 1
    release.evidence = {**_current_evidence(uow, release), "submitted_by": submitted_by}
    _, _, audit = candidate_jobs(uow, release)
    release.tier, release.verdict = str(audit.payload["tier"]), str(audit.result["verdict"])


def _current_evidence(uow: UnitOfWork, release: Release) -> dict[str, Any]:
    train, sample, audit = candidate_jobs(uow, release)
    version = uow.get(DatasetVersion, str(train.version_id))
    position = journal.position(uow.session)
    return {
        "dataset": version.manifest_digest if version else None,
        "generator": train.result["digest"],
        "samples": sample.result["digest"],
        "report": audit.result["digest"],
        "verdict": audit.result["verdict"],
        "tier": audit.payload["tier"],
        "policy": train.payload["policy_digest"],
        "commitment": train.payload["commitment"],
        "terms": hashlib.sha256(release.terms.encode()).hexdigest(),
        "ledger": {"seq": position.seq, "digest": position.digest},
    }


def _digests(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return what must not change; the ledger goes on growing while auditors read."""
    return {name: evidence[name] for name in evidence if name not in {"ledger", "submitted_by"}}


def _check_open(release: Release) -> None:
    if release.state not in {ReleaseState.SUBMITTED, ReleaseState.UNDER_REVIEW}:
        raise IllegalTransition(
            f"The review was refused: release {release.id} is {release.state.value}, "
            "not under review.",
            state=release.state.value,
        )


def _check_not_voted(actor: Actor, votes: list[Review]) -> None:
    if any(vote.auditor_id == actor.user_id for vote in votes):
        raise Conflict("The review was refused: you voted already in this round.")


def _check_uninvolved(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    if actor.user_id in _authors(uow, release):
        raise PermissionDenied(
            "Reviewing this release was refused: you brought the data, trained the candidate, or "
            "wrote or submitted the release. Two other auditors must review it."
        )


def _authors(uow: UnitOfWork, release: Release) -> set[str]:
    """Return everybody who made any part of what is reviewed, in whatever round."""
    train, _, _ = candidate_jobs(uow, release)
    version = uow.get(DatasetVersion, str(train.version_id))
    dataset = uow.get(Dataset, release.dataset_id)
    found = {release.author_id, release.evidence["submitted_by"], train.requested_by}
    found |= {made.created_by for made in (version, dataset) if made is not None}
    for row in journal.read_rows(uow.session, subject=release.id):
        body = row.document["body"]
        if body["event"] in AUTHORSHIP:
            found.add(body["actor"])
    return found


def _votes(uow: UnitOfWork, release: Release) -> list[Review]:
    statement = (
        sa.select(Review)
        .where(tables.reviews.c.release_id == release.id, tables.reviews.c.round == release.round)
        .order_by(tables.reviews.c.created_at)
        .limit(AUDITORS_NEEDED)
    )
    return list(uow.session.execute(statement).scalars())


def _decision(decision: Decision | str) -> Decision:
    try:
        return Decision(decision)
    except ValueError as error:
        raise InputRefused(
            f"The decision {str(decision)[:40]!r} was refused. Choose from: "
            f"{', '.join(member.value for member in Decision)}."
        ) from error
