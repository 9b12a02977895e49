"""SAMPLE: a generator becomes a synthetic set, with labels spread evenly over the declared set.

Free under differential privacy (post-processing): the labels come from the declaration, never from
how common a label is in the records. The seed is recorded, so that a repeated attempt draws the
same set.
"""

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import SamplesManifest
from service.store.objects import Bucket
from workers.context import JobContext
from workers.generator_files import fetch_generator
from workers.ledger_run import Pace, grid_png
from workers.provenance import load_job, seed_of

STAGE = "sampling"


def run(context: JobContext) -> dict[str, object]:
    """Draw, store, and name the synthetic set in the result."""
    job = context.job
    training = load_job(context, job.payload["train_job_id"])
    context.report("fetching")
    generator, fitted = fetch_generator(context, training)
    count = int(job.payload["samples"])
    labels = uniform_labels(count, len(generator.declared.labels))
    pace = Pace()

    def show(step: int, total: int) -> None:
        context.report(STAGE, step, total, eta_seconds=pace.eta_seconds(STAGE, step, total))

    show(0, count)
    images = fitted.sample(labels, seed=seed_of(job), progress=show)
    context.report("storing")
    return _store(context, generator.digest(), images, labels)


def uniform_labels(count: int, kinds: int) -> NDArray[np.int16]:
    """Return label indices 0, 1, ..., 0, 1, ...: no label more than once oftener than another."""
    return (np.arange(count) % kinds).astype(np.int16)


def _store(
    context: JobContext,
    generator_digest: str,
    images: NDArray[np.integer],
    labels: NDArray[np.int16],
) -> dict[str, object]:
    objects = context.application.objects
    blobs = {}
    for name, array in (("images.npy", images), ("labels.npy", labels)):
        path = context.scratch / name
        np.save(path, array, allow_pickle=False)
        blobs[name] = objects.put_file(Bucket.WORK, context.candidate_key(name), path=path)
    manifest = SamplesManifest(
        generator=generator_digest, count=len(images), seed=seed_of(context.job), blobs=blobs
    )
    key = context.candidate_key("samples.json")
    objects.put_bytes(Bucket.WORK, key, body=manifest.canonical())
    objects.put_bytes(
        Bucket.WORK,
        context.candidate_key("grid.png"),
        body=grid_png(images, labels),
        content_type="image/png",
    )
    return {"samples_manifest": key, "digest": manifest.digest(), "count": len(images)}
