"""How many real persons the synthetic images stand in for: the curve of an owner's utility report.

A network is taught on a few of the persons trained on, with and without the synthetic images, and judged
on held-out persons, as `training.utility.augmentation` does for the benchmarks; shorter, and within
minutes. The numbers are measured on real records without noise: they stay inside.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Evidence, JointEvidence
from privacy.manifests import DatasetSchema
from training.utility import Labelled, Task, augmentation
from training.utility.fitting import Recipe
from workers.owner_utility import HELD_OUT, Deadline, OutOfTime, Progress, records_of, some_of
from workers.split import IN_TRAINING

MOST_SECONDS = 300.0
SIZES = (50, 200, 800)  # real persons; all of them are added at the end
FEWEST_SEEDS = 2  # one alone has no interval
_RECIPE = Recipe(steps=150)


def with_curve(
    found: Mapping[str, Any],
    evidence: Evidence | JointEvidence,
    *,
    declared: object,
    progress: Progress | None = None,
    most_seconds: float = MOST_SECONDS,
) -> dict[str, Any]:
    """Return a utility section with its augmentation curve, or with the reason why there is none."""
    if (
        not found["computed"]
        or not isinstance(declared, DatasetSchema)
        or isinstance(evidence, JointEvidence)
    ):
        return dict(found)
    task = Task.of(declared.labels, name=declared.label)
    try:
        rows = _rows(evidence, task, Deadline(progress, most_seconds), most_seconds=most_seconds)
    except OutOfTime:
        rows = []
    if not rows or any(row["seeds"] < FEWEST_SEEDS for row in rows if row["mean"] is not None):
        reason = f"it would have taken more than {most_seconds:g} seconds"
        return {**found, "augmentation_reason": reason}
    return {
        **found,
        "augmentation_curve": rows,
        "augmentation_varies": augmentation.VARIED,
        "augmentation_steps": _RECIPE.steps,
    }


def _rows(
    evidence: Evidence, task: Task, watch: Deadline, *, most_seconds: float
) -> list[dict[str, Any]]:
    samples = cast("NDArray[np.integer]", evidence.samples)
    return augmentation.curve(
        records_of(evidence, IN_TRAINING),
        some_of(Labelled.of(samples, evidence.sample_labels)),
        records_of(evidence, HELD_OUT),
        task=task,
        sizes=SIZES,
        recipe=_RECIPE,
        progress=lambda done, total: watch("points", done, total),
        most_seconds=most_seconds,
    )
