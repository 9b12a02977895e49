"""End a job, under its fence: succeeded, failed, cancelled or handed back to the queue.

Whatever ends, the reservation is closed in the same transaction, so that unused steps return to
the budget; and what follows a success is queued in the same transaction, so that no crash can lose
the next step.
"""

from typing import Any

from service.domain.accounts import SYSTEM
from service.domain.datasets import DatasetVersion
from service.domain.jobs import Job, JobKind, JobState
from service.domain.trail import TrailEvent
from service.operations import budgets, fencing
from service.operations.checkpoints import delete_checkpoints
from service.operations.ingests import mark_refused
from service.operations.pipeline import queue_next
from service.operations.reaudits import apply_verdict
from service.operations.withdrawals import sweep_erasures, sweep_version
from service.operations.withholding import settle_bundle
from service.store.unit_of_work import UnitOfWork

ATTEMPTS_USED_UP = (
    "The job was given up after {attempts} attempts: its worker was lost each time. "
    "What was charged stays charged, the rest was refunded. An operator finds the reason in the "
    "log of the workers."
)


def succeed_job(uow: UnitOfWork, job_id: str, *, token: str, result: dict[str, Any]) -> Job:
    """Record the result, close the reservation and queue what follows.  Raises: LeaseLost."""
    job = fencing.check_token(uow, job_id, token=token)
    job.result = result
    end(uow, job, JobState.SUCCEEDED)
    uow.trail(SYSTEM, TrailEvent.JOB_SUCCEED, job.id, digest=result.get("digest"))
    queue_next(uow, job)
    if job.kind is JobKind.REAUDIT:
        apply_verdict(uow, job)
    _commit_and_sweep(uow, job)
    return job


def fail_job(uow: UnitOfWork, job_id: str, *, token: str, problem: dict[str, Any]) -> Job:
    """Record why it failed and close the reservation.  Raises: LeaseLost."""
    job = fencing.check_token(uow, job_id, token=token)
    fail(uow, job, problem)
    _commit_and_sweep(uow, job)
    return job


def cancel_finished(
    uow: UnitOfWork, job_id: str, *, token: str, result: dict[str, Any] | None = None
) -> Job:
    """Acknowledge that the work has stopped because its owner asked.  Raises: LeaseLost."""
    job = fencing.check_token(uow, job_id, token=token)
    job.result = result or {}
    cancel(uow, job)
    _commit_and_sweep(uow, job)
    return job


def requeue_job(
    uow: UnitOfWork, job_id: str, *, token: str, reason: str = "the worker handed it back"
) -> Job:
    """Hand a job back, so that another worker need not wait for the lease to run out.

    A job whose attempts are used up becomes FAILED, one that is to be cancelled CANCELLED.
    Raises: LeaseLost.
    """
    job = fencing.check_token(uow, job_id, token=token)
    take_back(uow, job, reason=reason)
    _commit_and_sweep(uow, job)
    return job


def take_back(uow: UnitOfWork, job: Job, *, reason: str) -> JobState:
    """Queue a running job again, or end it; return the state it is in then."""
    if job.cancel_requested:
        cancel(uow, job)
    elif job.attempt >= uow.settings.max_attempts:
        detail = ATTEMPTS_USED_UP.format(attempts=job.attempt)
        fail(uow, job, {"type": "attempts-used-up", "detail": detail})
    else:
        job.move_to(JobState.QUEUED)
        job.owner = job.lease_until = None
        job.stage = "waiting"
        uow.enqueue(job)
        uow.trail(SYSTEM, TrailEvent.JOB_REQUEUE, job.id, attempt=job.attempt, reason=reason)
    return job.state


def fail(uow: UnitOfWork, job: Job, problem: dict[str, Any]) -> None:
    """Move a job to FAILED, close its reservation and refuse the version it was making."""
    job.problem = problem
    end(uow, job, JobState.FAILED)
    uow.trail(SYSTEM, TrailEvent.JOB_FAIL, job.id, type=str(problem.get("type", "")))
    _refuse_version(uow, job)


def cancel(uow: UnitOfWork, job: Job) -> None:
    """Move a job to CANCELLED, close its reservation and refuse the version it was making."""
    end(uow, job, JobState.CANCELLED)
    uow.trail(SYSTEM, TrailEvent.JOB_CANCEL, job.id)
    _refuse_version(uow, job)


def end(uow: UnitOfWork, job: Job, state: JobState) -> None:
    """Move a job to a last state and close its reservation.  Raises: JournalBehind."""
    job.move_to(state)
    job.owner = job.lease_until = job.eta_seconds = None
    job.finished_at = uow.now()
    job.stage = state.value
    budgets.close(uow, job.id)


def _refuse_version(uow: UnitOfWork, job: Job) -> None:
    if job.kind in {JobKind.INGEST, JobKind.ERASE} and job.version_id is not None:
        version = uow.get(DatasetVersion, job.version_id, lock=True)
        if version is not None:
            mark_refused(uow, version, job.problem)


def _commit_and_sweep(uow: UnitOfWork, job: Job) -> None:
    """Commit, then delete raw bytes or checkpoints, or move a bundle; else the reaper does it."""
    uow.commit()
    if job.state is JobState.QUEUED or job.version_id is None:
        return
    if job.kind is JobKind.TRAIN:
        delete_checkpoints(uow, job.id)
    elif job.kind is JobKind.INGEST:
        sweep_version(uow, job.version_id)
    elif job.kind is JobKind.REAUDIT and job.release_id is not None:
        settle_bundle(uow, job.release_id)
    elif job.kind is JobKind.ERASE:
        sweep_erasures(uow, dataset_id=job.dataset_id)
