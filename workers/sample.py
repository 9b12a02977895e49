"""SAMPLE: a generator becomes a synthetic set, as large as was asked for.

Free under differential privacy (post-processing): what differs between images and tables is in
`workers.modalities`. The seed is recorded, so that a repeated attempt draws the same set.
"""

import numpy as np

from privacy.manifests import SamplesManifest
from service.store.objects import Bucket
from workers.context import JobContext
from workers.generator_files import fetch_generator
from workers.ledger_run import Pace
from workers.modalities import modality_of
from workers.modalities.contract import Drawn
from workers.provenance import load_job, seed_of

STAGE = "sampling"


def run(context: JobContext) -> dict[str, object]:
    """Draw, store, and name the synthetic set in the result."""
    job = context.job
    training = load_job(context, job.payload["train_job_id"])
    context.report("fetching")
    generator, fitted = fetch_generator(context, training)
    count = int(job.payload["samples"])
    pace = Pace()

    def show(step: int, total: int) -> None:
        context.report(STAGE, step, total, eta_seconds=pace.eta_seconds(STAGE, step, total))

    show(0, count)
    schema, seed = generator.declared, seed_of(job)
    drawn = modality_of(schema).draw(fitted, count, schema=schema, seed=seed, progress=show)
    context.report("storing")
    return _store(context, generator.digest(), drawn)


def _store(context: JobContext, generator_digest: str, drawn: Drawn) -> dict[str, object]:
    objects = context.application.objects
    blobs = {}
    for name, array in drawn.blobs.items():
        path = context.scratch / name
        np.save(path, array, allow_pickle=False)
        blobs[name] = objects.put_file(Bucket.WORK, context.candidate_key(name), path=path)
    manifest = SamplesManifest(
        generator=generator_digest,
        count=drawn.count,
        seed=seed_of(context.job),
        label_distribution=drawn.label_distribution,
        blobs=blobs,
    )
    key = context.candidate_key("samples.json")
    objects.put_bytes(Bucket.WORK, key, body=manifest.canonical())
    for name, content in drawn.shown.items():
        kind = "image/png" if name.endswith(".png") else "application/json"
        objects.put_bytes(Bucket.WORK, context.candidate_key(name), body=content, content_type=kind)
    return {"samples_manifest": key, "digest": manifest.digest(), "count": drawn.count}
