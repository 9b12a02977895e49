"""The fence in front of every write of a worker: its token, and a lease that has not run out.

A worker that was suspended past its lease finds its token replaced, or the lease over: it can
write nothing, whatever it still believes.
"""

from datetime import datetime

import sqlalchemy as sa

from service.domain.errors import LeaseLost
from service.domain.jobs import Job, JobState
from service.store import tables
from service.store.unit_of_work import UnitOfWork

_jobs = tables.jobs


def held_by(token: str, now: datetime) -> list[sa.ColumnElement[bool]]:
    """Return the conditions under which `token` may write."""
    return [_jobs.c.state == JobState.RUNNING, _jobs.c.owner == token, _jobs.c.lease_until > now]


def check_token(uow: UnitOfWork, job_id: str, *, token: str) -> Job:
    """Return the job, its row locked until the commit.  Raises: LeaseLost."""
    job = uow.get(Job, job_id, lock=True)
    held = (
        job is not None
        and job.state is JobState.RUNNING
        and job.owner == token
        and job.lease_until is not None
        and job.lease_until > uow.now()
    )
    if job is None or not held:
        raise lost(job_id)
    return job


def lost(job_id: str) -> LeaseLost:
    """Return the refusal for a worker that no longer owns its job."""
    return LeaseLost(
        f"The write was refused: this worker no longer holds job {job_id}. "
        "Its lease ran out or was given to another worker; stop."
    )
