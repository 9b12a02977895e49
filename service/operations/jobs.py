"""Read and cancel jobs. Requests, leases, endings and the reaper are offered here as well."""

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.errors import IllegalTransition, NotFound
from service.domain.jobs import AUDITS, TERMINAL, Job, JobKind, JobState
from service.domain.trail import TrailEvent
from service.operations import endings
from service.operations.endings import cancel_finished, fail_job, requeue_job, succeed_job
from service.operations.estimates import Estimate, find_estimate, request_estimate
from service.operations.fencing import check_token
from service.operations.leases import (
    charge_steps,
    claim_job,
    heartbeat,
    load_job,
    load_reservation,
)
from service.operations.plans import TrainingPlan, plan_training, target_for
from service.operations.reaping import Reaped, reap
from service.operations.training import request_training
from service.store import tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

__all__ = [
    "Estimate",
    "Reaped",
    "TrainingPlan",
    "cancel_finished",
    "cancel_job",
    "charge_steps",
    "check_token",
    "claim_job",
    "fail_job",
    "find_audit",
    "find_estimate",
    "get_job",
    "get_report",
    "heartbeat",
    "list_jobs",
    "load_job",
    "load_reservation",
    "plan_training",
    "reap",
    "request_estimate",
    "request_training",
    "requeue_job",
    "succeed_job",
    "target_for",
    "view_pair",
]


def get_job(uow: UnitOfWork, actor: Actor, *, job_id: str) -> Job:
    """Return one job of the actor's tenant."""
    return permissions.check_may_see_job(actor, uow.get(Job, job_id), asked=job_id)


def list_jobs(
    uow: UnitOfWork,
    actor: Actor,
    *,
    dataset_id: str | None = None,
    kind: JobKind | None = None,
    state: JobState | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Job]:
    """Return the jobs of the actor's tenant, newest first."""
    permissions.check_may_list_jobs(actor)
    statement = sa.select(Job).where(tables.jobs.c.tenant_id == actor.tenant_id)
    if dataset_id is not None:
        statement = statement.where(tables.jobs.c.dataset_id == dataset_id)
    if kind is not None:
        statement = statement.where(tables.jobs.c.kind == kind)
    if state is not None:
        statement = statement.where(tables.jobs.c.state == state)
    return fetch_page(
        uow.session, statement, id_column=tables.jobs.c.id, cursor=cursor, limit=limit
    )


def cancel_job(uow: UnitOfWork, actor: Actor, *, job_id: str) -> Job:
    """Cancel a queued job at once; ask the worker of a running one to stop.

    A running job reads `cancelling` until its worker has stopped. Asking twice changes nothing.
    Raises: IllegalTransition if it has ended.
    """
    job = permissions.check_may_cancel(actor, uow.get(Job, job_id, lock=True), asked=job_id)
    if job.state in TERMINAL:
        raise IllegalTransition(
            f"Cancelling was refused: job {job.id} has {job.state.value} already.",
            state=job.state.value,
        )
    if not job.cancel_requested:
        job.cancel_requested = True
        uow.trail(actor, TrailEvent.JOB_CANCEL_REQUEST, job.id)
    if job.state is JobState.QUEUED:
        endings.cancel(uow, job)
    return job


def get_report(uow: UnitOfWork, actor: Actor, *, audit_job_id: str) -> Job:
    """Return a finished AUDIT job, whose result names the report; the reading is in the trail.

    Reports are computed from private records, so who looked is recorded.
    """
    job = find_audit(uow, actor, audit_job_id=audit_job_id)
    uow.trail(actor, TrailEvent.REPORT_READ, job.id)
    return job


def find_audit(uow: UnitOfWork, actor: Actor, *, audit_job_id: str) -> Job:
    """Return a finished audit whose report the actor may read; records nothing.

    Raises: NotFound, PermissionDenied.
    """
    job = uow.get(Job, audit_job_id)
    if job is not None and job.kind not in AUDITS:
        job = None
    job = permissions.check_may_read_report(actor, job, asked=audit_job_id)
    if job.state is not JobState.SUCCEEDED:
        raise NotFound(
            f"No report of job {audit_job_id!r} was found: the audit is {job.status}. "
            "Wait until it has succeeded."
        )
    return job


def view_pair(uow: UnitOfWork, actor: Actor, *, audit_job_id: str, number: int) -> Job:
    """Return a finished audit one of whose suspicious pairs is looked at; the look is recorded.

    A pair shows two real records, so that the trail names each one that anybody saw.
    """
    job = find_audit(uow, actor, audit_job_id=audit_job_id)
    if not 1 <= number <= int(job.result.get("pair_count", 0)):
        raise NotFound(f"No pair {number} of audit {audit_job_id!r} was found.")
    uow.trail(actor, TrailEvent.REPORT_VIEW_PAIR, job.id, pair=number)
    return job
