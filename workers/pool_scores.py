"""What a generator itself says of the persons that attacks are judged on: scores and gradients.

Asking the generator is the dearest part of an audit. Persons outside the pool, most of those who were
trained on, are never asked about, and gradients are taken at few records of each person. Reference
models (`grid.reference_models` of the policy, so that their number is committed to before a run) cost a
training each: for workers with a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Arm
from privacy.reference_attacks import calibrated_scores
from training import generators
from training.reference_models import Target, reference_scores
from workers.context import JobContext
from workers.modalities.contract import StoredDataset
from workers.provenance import load_job, seed_of
from workers.split import Split

SCORED_ARMS = (Arm.AUDIT_IN, Arm.AUDIT_OUT, Arm.REFERENCE_B)
GRADIENTS_PER_PERSON = 2

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Attack -> (records,) scores, and gradient features (records, F); NaN where nobody was asked."""

    record_scores: dict[str, Floats]
    gradient_features: Floats


def score_pool(
    context: JobContext, dataset: StoredDataset, split: Split, *, fitted: Any
) -> PoolScores:
    """Ask the generator about the records of the pool and of reference half b."""
    persons, seed = np.asarray(dataset.persons), seed_of(context.job)
    in_pool = np.isin(split.arms, SCORED_ARMS) & ~np.asarray(dataset.duplicated_persons)
    rows = np.flatnonzero(in_pool[persons])
    asked = dataset.asked(rows, to=context.scratch / "pool.npy")
    scores: dict[str, Floats] = {**fitted.score(*asked, seed=seed)}
    few = first_of_each(persons[rows], GRADIENTS_PER_PERSON)
    gradients = dataset.gradients(fitted, rows[few], seed=seed)
    if models := context.application.policy.grid.reference_models:
        references = _of_reference_models(
            context, dataset, split, fitted=fitted, asked=asked, models=models
        )
        population = np.flatnonzero(split.arms[persons[rows]] == Arm.REFERENCE_B)
        scores |= calibrated_scores(scores, references, population=population)
    return PoolScores(
        record_scores={name: _spread(v, rows, len(persons)) for name, v in scores.items()},
        gradient_features=_spread(gradients, rows[few], len(persons))
        if gradients.shape[1]
        else np.empty((0, 0)),
    )


def _of_reference_models(
    context: JobContext,
    dataset: StoredDataset,
    split: Split,
    *,
    fitted: Any,
    asked: Sequence[NDArray[Any]],
    models: int,
) -> dict[str, NDArray[np.float64]]:
    """Return attack -> (models, rows) scores by models fitted to halves of reference half a."""
    planned = load_job(context, context.job.payload["train_job_id"]).payload
    module = generators.load(planned["generator"])
    persons = np.asarray(dataset.persons)
    in_half_a = (split.arms == Arm.REFERENCE_A) & ~np.asarray(dataset.duplicated_persons)
    held_out = np.flatnonzero(in_half_a[persons])
    return reference_scores(
        Target(
            module,
            module.Config.model_validate(planned["config"]),
            dataset.schema,
            fitted.mechanisms,
            trained_units=int(split.trained_on.sum()),
            seed=seed_of(context.job),
        ),
        dataset.training_records(
            held_out,
            persons=persons[held_out].astype(np.int32),
            to=context.scratch / "reference.npy",
        ),
        models=models,
        asked=asked,
        progress=lambda done, total: context.report("reference models", done, total),
    )


def first_of_each(persons: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    """Return the positions of at most `count` records of each person, in order."""
    order = np.argsort(persons, kind="stable")
    ranked = persons[order]
    is_first = np.ones(len(ranked), dtype=bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    starts = np.flatnonzero(is_first)
    place = np.arange(len(ranked)) - np.repeat(starts, np.diff([*starts, len(ranked)]))
    return np.sort(order[place < count])


def _spread(values: Floats, rows: NDArray[np.integer], count: int) -> Floats:
    """Return values at their rows among `count` records, NaN elsewhere."""
    whole = np.full((count, *values.shape[1:]), np.nan)
    whole[rows] = values
    return whole
