"""TRAIN: a dataset version and a config become a generator, within the job's reservation.

Only the training arm is handed to the generator. Everything that a generator does to private
records is a mechanism of the reservation and is charged by `workers.ledger_run` before it runs. A
second attempt goes on from the last checkpoint and takes only the steps that are still reserved.
"""

from collections.abc import Callable

import numpy as np

from privacy.manifests import GeneratorManifest
from privacy.mechanisms import Mechanism, PrivacyTarget
from service.domain.errors import Conflict
from service.domain.jobs import Job
from service.store.objects import Bucket
from training import artefact, generators
from training.checkpoints import ReleaseLost
from training.generators import Fitted, FittedJoint, FittedTable, WithWarnings
from training.joint_records import Records
from workers.context import JobContext
from workers.dataset_files import fetch_dataset
from workers.ledger_run import LedgerRun
from workers.modalities.contract import StoredDataset
from workers.provenance import check_plan, load_reservation, seed_of
from workers.split import draw_split
from workers.twin import run_twin


def run(context: JobContext) -> dict[str, object]:
    """Fit the generator, store its weights and manifest, and name them in the result."""
    job = context.job
    context.report("fetching")
    dataset = fetch_dataset(context, job.version_id)
    check_plan(context, job, dataset)
    records = training_arm(context, job, dataset)
    reservation = load_reservation(context)
    ledger_run = LedgerRun(context, reservation.mechanisms, reservation.charged)
    module = generators.load(job.payload["generator"])
    config = module.Config.model_validate(job.payload["config"])
    context.report("fitting")
    if job.payload.get("canaries"):
        return run_twin(context, records, module=module, ledger_run=ledger_run, dataset=dataset)
    try:
        fit: Callable[..., Fitted | FittedTable | FittedJoint] = module.fit
        fitted = fit(records, config, schema=dataset.schema, run=ledger_run, seed=seed_of(job))
    except ReleaseLost as error:
        raise Conflict(str(error)) from error
    context.report("storing")
    # Its checkpoints stay until the job has ended (`operations.checkpoints`): a crash from here on
    # must not leave an attempt that has spent everything and kept nothing.
    return _store(context, dataset, fitted, ledger_run.charged_mechanisms())


def training_arm(context: JobContext, training: Job, dataset: StoredDataset) -> Records:
    """Copy the records of persons who are trained on, and nobody else's, to a file of their own."""
    split = draw_split(
        context.application,
        training,
        cohort_id=dataset.cohort_id,
        person_digests=dataset.person_digests,
    )
    chosen = np.flatnonzero(split.trained_on[dataset.persons])
    _, persons = np.unique(dataset.persons[chosen], return_inverse=True)
    return dataset.training_records(
        chosen, persons=persons.astype(np.int32), to=context.scratch / "train.npy"
    )


def _store(
    context: JobContext,
    dataset: StoredDataset,
    fitted: Fitted | FittedTable | FittedJoint,
    mechanisms: tuple[Mechanism, ...],
) -> dict[str, object]:
    payload = context.job.payload
    weights = context.scratch / "weights.safetensors"
    manifest = GeneratorManifest(
        job_id=context.job.id,
        dataset=dataset.manifest.digest(),
        declared=dataset.schema,
        generator=payload["generator"],
        config=payload["config"],
        target=PrivacyTarget(epsilon=payload["epsilon"], delta=payload["delta"]),
        mechanisms=mechanisms,
        weights=artefact.save(fitted, weights),
        versions=artefact.versions(),
        device=artefact.device(),
    )
    objects = context.application.objects
    weights_key = context.candidate_key("weights.safetensors")
    manifest_key = context.candidate_key("generator.json")
    objects.put_file(Bucket.WORK, weights_key, path=weights)
    objects.put_bytes(Bucket.WORK, manifest_key, body=manifest.canonical())
    return {
        "generator_manifest": manifest_key,
        "weights": weights_key,
        "digest": manifest.digest(),
        "steps": [mechanism.steps for mechanism in mechanisms],
        "warnings": list(fitted.warnings()) if isinstance(fitted, WithWarnings) else [],
    }
