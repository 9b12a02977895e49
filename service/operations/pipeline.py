"""What follows a job: TRAIN -> SAMPLE -> AUDIT. In the database, never inside messages."""

from service.domain.accounts import SYSTEM
from service.domain.datasets import Cohort, Dataset
from service.domain.jobs import Job, JobKind
from service.operations.budgets import count_audits
from service.operations.queueing import queue_job
from service.store.unit_of_work import UnitOfWork


def queue_next(uow: UnitOfWork, job: Job) -> Job | None:
    """Queue the job that follows `job`, in the transaction that ends it."""
    if job.kind is JobKind.TRAIN and not job.payload.get(
        "canaries"
    ):  # nothing is drawn from a twin
        return _queue(
            uow,
            job,
            JobKind.SAMPLE,
            {
                "train_job_id": job.id,
                "samples": job.payload["samples"],
                "tier": job.payload["tier"],
            },
        )
    if job.kind is JobKind.SAMPLE:
        return _queue(
            uow,
            job,
            JobKind.AUDIT,
            {
                "train_job_id": job.payload["train_job_id"],
                "sample_job_id": job.id,
                "tier": job.payload["tier"],
                "attempt": attempt_number(uow, job.dataset_id),
            },
        )
    return None


def _queue(uow: UnitOfWork, job: Job, kind: JobKind, payload: dict[str, object]) -> Job:
    return queue_job(
        uow,
        SYSTEM,
        kind=kind,
        tenant_id=job.tenant_id,
        dataset_id=job.dataset_id,
        requested_by=job.requested_by,
        version_id=job.version_id,
        parent_id=job.id,
        payload=payload,
    )


def attempt_number(uow: UnitOfWork, dataset_id: str) -> int:
    """Count audits over the whole cohort: every look at the data is an attempt at passing."""
    dataset = uow.get(Dataset, dataset_id)
    if dataset is not None:
        uow.get(Cohort, dataset.cohort_id, lock=True)  # or two would get the same number
    return 1 + (count_audits(uow, dataset.cohort_id) if dataset else 0)
