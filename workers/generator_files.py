"""A fitted generator and a set of samples, fetched from object storage and verified."""

from typing import Any

from privacy.manifests import GeneratorManifest, SamplesManifest
from service.domain.jobs import Job
from service.store.objects import Bucket
from training import artefact
from workers.context import JobContext
from workers.modalities import modality_of
from workers.modalities.contract import StoredSamples
from workers.provenance import load_job
from workers.workspace import fetch_arrays, fetch_document


def fetch_generator_manifest(context: JobContext, training: Job) -> GeneratorManifest:
    """Fetch the manifest that a TRAIN job named in its result."""
    result = training.result
    return fetch_document(
        context, result["generator_manifest"], kind=GeneratorManifest, digest=result["digest"]
    )


def fetch_generator(context: JobContext, training: Job) -> tuple[GeneratorManifest, Any]:
    """Fetch the generator that a TRAIN job made.  Raises: DigestMismatch."""
    manifest = fetch_generator_manifest(context, training)
    weights = context.scratch / "weights.safetensors"
    context.application.objects.get_to_file(
        Bucket.WORK, training.result["weights"], path=weights, sha256=manifest.weights
    )
    return manifest, artefact.load(manifest, weights)


def fetch_samples(context: JobContext, sampling: Job) -> StoredSamples:
    """Fetch the synthetic set that a SAMPLE job made.  Raises: DigestMismatch."""
    key: str = sampling.result["samples_manifest"]
    manifest = fetch_document(context, key, kind=SamplesManifest, digest=sampling.result["digest"])
    folder = context.scratch / "samples"
    folder.mkdir(exist_ok=True)
    prefix = key.rpartition("/")[0] + "/"
    arrays = fetch_arrays(context, prefix, blobs=manifest.blobs, folder=folder)
    training = load_job(context, sampling.payload["train_job_id"])
    schema = fetch_generator_manifest(context, training).declared
    return modality_of(schema).samples(manifest, schema=schema, arrays=arrays)
