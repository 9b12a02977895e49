"""A fitted generator and a set of samples, fetched from object storage and verified."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import GeneratorManifest, SamplesManifest
from service.domain.jobs import Job
from service.store.objects import Bucket
from training import artefact
from training.generators import Fitted
from workers.context import JobContext
from workers.workspace import fetch_arrays, fetch_document


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """Synthetic records: images (samples, height, width), labels (samples,)."""

    manifest: SamplesManifest
    images: NDArray[np.integer]
    labels: NDArray[np.integer]


def fetch_generator_manifest(context: JobContext, training: Job) -> GeneratorManifest:
    """Fetch the manifest that a TRAIN job named in its result."""
    result = training.result
    return fetch_document(
        context, result["generator_manifest"], kind=GeneratorManifest, digest=result["digest"]
    )


def fetch_generator(context: JobContext, training: Job) -> tuple[GeneratorManifest, Fitted]:
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
    arrays: dict[str, NDArray[Any]] = fetch_arrays(
        context, prefix, blobs=manifest.blobs, folder=folder
    )
    return StoredSamples(manifest=manifest, images=arrays["images"], labels=arrays["labels"])
