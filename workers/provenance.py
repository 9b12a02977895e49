"""What a job was promised to be: its plan against the commitment, its reservation, its seed."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from privacy import inclusion
from privacy.errors import DigestMismatch
from privacy.mechanisms import Mechanism, mechanisms_from_json
from service.domain.jobs import Job
from service.domain.trail import TrailEvent
from service.operations import jobs
from service.store import journal
from workers.context import JobContext
from workers.dataset_files import StoredDataset


@dataclass(frozen=True)
class Reservation:
    """The ordered mechanisms that a job may run, and the steps of each that are charged."""

    mechanisms: tuple[Mechanism, ...]
    charged: tuple[int, ...]


def load_job(context: JobContext, job_id: str) -> Job:
    """Return another job of the same chain.  Raises: NotFound."""
    with context.application.uow(read_only=True) as uow:
        return jobs.load_job(uow, job_id)


def load_reservation(context: JobContext) -> Reservation:
    """Return what the job that runs has reserved, with the charges of all attempts."""
    with context.application.uow(read_only=True) as uow:
        stored = jobs.load_reservation(uow, context.job.id)
        return Reservation(mechanisms_from_json(stored.mechanisms), tuple(stored.charged))


def seed_of(job: Job) -> int:
    """Return a seed for what may be repeated (weights, drawing samples); never for privacy noise.

    It follows from the job's id, so that a second attempt makes the same files.
    """
    return int.from_bytes(hashlib.sha256(job.id.encode()).digest()[:4], "big")


def check_plan(context: JobContext, training: Job, dataset: StoredDataset) -> None:
    """Refuse a training or an audit that departs from what was committed to before it.

    The commitment is taken from the trail, which cannot be rewritten; the plan must open it; and
    the plan must be what is used here: the same records, keys, rates and policy.
    Raises: DigestMismatch naming what differs.
    """
    plan: dict[str, Any] = training.payload["plan"]
    salt = context.application.keys.commitment_salt(training.id)
    inclusion.check_commitment(plan, salt=salt, commitment=_committed(context, training))
    used = _what_is_used(context, training, dataset)
    for name, value in used.items():
        if plan.get(name) != value:
            raise DigestMismatch(
                f"Job {training.id} was refused: its {name} is not the one that was committed to "
                "before the run. Request a new training."
            )


def _committed(context: JobContext, training: Job) -> str:
    with context.application.uow(read_only=True) as uow:
        for row in journal.read_rows(uow.session, subject=training.id):
            body = row.document["body"]
            if body.get("event") == TrailEvent.JOB_COMMIT_PLAN.value:
                commitment: str = body["details"]["commitment"]
                if hmac.compare_digest(commitment, training.payload["commitment"]):
                    return commitment
    raise DigestMismatch(
        f"Job {training.id} was refused: the trail holds no such commitment to its plan. "
        "Request a new training."
    )


def _what_is_used(context: JobContext, training: Job, dataset: StoredDataset) -> dict[str, Any]:
    keys, payload = context.application.keys, training.payload
    return {
        "job": training.id,
        "dataset": dataset.manifest.digest(),
        "generator": payload["generator"],
        "config": payload["config"],
        "target": {"epsilon": payload["epsilon"], "delta": payload["delta"]},
        "rates": payload["rates"],
        "reference_key": _digest(keys.reference_key(dataset.cohort_id)),
        "run_key": _digest(keys.run_key(training.id)),
        "policy": context.application.policy.digest,
        "tier": payload["tier"],
        "samples": payload["samples"],
    }


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
