"""Make a job: its row is the outbox, its message is sent after the commit."""

from typing import Any

import sqlalchemy as sa

from service.domain.accounts import Actor
from service.domain.errors import QuotaExceeded
from service.domain.identifiers import new_id
from service.domain.jobs import TERMINAL, Job, JobKind
from service.domain.trail import TrailEvent
from service.store import tables
from service.store.unit_of_work import UnitOfWork


def queue_job(  # noqa: PLR0913 - the columns of a job
    uow: UnitOfWork,
    actor: Actor,
    *,
    kind: JobKind,
    tenant_id: str,
    dataset_id: str,
    payload: dict[str, Any],
    requested_by: str | None = None,
    version_id: str | None = None,
    release_id: str | None = None,
    parent_id: str | None = None,
    job_id: str | None = None,
) -> Job:
    """Add a job in this transaction and record who asked for it."""
    job = Job(
        id=job_id or new_id("job"),
        kind=kind,
        tenant_id=tenant_id,
        dataset_id=dataset_id,
        requested_by=requested_by or actor.user_id,
        payload=payload,
        created_at=uow.now(),
        version_id=version_id,
        release_id=release_id,
        parent_id=parent_id,
    )
    uow.enqueue(job)
    uow.trail(actor, TrailEvent.JOB_REQUEST, job.id, kind=kind.value, dataset=dataset_id)
    return job


def check_quota(uow: UnitOfWork, tenant_id: str) -> None:
    """Refuse another job while a tenant has its quota of queued and running ones.

    Edits are asked for by people of other tenants as well and have a limit of their own each.
    """
    statement = sa.select(sa.func.count()).where(
        tables.jobs.c.tenant_id == tenant_id,
        tables.jobs.c.state.not_in(list(TERMINAL)),
        tables.jobs.c.kind != JobKind.EDIT,
    )
    active, limit = uow.session.execute(statement).scalar_one(), uow.settings.quota_jobs
    if active >= limit:
        raise QuotaExceeded(
            f"The job was refused: {active} jobs of this tenant are queued or running, the limit "
            f"is {limit}. Wait until one ends, or cancel one.",
            value=active,
            limit=limit,
        )
