"""Hold a job: claim it, keep its lease, charge its steps, hand it back. Called by workers only.

A job is claimed by compare-and-set, so a second message finds nothing to claim. Every later write
passes the fence (`fencing`).
"""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from privacy.errors import InvalidParameter
from service.domain.accounts import SYSTEM
from service.domain.datasets import StoredReservation
from service.domain.errors import InputRefused, NotFound
from service.domain.jobs import Job, JobKind, JobState
from service.domain.trail import TrailEvent
from service.operations import budgets, fencing
from service.operations.budgets import load_reservation
from service.store import tables
from service.store.journal import check_not_behind
from service.store.unit_of_work import UnitOfWork

__all__ = ["charge_steps", "claim_job", "heartbeat", "load_job", "load_reservation"]

_jobs = tables.jobs


def load_job(uow: UnitOfWork, job_id: str | None) -> Job:
    """Return a job to a worker; no permission is asked.  Raises: NotFound."""
    job = uow.get(Job, job_id) if job_id else None
    if job is None:
        raise NotFound(f"No job {job_id!r} was found.")
    return job


def claim_job(uow: UnitOfWork, job_id: str, *, token: str, lease_seconds: float) -> Job | None:
    """Take a queued job: RUNNING, one attempt more, held by `token`. None if there is none.

    Raises: JournalBehind for a TRAIN job, which then stays queued until an operator has replayed.
    """
    now = uow.now()
    queued = uow.get(Job, job_id)
    if queued is not None and queued.kind is JobKind.TRAIN:
        check_not_behind(uow.session, uow.objects)
    claimed = uow.execute_update(
        sa.update(_jobs)
        .where(
            _jobs.c.id == job_id,
            _jobs.c.state == JobState.QUEUED,
            _jobs.c.cancel_requested.is_(False),
        )
        .values(
            state=JobState.RUNNING,
            owner=token,
            lease_until=now + timedelta(seconds=lease_seconds),
            attempt=_jobs.c.attempt + 1,
            stage="starting",
        )
    )
    if claimed != 1:
        uow.without_trail("nothing was claimed")
        return None
    job = uow.get(Job, job_id, lock=True)
    if job is not None:
        uow.trail(SYSTEM, TrailEvent.JOB_CLAIM, job.id, attempt=job.attempt)
    return job


def heartbeat(
    uow: UnitOfWork,
    job_id: str,
    *,
    token: str,
    lease_seconds: float,
    progress: dict[str, Any] | None = None,
) -> bool:
    """Renew the lease and show progress; return whether its owner asked to cancel.

    `progress` may hold stage, step, total and eta_seconds, which become columns; the rest is kept
    as it is and must be free of private values.  Raises: LeaseLost.
    """
    uow.without_trail("a heartbeat a second says nothing about who did what")
    now = uow.now()
    values: dict[str, Any] = {"lease_until": now + timedelta(seconds=lease_seconds)}
    if progress:
        shown = {"stage", "step", "total", "eta_seconds"}
        values |= {name: progress[name] for name in shown if name in progress}
        values["progress"] = {name: progress[name] for name in progress if name not in shown}
    statement = sa.update(_jobs).where(_jobs.c.id == job_id, *fencing.held_by(token, now))
    if uow.execute_update(statement.values(**values)) != 1:
        raise fencing.lost(job_id)
    asked = sa.select(_jobs.c.cancel_requested).where(_jobs.c.id == job_id)
    return bool(uow.session.execute(asked).scalar())


def charge_steps(
    uow: UnitOfWork, job_id: str, *, token: str, index: int, steps: int
) -> StoredReservation:
    """Charge `steps` of mechanism `index` before they run. Commits, and anchors the journal.

    When it returns, the charge is durable in the database and in object storage.
    Raises: LeaseLost; JournalBehind; privacy.errors.ReservationExceeded; Conflict.
    """
    fencing.check_token(uow, job_id, token=token)
    try:
        stored = budgets.charge(uow, job_id, index=index, steps=steps)
    except InvalidParameter as error:
        raise InputRefused(str(error), value=steps) from error
    uow.trail(SYSTEM, TrailEvent.STEPS_CHARGE, job_id, index=index, steps=steps)
    uow.commit()
    return stored
