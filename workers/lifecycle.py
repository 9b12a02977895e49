"""The one place in the workers that sets a job's state: claim, watch, finish.

`run_job` claims the job row with a fresh fencing token, starts `workers.job` as a subprocess, and
renews the lease while it runs. How the child ends decides the job: a result, a problem, a signal.
Whoever lost the lease writes nothing: another worker owns the job by then.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from service.domain.errors import DomainError, JournalBehind, LeaseLost
from service.domain.jobs import Job, JobKind
from service.operations import jobs
from service.store.journal import check_not_behind
from service.wiring import Application
from workers.child import Child
from workers.history import History
from workers.job import INTERNAL, Exit
from workers.logs import describe_error, logger
from workers.workspace import scratch_directory, sweep_scratch

HEARTBEATS_PER_LEASE = 5
LONGEST_HEARTBEAT_SECONDS = 1.0

KILLED = (
    "The process of this job was killed by the system (signal {signal}), most likely because the "
    "machine ran out of memory. Choose a smaller batch or image size, or ask the operator for a "
    "larger worker."
)


@dataclass
class Lease:
    """This worker's hold on a job, renewed by heartbeats; measured by our own clock as well."""

    application: Application
    job: Job
    token: str
    seconds: float
    held_until: float

    def renew(self, progress: dict[str, Any] | None) -> bool:
        """Renew the lease and show progress; return whether the user asked to cancel.

        A database that cannot be reached is tried again until our own clock says that the lease
        is over: from then on another worker may own the job.
        Raises: LeaseLost.
        """
        started = time.monotonic()
        try:
            with self.application.uow() as uow:
                is_cancelled = jobs.heartbeat(
                    uow,
                    self.job.id,
                    token=self.token,
                    lease_seconds=self.seconds,
                    progress=progress,
                )
        except SQLAlchemyError as error:
            if time.monotonic() > self.held_until:
                raise LeaseLost("The database could not be reached within the lease.") from error
            logger.warning("A heartbeat failed", job_id=self.job.id, error=type(error).__name__)
            return False
        self.held_until = started + self.seconds
        return is_cancelled


def run_job(application: Application, job_id: str, *, stopping: threading.Event) -> None:
    """Claim a job and see it through; return silently when there is nothing to claim."""
    if stopping.is_set():
        return
    lease = _claim(application, job_id)
    if lease is None:
        logger.info("There was nothing to claim", job_id=job_id)
        return
    log = logger.bind(job_id=job_id, kind=lease.job.kind.value, attempt=lease.job.attempt)
    log.info("The job was claimed")
    started = time.monotonic()
    try:
        ending = _run_child(lease, stopping)
    except LeaseLost:
        log.warning("The lease was lost; the child was killed and nothing was written")
        return
    _write(lease, ending)
    log.info("The job ended", seconds=round(time.monotonic() - started, 1), how=ending.__name__)


def _claim(application: Application, job_id: str) -> Lease | None:
    token = secrets.token_hex(16)
    seconds = application.settings.lease_seconds
    started = time.monotonic()
    try:
        with application.uow() as uow:
            # A database that was restored from a backup must not spend a second time.
            check_not_behind(uow.session, application.objects)
            job = jobs.claim_job(uow, job_id, token=token, lease_seconds=seconds)
    except JournalBehind as error:
        # The job stays queued: it is sent again until an operator has replayed the journal.
        logger.error("No job is claimed: the journal is behind", sentence=error.sentence)
        return None
    if job is None:
        return None
    return Lease(application, job, token, seconds, started + seconds)


Ending = Callable[[Lease], None]
"""The one write that ends this worker's part in a job."""


def _run_child(lease: Lease, stopping: threading.Event) -> Ending:
    """Start the child, watch it to its end, and return what is to be written.

    Raises: LeaseLost, when the child has been killed because of it.
    """
    sweep_scratch(lease.application.settings)
    with scratch_directory(lease.application.settings, lease.job.id) as scratch:
        child = Child(
            lease.job.id,
            token=lease.token,
            scratch=scratch,
            environment=_child_environment(),
            history=History(lease.job.progress, attempt=lease.job.attempt),
        )
        try:
            return _watch(lease, child, stopping)
        finally:
            child.close()


def _watch(lease: Lease, child: Child, stopping: threading.Event) -> Ending:
    interval = min(LONGEST_HEARTBEAT_SECONDS, lease.seconds / HEARTBEATS_PER_LEASE)
    while True:
        code = child.wait(interval)
        is_cancelled = lease.renew(child.last("progress"))
        if code is not None:
            child.join_messages()
            return _ending(lease, child, code, is_cancelled=is_cancelled)
        if is_cancelled:
            child.stop()
            return cancelled
        if stopping.is_set():
            child.stop()
            return released


def _ending(lease: Lease, child: Child, code: int, *, is_cancelled: bool) -> Ending:
    """Turn the child's exit code and last words into the write that ends the job."""
    if code == Exit.LEASE_LOST:
        raise LeaseLost("The child found that it no longer owns the job.")
    result = child.last("result")
    if code == Exit.SUCCEEDED and result is not None:
        return succeeded(result)
    if is_cancelled:
        return cancelled
    if code in {Exit.HELD, Exit.ORPHANED} or _may_try_again(lease, code):
        return released
    return failed(child.last("problem") if code >= 0 else None, code)


def _may_try_again(lease: Lease, code: int) -> bool:
    if lease.job.attempt >= lease.application.settings.max_attempts:
        return False
    # A training that was killed goes on from its checkpoint; other work would be killed again.
    is_killed_training = code < 0 and lease.job.kind is JobKind.TRAIN
    return code == Exit.UNAVAILABLE or is_killed_training


def succeeded(result: dict[str, Any]) -> Ending:
    """Return the ending of a job whose work is done."""

    def write(lease: Lease) -> None:
        with lease.application.uow() as uow:
            jobs.succeed_job(uow, lease.job.id, token=lease.token, result=result)

    return _named(write, "succeeded")


def failed(problem: dict[str, Any] | None, code: int) -> Ending:
    """Return the ending of a job that was refused, broke, or was killed without a last word."""
    killed = {"type": "killed", "detail": KILLED.format(signal=-code)}
    shown = problem or (killed if code < 0 else {"type": "internal", "detail": INTERNAL})

    def write(lease: Lease) -> None:
        with lease.application.uow() as uow:
            jobs.fail_job(uow, lease.job.id, token=lease.token, problem=shown)

    return _named(write, "failed")


def cancelled(lease: Lease) -> None:
    """Write that the work has stopped because its owner asked for it."""
    with lease.application.uow() as uow:
        jobs.cancel_finished(uow, lease.job.id, token=lease.token)


def released(lease: Lease) -> None:
    """Hand the job back to the queue, so that another worker need not wait for the lease."""
    with lease.application.uow() as uow:
        jobs.requeue_job(uow, lease.job.id, token=lease.token)


def _named(write: Callable[[Lease], None], name: str) -> Ending:
    write.__name__ = name
    return write


def _write(lease: Lease, ending: Ending) -> None:
    """Write the ending; try again while the lease holds, since the work itself is done."""
    while True:
        try:
            ending(lease)
        except LeaseLost:
            logger.warning("The lease was lost before the end was written", job_id=lease.job.id)
        except DomainError as error:  # the journal is behind: the reaper ends the job after replay
            logger.error("The end was not written", job_id=lease.job.id, sentence=error.sentence)
        except (SQLAlchemyError, BotoCoreError, ClientError) as error:
            logger.error("The end was not written", job_id=lease.job.id, **describe_error(error))
            if time.monotonic() < lease.held_until:
                time.sleep(1)
                continue
        return


def _child_environment() -> dict[str, str]:
    """Return our environment; secrets stay in it because the child builds the same wiring."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "0"}
