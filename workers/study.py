"""STUDY: draw the cases of a reader study, bring them to one form, and lock their list.

Real cases are one record each of persons whom the generator never saw: the reference set and the audit
pool's held-out arm, by the committed split. Synthetic ones are drawn at random from the candidate's set,
never picked. Both take the same way: same size, scaled by the declared bit depth to 8 bits, one encoder.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray
from PIL import Image

from privacy.errors import DigestMismatch, InvalidParameter
from privacy.evidence import Arm
from service.domain.studies import REAL, SYNTHETIC, StudyCase, StudyPlan
from service.operations import studies
from service.store.objects import Bucket
from workers.context import JobContext
from workers.dataset_files import fetch_dataset
from workers.generator_files import fetch_samples
from workers.modalities.contract import StoredDataset
from workers.modalities.images import ImageSamples, StoredImages
from workers.provenance import load_job
from workers.split import draw_split

HELD_OUT = (Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.REFERENCE_B)


@dataclass(frozen=True)
class Drawn:
    """One case before it is numbered: where its image is, and its label's index."""

    truth: str
    index: int
    label: int
    pair: int


def run(context: JobContext) -> dict[str, object]:
    """Draw, encode, store and lock; the result names the list's digest."""
    job = context.job
    plan = StudyPlan.model_validate(job.payload["plan"])
    if plan.digest() != job.payload["plan_digest"]:
        raise DigestMismatch("The plan of this study is not the one that was locked.")
    training = load_job(context, job.payload["train_job_id"])
    sampling = load_job(context, job.payload["sample_job_id"])
    context.report("fetching")
    dataset = fetch_dataset(context, training.version_id)
    samples = fetch_samples(context, sampling)
    if not isinstance(dataset, StoredImages) or not isinstance(samples, ImageSamples):
        raise InvalidParameter(
            "The study was refused: readers look at images, and this is a table."
        )
    if sampling.result["digest"] != plan.samples:
        raise DigestMismatch("The synthetic set is not the one that the study's plan names.")
    split = draw_split(
        context.application,
        training,
        cohort_id=dataset.cohort_id,
        person_digests=dataset.person_digests,
    )
    rng = np.random.default_rng()  # the system's entropy: nobody may choose or foresee the cases
    records = held_out_records(dataset, split.arms, rng=rng)
    drawn = draw_cases(
        plan,
        real_labels=np.asarray(dataset.labels)[records],
        synthetic_labels=np.asarray(samples.labels),
        rng=rng,
    )
    images = {REAL: dataset.images, SYNTHETIC: samples.images}
    rows = {REAL: records, SYNTHETIC: np.arange(len(samples.images))}
    depth = dataset.schema.bit_depth
    cases = []
    for number, case in enumerate(drawn, start=1):
        context.report("drawing cases", number, len(drawn))
        picture = encode(images[case.truth][rows[case.truth][case.index]], bit_depth=depth)
        cases.append(_store(context, case, number, picture))
    return _lock(context, cases)


def held_out_records(
    dataset: StoredDataset, arms: NDArray[np.integer], *, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Return one record of each held-out person, at random, shape (persons,).

    One record a person, or a person with many would weigh more. Persons whose records somebody else
    has as well are left out: the twin may have been trained on.
    """
    free = np.isin(arms, HELD_OUT) & ~np.asarray(dataset.duplicated_persons)
    shuffled = rng.permutation(len(dataset.persons))
    persons = np.asarray(dataset.persons)[shuffled]
    shuffled = shuffled[free[persons]]
    _, first = np.unique(np.asarray(dataset.persons)[shuffled], return_index=True)
    chosen: NDArray[np.integer] = shuffled[np.sort(first)]
    return chosen


def draw_cases(
    plan: StudyPlan,
    *,
    real_labels: NDArray[np.integer],
    synthetic_labels: NDArray[np.integer],
    rng: np.random.Generator,
) -> list[Drawn]:
    """Return the cases in the order of their numbers, which tells nothing of what they are.

    With `matched_labels` each real case gets a synthetic one of its label: synthetic sets have every
    label equally often, and a reader could otherwise go by how rare a grade is.
    Raises: InvalidParameter if there are too few.
    """
    count = plan.cases_per_class
    _check_enough(len(real_labels), count, "held-out persons")
    _check_enough(len(synthetic_labels), count, "synthetic images")
    real = rng.permutation(len(real_labels))[:count]
    pool = rng.permutation(len(synthetic_labels))
    drawn = []
    for pair, index in enumerate(real, start=1):
        label = int(real_labels[index])
        same = np.flatnonzero(synthetic_labels[pool] == label)
        place = int(same[0]) if plan.matched_labels and len(same) else 0
        other = int(pool[place])
        pool = np.delete(pool, place)
        drawn.append(Drawn(REAL, int(index), label, pair))
        drawn.append(Drawn(SYNTHETIC, other, int(synthetic_labels[other]), pair))
    return [drawn[place] for place in rng.permutation(len(drawn))]


def encode(image: NDArray[np.integer], *, bit_depth: int) -> bytes:
    """Return an 8-bit grey PNG without metadata; shape (height, width).

    16 bits are scaled by the declared depth, never by what the image holds, so that both kinds of
    case are treated alike.
    """
    scaled = np.asarray(image) >> (bit_depth - 8) if bit_depth > 8 else np.asarray(image)
    buffer = io.BytesIO()
    Image.fromarray(scaled.astype(np.uint8)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _store(context: JobContext, case: Drawn, number: int, picture: bytes) -> StudyCase:
    key = context.candidate_key(f"case-{number:04d}.png")
    digest = context.application.objects.put_bytes(
        Bucket.WORK, key, body=picture, content_type="image/png"
    )
    study_id = str(context.job.payload["study_id"])
    return StudyCase(study_id, number, case.truth, case.label, case.pair, digest, key)


def _lock(context: JobContext, cases: Sequence[StudyCase]) -> dict[str, object]:
    digest = list_digest(cases)
    locked = None
    try:
        with context.application.uow() as uow:
            locked = studies.lock_cases(
                uow, context.job.id, token=context.token, cases=cases, digest=digest
            ).cases_digest
    finally:
        if locked != digest:  # nobody will ever show these
            for case in cases:
                context.application.objects.delete(Bucket.WORK, case.key)
    return {"digest": locked, "count": len(cases)}


def list_digest(cases: Sequence[StudyCase]) -> str:
    """Return the SHA-256 over number, kind, label, pair and picture of every case."""
    rows: list[Any] = [[c.number, c.truth, c.label, c.pair, c.digest] for c in cases]
    return hashlib.sha256(rfc8785.dumps(rows)).hexdigest()


def _check_enough(found: int, needed: int, what: str) -> None:
    if found < needed:
        raise InvalidParameter(
            f"The study was refused: there are {found} {what} to draw from, {needed} are needed. "
            "Plan fewer cases of a class."
        )
