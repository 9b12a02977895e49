"""Look after jobs whose worker or message is gone. The job row is the outbox and the truth."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from service.domain.errors import DomainError
from service.domain.jobs import Job, JobState
from service.operations.access import expire_grants
from service.operations.checkpoints import sweep_checkpoints
from service.operations.delivering import sweep_notifications
from service.operations.editing_models import sweep_models
from service.operations.endings import take_back
from service.operations.journal_heads import store_head_if_due
from service.operations.plan_approving import expire_plans
from service.operations.releases import settle_bundles
from service.operations.reminding import remind
from service.operations.uploads import expire_uploads
from service.operations.withdrawals import sweep_erasures
from service.operations.withholding import expire_releases
from service.store import tables
from service.store.unit_of_work import UnitOfWork

_jobs = tables.jobs
_log = structlog.get_logger(__name__)


@dataclass
class Reaped:
    """How many jobs were looked after, and what else was finished."""

    requeued: int = 0
    failed: int = 0
    cancelled: int = 0
    resent: int = 0
    expired_uploads: int = 0
    swept_versions: int = 0
    settled_bundles: int = 0
    swept_checkpoints: int = 0
    expired_releases: int = 0
    expired_plans: int = 0
    reminded: int = 0
    swept_notifications: int = 0
    ended_grants: int = 0
    stored_heads: int = 0
    swept_models: int = 0

    def __bool__(self) -> bool:
        """Tell whether anything was done."""
        return any(vars(self).values())


def reap(uow: UnitOfWork) -> Reaped:
    """Take back expired leases, send lost messages again, finish interrupted deletions and moves.

    Each job is its own transaction, so one that cannot be ended does not hold up the others.
    """
    done = Reaped()
    for job_id in _expired(uow):
        _take_back(uow, job_id, done)
    for job_id in _unsent(uow):
        done.resent += _send_again(uow, job_id)
    done.expired_uploads = expire_uploads(uow)
    done.swept_versions = sweep_erasures(uow)
    done.settled_bundles = settle_bundles(uow)
    done.swept_checkpoints = sweep_checkpoints(uow)
    done.expired_releases = expire_releases(uow)
    done.expired_plans = expire_plans(uow)
    done.reminded = remind(uow)
    done.swept_notifications = sweep_notifications(uow)
    done.ended_grants = expire_grants(uow)
    done.stored_heads = store_head_if_due(uow)
    done.swept_models = sweep_models(uow)
    return done


def _expired(uow: UnitOfWork) -> list[str]:
    statement = sa.select(_jobs.c.id).where(
        _jobs.c.state == JobState.RUNNING, _jobs.c.lease_until <= uow.now()
    )
    return _ids(uow, statement)


def _unsent(uow: UnitOfWork) -> list[str]:
    statement = sa.select(_jobs.c.id).where(
        _jobs.c.state == JobState.QUEUED,
        sa.or_(_jobs.c.enqueued_at.is_(None), _jobs.c.enqueued_at <= _stale(uow)),
    )
    return _ids(uow, statement)


def _ids(uow: UnitOfWork, statement: sa.Select[Any]) -> list[str]:
    found = list(uow.session.execute(statement.order_by(_jobs.c.id)).scalars())
    uow.commit()  # ends the reading transaction
    return found


def _take_back(uow: UnitOfWork, job_id: str, done: Reaped) -> None:
    try:
        job = uow.get(Job, job_id, lock=True)
        # The worker may have renewed its lease, or ended the job, since the list was read.
        if job is None or job.state is not JobState.RUNNING:
            return
        if job.lease_until is not None and job.lease_until > uow.now():
            return
        state = take_back(uow, job, reason="the lease ran out")
        uow.commit()
    except DomainError as error:
        uow.rollback()
        _log.warning("an expired job could not be taken back", job=job_id, refusal=error.slug)
        return
    done.requeued += state is JobState.QUEUED
    done.failed += state is JobState.FAILED
    done.cancelled += state is JobState.CANCELLED


def _send_again(uow: UnitOfWork, job_id: str) -> int:
    job = uow.get(Job, job_id, lock=True)
    if job is None or job.state is not JobState.QUEUED:
        return 0
    if job.enqueued_at is not None and job.enqueued_at > _stale(uow):
        return 0
    uow.without_trail("a message sent again changes nothing")
    uow.enqueue(job)
    uow.commit()
    return 1


def _stale(uow: UnitOfWork) -> datetime:
    return uow.now() - timedelta(seconds=uow.settings.resend_seconds)
