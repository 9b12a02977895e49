"""Submit a release with frozen evidence, and have two auditors decide, blind to each other.

The evidence is a set of digests. If what they name has changed when somebody votes or publishes,
every vote of the round is void and reviewing starts again.
"""

from datetime import date

import sqlalchemy as sa

from privacy import inclusion
from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.errors import Conflict, IllegalTransition, InputRefused, PreconditionFailed
from service.domain.releases import (
    AUDITORS_NEEDED,
    Decision,
    Release,
    ReleaseState,
    Review,
    outcome,
)
from service.domain.review_permissions import check_open
from service.domain.reviews import TIERS, Conditions, join, narrowest
from service.domain.trail import TrailEvent
from service.operations import conflicts, evidence, review_notices
from service.operations.assignments import check_assigned
from service.operations.earlier_rounds import check_not_rejected
from service.operations.evidence import check_candidate
from service.store import tables
from service.store.unit_of_work import UnitOfWork

_REASON_LIMIT = 10_000
_CONDITION_LIMIT = 4000
AUTHORSHIP = conflicts.AUTHORSHIP
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
    release.move_to(ReleaseState.SUBMITTED, at=uow.now())
    evidence.freeze(uow, release, submitted_by=actor.user_id)
    uow.trail(
        actor,
        TrailEvent.RELEASE_SUBMIT,
        release.id,
        round=release.round,
        evidence=release.evidence,
    )
    review_notices.tell_judges(uow, release)
    return release


def begin_review(
    uow: UnitOfWork, actor: Actor, *, release_id: str, if_match: str | None
) -> Release:
    """Say that reading has begun; it says nothing of any vote. Voting begins a review by itself.

    Raises: NotFound, PermissionDenied, IllegalTransition unless SUBMITTED; PreconditionFailed.
    """
    release = permissions.check_may_review(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_open(release, what="Beginning the review")
    check_revision(release, if_match)
    check_evidence(uow, actor, release)
    conflicts.check_uninvolved(uow, actor, release)
    check_assigned(uow, actor, release)
    _begin(uow, actor, release)
    return release


def review_release(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    decision: Decision | str,
    reason: str = "",
    conditions: Conditions | None = None,
    if_match: str | None,
) -> Release:
    """Record an auditor's vote; the second one decides.

    Raises: PermissionDenied for whoever made a part of it or was not assigned, a forbidden approval
    or a missing reason; Conflict for a second vote or changed evidence; IllegalTransition;
    InputRefused; PreconditionFailed.
    """
    release = permissions.check_may_review(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_open(release, what="The review")
    check_revision(release, if_match)
    decision = _decision(decision)
    _check_reason(reason)
    conditions = conditions or Conditions()
    _check_conditions(conditions, decision=decision, today=uow.now().date())
    check_evidence(uow, actor, release)
    conflicts.check_uninvolved(uow, actor, release)
    check_assigned(uow, actor, release)
    permissions.check_decision(release, decision=decision, reason=reason)
    if decision is Decision.APPROVE:
        check_not_rejected(uow, release.audit_job_id, what="Approving", release_id=release.id)
    votes = _votes(uow, release)
    _check_not_voted(actor, votes)
    vote = Review(
        release.id,
        release.round,
        actor.user_id,
        decision,
        reason,
        uow.now(),
        conditions.document(),
    )
    uow.session.add(vote)
    _begin(uow, actor, release)
    uow.trail(
        actor,
        TrailEvent.RELEASE_REVIEW,
        release.id,
        round=release.round,
        commitment=vote_commitment(uow, vote),
        evidence=evidence.digests(release.evidence),
    )
    votes.append(vote)
    if len(votes) >= AUDITORS_NEEDED:
        _decide(uow, release, votes)
    return release


def check_may_vote(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """Refuse whoever may not vote on this release now, whatever the vote; changes nothing.

    Raises: NotFound, PermissionDenied, IllegalTransition; Conflict for a second vote.
    """
    permissions.check_may_review(actor, release, asked=release.id)
    check_open(release, what="The review")
    conflicts.check_uninvolved(uow, actor, release)
    check_assigned(uow, actor, release)
    _check_not_voted(actor, _votes(uow, release))


def vote_commitment(uow: UnitOfWork, vote: Review) -> str:
    """Return what the trail says of a vote before the other auditor's is in: it binds, and hides.

    The salt follows from the master key, so that whoever holds it can open the commitment.
    """
    salt = uow.keys.commitment_salt(f"{vote.release_id}/{vote.round}/{vote.auditor_id}")
    said = {"auditor": vote.auditor_id, "decision": vote.decision.value, "reason": vote.reason}
    conditions = {"conditions": vote.conditions} if vote.conditions else {}
    return inclusion.commit(said | conditions, salt=salt)


def _begin(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """Go on to UNDER_REVIEW; it was due from the day on which it was submitted."""
    if release.state is ReleaseState.SUBMITTED:
        release.move_to(ReleaseState.UNDER_REVIEW)
        uow.trail(actor, TrailEvent.RELEASE_BEGIN_REVIEW, release.id, round=release.round)


def _decide(uow: UnitOfWork, release: Release, votes: list[Review]) -> None:
    """Do what the votes come to; an approval holds under the conditions of both."""
    decided = outcome([cast.decision for cast in votes])
    if decided is None:
        return
    if decided is Decision.APPROVE:
        joined = join(Conditions.of(cast.conditions) for cast in votes)
        release.conditions = joined.document()
        if joined.max_tier is not None:
            release.tier = narrowest(release.tier, joined.max_tier)
    release.move_to(_AFTER_VOTES[decided], at=uow.now())
    _reveal(uow, votes)
    review_notices.tell_of_decision(uow, release, decided, [vote.auditor_id for vote in votes])


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
    if not evidence.has_changed(uow, release):
        return
    restart_round(uow, actor, release, why="The evidence changed")
    uow.commit()
    raise Conflict(
        "The action was refused: the evidence changed since it was submitted, so every vote is "
        "void and the review starts again. Read the release and its report again."
    )


def restart_round(uow: UnitOfWork, actor: Actor, release: Release, *, why: str) -> None:
    """Void the round's votes, whether there are any or not, and begin another."""
    if release.state is not ReleaseState.SUBMITTED:
        release.move_to(ReleaseState.SUBMITTED, at=uow.now())
    evidence.freeze(uow, release, submitted_by=release.evidence["submitted_by"])
    uow.trail(
        actor,
        TrailEvent.RELEASE_RESET_VOTES,
        release.id,
        round=release.round,
        evidence=release.evidence,
        why=why,
    )
    review_notices.tell_judges(uow, release, again=why)


def approvers(uow: UnitOfWork, release: Release) -> list[str]:
    """Return who approved the current round."""
    return [vote.auditor_id for vote in _votes(uow, release) if vote.decision is Decision.APPROVE]


def _check_not_voted(actor: Actor, votes: list[Review]) -> None:
    if any(vote.auditor_id == actor.user_id for vote in votes):
        raise Conflict("The review was refused: you voted already in this round.")


def _check_reason(reason: str) -> None:
    if len(reason) > _REASON_LIMIT:
        raise InputRefused(
            f"The reason was refused: {len(reason)} characters, the limit is {_REASON_LIMIT}.",
            value=len(reason),
            limit=_REASON_LIMIT,
        )


def _check_conditions(conditions: Conditions, *, decision: Decision, today: date) -> None:
    if conditions and decision is not Decision.APPROVE:
        raise InputRefused(
            f"Conditions were refused with the decision to {decision.value}: only an approval has "
            "conditions. Write them into the reason."
        )
    if len(conditions.text) > _CONDITION_LIMIT or "\x00" in conditions.text:
        raise InputRefused(
            f"The condition was refused: {len(conditions.text)} characters, the limit is "
            f"{_CONDITION_LIMIT}.",
            value=len(conditions.text),
            limit=_CONDITION_LIMIT,
        )
    if conditions.max_tier is not None and conditions.max_tier not in TIERS:
        raise InputRefused(
            f"The tier {conditions.max_tier[:40]!r} was refused. Choose from: {', '.join(TIERS)}.",
            value=conditions.max_tier[:40],
        )
    if conditions.expires_on is not None and conditions.expires_on <= today:
        raise InputRefused(
            f"The expiry {conditions.expires_on} was refused: it is not after today ({today}). "
            "Choose a later day.",
            value=str(conditions.expires_on),
            limit=str(today),
        )


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
