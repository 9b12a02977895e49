"""What was decided before about the same samples: a rejection holds for them for ever.

A release is a name and terms around one set of samples. Proposing the same samples again under
another version asks other auditors the same question, so their rejection refuses it, and whatever
else was decided about them is shown to those who decide now.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from service.domain.accounts import Actor
from service.domain.errors import Conflict
from service.domain.jobs import Job, JobKind, JobState
from service.domain.releases import AUDITORS_NEEDED, Release, ReleaseState, Review
from service.operations.policies import policy_in_force
from service.store import tables
from service.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class EarlierRelease:
    """Another release of the same samples, and its votes as far as the actor may see them."""

    release: Release
    reviews: list[Review]


def check_not_rejected(
    uow: UnitOfWork, audit_job_id: str, *, what: str, release_id: str | None = None
) -> None:
    """Refuse samples that auditors have rejected, or that failed an audit after publication.

    Under whatever name or audit.  Raises: Conflict naming the release concerned.
    """
    for other in _releases_of_same_samples(uow, audit_job_id):
        failed = None if other.id == release_id else last_failure(uow, other)
        if failed is not None:
            raise Conflict(
                f"{what} was refused: these samples were published as {other.name} {other.version} "
                f"(release {other.id}) and did not pass when they were audited again (job "
                f"{failed.id}). A failed audit holds under every name. Train another candidate.",
                failed=other.id,
            )
        if other.id != release_id and other.state is ReleaseState.REJECTED:
            raise Conflict(
                f"{what} was refused: auditors rejected these samples as {other.name} "
                f"{other.version} (release {other.id}), and a rejection holds under every name. "
                "Train another candidate.",
                rejected=other.id,
            )


def last_failure(uow: UnitOfWork, release: Release) -> Job | None:
    """Return the re-audit that a release failed and that still holds, or None.

    A failure under the policy in force holds whatever came later, so that nobody asks until it
    passes. One under another policy holds until an audit under the policy in force has passed: to
    change the policy alone undoes nothing that was seen.
    """
    statement = (
        sa.select(Job)
        .where(
            tables.jobs.c.release_id == release.id,
            tables.jobs.c.kind == JobKind.REAUDIT,
            tables.jobs.c.state == JobState.SUCCEEDED,
        )
        .order_by(tables.jobs.c.id)
    )
    found = list(uow.session.execute(statement).scalars())
    failed = [job for job in found if job.result.get("verdict") == "FAIL"]
    if not failed:
        return None
    in_force = policy_in_force(uow, release.tenant_id).digest
    current = [job for job in found if job.payload["policy_digest"] == in_force]
    has_passed = any(
        str(job.result.get("verdict")).startswith("PASS") and job.id > failed[-1].id
        for job in current
    )
    holds = not has_passed or any(job in failed for job in current)
    return failed[-1] if holds else None


def earlier_releases(uow: UnitOfWork, actor: Actor, release: Release) -> list[EarlierRelease]:
    """Return the other releases of the same samples, oldest first, with the votes to be shown."""
    found = _releases_of_same_samples(uow, release.audit_job_id)
    return [
        EarlierRelease(other, shown_votes(all_votes(uow, other), actor))
        for other in found
        if other.id != release.id
    ]


def all_votes(uow: UnitOfWork, release: Release) -> list[Review]:
    """Return the votes of every round, oldest first; not all of them may be shown."""
    statement = (
        sa.select(Review)
        .where(tables.reviews.c.release_id == release.id)
        .order_by(tables.reviews.c.round, tables.reviews.c.created_at)
    )
    return list(uow.session.execute(statement).scalars())


def shown_votes(votes: Iterable[Review], actor: Actor) -> list[Review]:
    """Return the votes on one release that an insider may see: own ones, and decided rounds.

    A round that was voided stays blind for ever, since its auditors vote again, about the same
    candidate.
    """
    votes = list(votes)
    cast = Counter(vote.round for vote in votes)
    return [
        vote
        for vote in votes
        if cast[vote.round] >= AUDITORS_NEEDED or vote.auditor_id == actor.user_id
    ]


def _releases_of_same_samples(uow: UnitOfWork, audit_job_id: str) -> list[Release]:
    audit = uow.get(Job, audit_job_id)
    if audit is None:
        return []
    audits = sa.select(tables.jobs.c.id).where(
        tables.jobs.c.kind == audit.kind, tables.jobs.c.parent_id == audit.parent_id
    )
    statement = (
        sa.select(Release)
        .where(tables.releases.c.audit_job_id.in_(audits))
        .order_by(tables.releases.c.created_at, tables.releases.c.id)
    )
    return list(uow.session.execute(statement).scalars())
