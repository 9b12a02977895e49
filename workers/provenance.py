"""What a job was promised to be: its plan against the commitment, its reservation, its seed."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from privacy import inclusion
from privacy.errors import DigestMismatch
from privacy.manifests import GeneratorManifest, SamplesManifest
from privacy.mechanisms import Mechanism, mechanisms_from_json
from service.domain.jobs import Job
from service.domain.trail import TrailEvent
from service.operations import jobs
from service.store import journal
from workers.context import JobContext
from workers.modalities.contract import StoredDataset


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


def check_plan(
    context: JobContext, training: Job, dataset: StoredDataset, *, policy_may_differ: bool = False
) -> None:
    """Refuse a training or an audit that departs from what was committed to before it.

    The commitment is taken from the trail, which cannot be rewritten; the plan must open it; and
    the plan must be what is used here: the same records, keys, rates, mechanisms and policy, unless
    a release is audited again because the policy has changed.
    Raises: DigestMismatch naming what differs.
    """
    plan: dict[str, Any] = training.payload["plan"]
    salt = context.application.keys.commitment_salt(training.id)
    inclusion.check_commitment(plan, salt=salt, commitment=_committed(context, training))
    used = _what_is_used(context, training, dataset)
    if policy_may_differ:
        used["policy"] = plan.get("policy")
    for name in sorted(plan.keys() | used.keys()):
        if name not in plan or name not in used or plan[name] != used[name]:
            raise _departs(training, name)


def check_chain(
    training: Job,
    dataset: StoredDataset,
    *,
    generator: GeneratorManifest,
    samples: SamplesManifest,
) -> None:
    """Refuse a generator or samples that are not what the committed plan led to.

    Each document names the one before it by digest, and the mechanisms that ran are those of the
    plan, none with more steps than it has there.
    Raises: DigestMismatch naming what differs.
    """
    plan: dict[str, Any] = training.payload["plan"]
    planned = mechanisms_from_json(plan["mechanisms"])
    links = {
        "the job of the generator": generator.job_id == training.id,
        "the dataset of the generator": generator.dataset == dataset.manifest.digest(),
        "the name of the generator": generator.generator == plan["generator"],
        "the config of the generator": generator.config == plan["config"],
        "the target of the generator": generator.target.model_dump(mode="json") == plan["target"],
        "the list of mechanisms": _is_within(generator.mechanisms, planned),
        "the generator of the samples": samples.generator == generator.digest(),
        "the number of samples": samples.count == plan["samples"],
    }
    for name, is_right in links.items():
        if not is_right:
            raise _departs(training, name)


def _is_within(run: tuple[Mechanism, ...], planned: tuple[Mechanism, ...]) -> bool:
    return len(run) == len(planned) and all(
        done.steps <= promised.steps
        and done.model_copy(update={"steps": promised.steps}) == promised
        for done, promised in zip(run, planned, strict=True)
    )


def _departs(training: Job, name: str) -> DigestMismatch:
    return DigestMismatch(
        f"Job {training.id} was refused: its {name} is not the one that was committed to "
        "before the run. Request a new training."
    )


def _committed(context: JobContext, training: Job) -> str:
    """Return the one commitment that stands in the trail before the job was first claimed."""
    found: list[str] = []
    is_claimed = False
    with context.application.uow(read_only=True) as uow:
        for row in journal.read_rows(uow.session, subject=training.id):
            body = row.document["body"]
            is_claimed = is_claimed or body.get("event") == TrailEvent.JOB_CLAIM.value
            if body.get("event") == TrailEvent.JOB_COMMIT_PLAN.value:
                found.append("" if is_claimed else body["details"]["commitment"])
    if len(found) != 1 or not hmac.compare_digest(found[0], training.payload["commitment"]):
        raise DigestMismatch(
            f"Job {training.id} was refused: the trail does not hold exactly one such commitment "
            "to its plan, made before the job began. Request a new training."
        )
    return found[0]


def _what_is_used(context: JobContext, training: Job, dataset: StoredDataset) -> dict[str, Any]:
    keys, payload = context.application.keys, training.payload
    with context.application.uow(read_only=True) as uow:
        reserved = jobs.load_reservation(uow, training.id).mechanisms
    return {
        "mechanisms": reserved,
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
        **({"canaries": payload["canaries"]} if payload.get("canaries") else {}),
    }


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
