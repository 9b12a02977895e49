"""Audit published releases again, in bulk, when an attack or the policy has changed.

A release that fails now is SUSPENDED in the transaction that ends its audit: nobody has to notice.
Its downloaders are listed, so that they can be told. Any other verdict changes nothing, and one that
is void says nothing. A later audit's upper bounds err with less probability, its alarms keep their
level, so that asking again neither makes a pass cheaper nor a leak harder to find.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.datasets import DatasetVersion
from service.domain.errors import Conflict
from service.domain.jobs import TERMINAL, Job, JobKind, JobState
from service.domain.releases import Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.evidence import candidate_jobs
from service.operations.pipeline import attempt_number
from service.operations.policies import policy_in_force
from service.operations.queueing import queue_job
from service.operations.withdrawals import check_usable
from service.operations.withholding import withhold
from service.store import tables
from service.store.unit_of_work import UnitOfWork

AGAIN = frozenset({ReleaseState.PUBLISHED, ReleaseState.SUSPENDED})
"""What is audited again: what can be downloaded, and what may come back."""


@dataclass(frozen=True)
class Skipped:
    """A release that is not audited again, and the sentence that says why."""

    release_id: str
    reason: str


@dataclass(frozen=True)
class Downloader:
    """Somebody who holds a release or a part of it, or could: they got a link to it, or an edit.

    `downloads` counts the links; the moments are of either.
    """

    user_id: str
    name: str
    tenant: str
    downloads: int
    first_at: datetime
    last_at: datetime


def request_reaudits(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_ids: Sequence[str] = (),
    depth: Literal["quick", "full"] = "quick",
) -> tuple[list[Job], list[Skipped]]:
    """Queue one REAUDIT job per release, under the policy in force; return the rest with reasons.

    Without `release_ids`: every published or suspended release of the actor's tenant, or of all
    tenants for an operator.  Raises: NotFound, PermissionDenied.
    """
    permissions.check_may_audit_again(actor)
    found = [_asked(uow, actor, name) for name in release_ids] or _all(uow, actor)
    queued: list[Job] = []
    skipped: list[Skipped] = []
    for release in found:
        why = _obstacle(uow, release)
        if why is None:
            queued.append(_queue(uow, actor, release, depth=depth))
        else:
            skipped.append(Skipped(release.id, why))
    if not queued:
        uow.without_trail("no release was audited again")
    return queued, skipped


def apply_verdict(uow: UnitOfWork, job: Job) -> None:
    """Suspend the release of a finished REAUDIT job if it failed; part of the job's last write."""
    release = uow.get(Release, job.release_id, lock=True) if job.release_id else None
    if release is None:
        return
    verdict = str(job.result.get("verdict", ""))
    uow.trail(
        SYSTEM,
        TrailEvent.RELEASE_AUDIT_AGAIN,
        release.id,
        job=job.id,
        verdict=verdict,
        policy=job.payload["policy_digest"],
    )
    if verdict == "FAIL" and release.state is ReleaseState.PUBLISHED:
        withhold(
            uow,
            SYSTEM,
            release,
            reason=_why(job),
            state=ReleaseState.SUSPENDED,
            event=TrailEvent.RELEASE_SUSPEND,
        )


def list_reaudits(uow: UnitOfWork, release: Release) -> list[Job]:
    """Return the REAUDIT jobs of a release, newest first."""
    statement = (
        sa.select(Job)
        .where(tables.jobs.c.release_id == release.id, tables.jobs.c.kind == JobKind.REAUDIT)
        .order_by(tables.jobs.c.created_at.desc(), tables.jobs.c.id.desc())
        .limit(50)
    )
    return list(uow.session.execute(statement).scalars())


def list_downloaders(uow: UnitOfWork, actor: Actor, *, release_id: str) -> list[Downloader]:
    """Return everybody who got a link to the bundle or an edit made from it, the last one first.

    Raises: NotFound, PermissionDenied unless the actor is of the release's tenant, or an operator.
    """
    release = permissions.check_may_see_downloaders(
        actor, uow.get(Release, release_id), asked=release_id
    )
    given, users = _given(release.id).subquery().c, tables.users
    statement = (
        sa.select(
            users.c.id,
            users.c.name,
            tables.tenants.c.name,
            sa.func.sum(given.links),
            sa.func.min(given.created_at),
            sa.func.max(given.created_at),
        )
        .join_from(users, tables.tenants)
        .where(users.c.id == given.user_id)
        .group_by(users.c.id, users.c.name, tables.tenants.c.name)
        .order_by(sa.func.max(given.created_at).desc(), users.c.id)
    )
    return [Downloader(*row) for row in uow.session.execute(statement)]


def _given(release_id: str) -> sa.CompoundSelect[tuple[str, datetime, int]]:
    """Return who got a link or an edit of a release, when, and whether it was a link."""
    downloads, jobs = tables.downloads.c, tables.jobs.c
    return sa.union_all(
        sa.select(downloads.user_id, downloads.created_at, sa.literal(1).label("links")).where(
            downloads.release_id == release_id
        ),
        sa.select(jobs.requested_by, jobs.created_at, sa.literal(0)).where(
            jobs.release_id == release_id,
            jobs.kind == JobKind.EDIT,
            jobs.state == JobState.SUCCEEDED,
        ),
    )


def _why(job: Job) -> str:
    """Return what the tombstone says: verdicts only, as on a certificate."""
    failed = sorted(
        name
        for name, verdict in job.result.get("summary", {}).get("verdicts", {}).items()
        if verdict == "FAIL"
    )
    named = f" ({', '.join(failed).replace('_', ' ')})" if failed else ""
    return (
        f"This release was audited again and failed{named}. Stop using it until its owner has "
        "looked into it."
    )


def _asked(uow: UnitOfWork, actor: Actor, release_id: str) -> Release:
    return permissions.check_may_audit_release_again(
        actor, uow.get(Release, release_id), asked=release_id
    )


def _all(uow: UnitOfWork, actor: Actor) -> list[Release]:
    statement = sa.select(Release).where(tables.releases.c.state.in_(list(AGAIN)))
    if not permissions.audits_everywhere(actor):
        statement = statement.where(tables.releases.c.tenant_id == actor.tenant_id)
    return list(uow.session.execute(statement.order_by(tables.releases.c.id)).scalars())


def _obstacle(uow: UnitOfWork, release: Release) -> str | None:
    """Return why a release cannot be audited again now, or None."""
    if release.state not in AGAIN:
        return f"it is {release.state.value}; only published and suspended releases are"
    running = [job for job in list_reaudits(uow, release) if job.state not in TERMINAL]
    if running:
        return f"job {running[0].id} is auditing it already"
    try:
        train, _, _ = candidate_jobs(uow, release)
        version = uow.get(DatasetVersion, str(train.version_id))
        if version is None or version.blobs_erased_at is not None:
            return "the records that it would be compared with are erased"
        check_usable(uow, version, what="Auditing again")
    except Conflict as error:
        return error.sentence
    return None


def _queue(uow: UnitOfWork, actor: Actor, release: Release, *, depth: str) -> Job:
    train, sample, audit = candidate_jobs(uow, release)
    job = queue_job(
        uow,
        actor,
        kind=JobKind.REAUDIT,
        tenant_id=release.tenant_id,
        dataset_id=release.dataset_id,
        version_id=train.version_id,
        release_id=release.id,
        parent_id=audit.id,
        payload={
            "train_job_id": train.id,
            "sample_job_id": sample.id,
            "tier": audit.payload["tier"],
            "attempt": attempt_number(uow, release.dataset_id),
            "depth": depth,
            "policy_digest": policy_in_force(uow, release.tenant_id).digest,
        },
    )
    uow.session.flush()  # the next release of the same cohort counts this attempt
    return job
