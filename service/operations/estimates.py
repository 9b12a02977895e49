"""How long would a training take? A dry run on random records, remembered where it was asked before.

The dry run is a job of its own: it runs on the machines that train, reserves nothing, and is told
what was declared (shape, labels or columns, expected count), never where the records are.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version as installed_version
from typing import Any, Literal

import sqlalchemy as sa

from privacy.image_parts import cells_of
from privacy.mechanisms import mechanisms_to_json
from privacy.table_schema import TableSchema
from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import DatasetVersion, DeclaredSchema
from service.domain.errors import QuotaExceeded
from service.domain.jobs import TERMINAL, Job, JobKind, JobState
from service.operations.plans import Planned
from service.operations.queueing import check_quota, queue_job
from service.store import tables
from service.store.unit_of_work import UnitOfWork

KEPT_DAYS = 7
"""Machines change: a measurement older than this is made again."""
FAILURE_KEPT_MINUTES = 10
"""A dry run that failed is tried again after this."""


@dataclass(frozen=True)
class Estimate:
    """What is known of the time and memory of a plan; `result` is the dry run's document."""

    state: Literal["pending", "ready", "failed", "unavailable"]
    job_id: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


def find_estimate(uow: UnitOfWork, actor: Actor, planned: Planned) -> Estimate | None:
    """Return the estimate of an equal plan of this tenant, or None if there is none to use."""
    key = _key(uow, planned)
    statement = (
        sa.select(Job)
        .where(
            tables.jobs.c.tenant_id == actor.tenant_id,
            tables.jobs.c.kind == JobKind.ESTIMATE,
            tables.jobs.c.state != JobState.CANCELLED,
            tables.jobs.c.created_at > uow.now() - timedelta(days=KEPT_DAYS),
            tables.jobs.c.payload["key"].as_string() == key,
        )
        .order_by(tables.jobs.c.created_at.desc())
        .limit(1)
    )
    job = uow.session.execute(statement).scalar()
    return None if job is None or _is_stale(uow, job) else _of(job)


def request_estimate(
    uow: UnitOfWork, actor: Actor, *, version_id: str, planned: Planned
) -> Estimate:
    """Return the estimate of an equal plan, or queue the dry run that makes one.

    A tenant whose quota of jobs is used up gets none for now.  Raises: NotFound, PermissionDenied.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    found = find_estimate(uow, actor, planned)
    if found is not None:
        return found
    try:
        check_quota(uow, actor.tenant_id)
    except QuotaExceeded as error:
        return Estimate("unavailable", reason=error.sentence)
    job = queue_job(
        uow,
        actor,
        kind=JobKind.ESTIMATE,
        tenant_id=version.tenant_id,
        dataset_id=version.dataset_id,
        # No version: the job is about what was declared, and no erasure need wait for it.
        payload={
            "key": _key(uow, planned),
            "generator": planned.asked.generator,
            "config": planned.config,
            "samples": planned.asked.samples,
            "units": planned.units,
            "declared": planned.dataset.schema.model_dump(mode="json"),
            "mechanisms": mechanisms_to_json(planned.mechanisms),
        },
    )
    return _of(job)


def _key(uow: UnitOfWork, planned: Planned) -> str:
    """Return a digest of everything that time and memory depend on."""
    told = {
        "generator": planned.asked.generator,
        "config": planned.config,
        "samples": planned.asked.samples,
        "units": planned.units,
        "shape": _shape(planned.dataset.schema),
        "queue": uow.settings.train_queue,
        "version": installed_version("kaima"),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _shape(schema: DeclaredSchema) -> list[int]:
    """Return what of a declaration time depends on: pixels and labels, or codes of each column; for both, all."""
    if isinstance(schema, TableSchema):
        images = schema.images
        if images is None:
            return list(schema.sizes)
        return [*schema.sizes, images.height, images.width, images.bit_depth, cells_of(schema)]
    return [schema.height, schema.width, schema.bit_depth, len(schema.labels)]


def _is_stale(uow: UnitOfWork, job: Job) -> bool:
    if job.state is not JobState.FAILED or job.finished_at is None:
        return False
    return job.finished_at < uow.now() - timedelta(minutes=FAILURE_KEPT_MINUTES)


def _of(job: Job) -> Estimate:
    if job.state not in TERMINAL:
        return Estimate("pending", job.id)
    if job.state is JobState.SUCCEEDED:
        return Estimate("ready", job.id, job.result)
    problem = job.problem or {}
    reason = str(problem.get("detail") or "The dry run did not finish.")
    return Estimate("failed", job.id, reason=reason)
