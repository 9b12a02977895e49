"""What synthetic rows with images are good for, for the data owner: rows, images, and both together.

Rows and images are judged as those of a table and of images alone are. Whether an image fits its row
is asked of a classifier that was taught on real images of half of the reference arm: it reads the cell
that an image was drawn for, and is compared with itself on real images of other held-out persons.
All of it is measured on real records without noise, and stays inside.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Arm, Evidence, JointEvidence
from privacy.manifests import DatasetSchema
from training.utility import Labelled, Task, score
from workers.owner_utility import (
    EFFORT,
    FEWEST_PERSONS,
    STAYS_INSIDE,
    Deadline,
    OutOfTime,
    Progress,
    measure_utility,
    records_of,
    some_of,
)

TAUGHT_ON = (Arm.REFERENCE_A,)
READ = (Arm.AUDIT_OUT, Arm.REFERENCE_B)
_MOST_SECONDS = 40.0
_METRICS = ("accuracy", "balanced_accuracy", "auc")


def measure_joint_utility(
    evidence: JointEvidence,
    *,
    declared: DatasetSchema,
    of_rows: Callable[[Evidence], Mapping[str, Any]],
    progress: Progress | None,
) -> dict[str, Any]:
    """Return the utility section as JSON-ready numbers; each part is computed, or says why not.

    `declared` is of the images, with cells as labels; `of_rows` measures the table.
    """
    parts: dict[str, Any] = {
        "table": dict(of_rows(evidence.table)),
        "images": measure_utility(
            evidence.images, label=declared.label, labels=declared.labels, progress=progress
        ),
        "match": measure_match(evidence.images, declared=declared, progress=progress),
    }
    why = "; ".join(
        f"{name}: {part['reason']}" for name, part in parts.items() if not part["computed"]
    )
    computed = any(part["computed"] for part in parts.values())
    about: dict[str, Any] = {
        "schema_version": 1,
        "kind": "joint",
        "stays_inside": STAYS_INSIDE,
        "computed": computed,
    }
    return {**about, **parts, **({} if computed else {"reason": why})}


def measure_match(
    evidence: Evidence,
    *,
    declared: DatasetSchema,
    progress: Progress | None,
    most_seconds: float = _MOST_SECONDS,
) -> dict[str, Any]:
    """Return how often a classifier reads from a synthetic image the cell of its row."""
    taught, real = records_of(evidence, TAUGHT_ON), records_of(evidence, READ)
    persons = {
        name: len(np.unique(each.persons)) for name, each in (("taught", taught), ("real", real))
    }
    fewest = min(persons.values())
    if fewest < FEWEST_PERSONS:
        return _not_computed(
            f"{persons['taught']} persons to teach on and {persons['real']} to compare with are too "
            f"few; at least {FEWEST_PERSONS} of each are needed"
        )
    if len(np.unique(taught.labels)) < 2:
        return _not_computed("the persons to teach on are all of one cell")
    samples = cast("NDArray[np.integer]", evidence.samples)
    synthetic = some_of(Labelled.of(samples, evidence.sample_labels))
    task = Task.of(declared.labels, name=declared.label)
    try:
        watch = Deadline(progress, most_seconds)
        read = score(taught, real, task=task, effort=EFFORT, watch=watch)
        made = score(taught, synthetic, task=task, effort=EFFORT, networks=read.networks)
    except OutOfTime:
        return _not_computed(f"it would have taken more than {most_seconds:g} seconds")
    by_chance = np.bincount(evidence.sample_labels, minlength=task.kinds).max()
    return {
        "computed": True,
        "classifier": "linear on histograms of oriented gradients",
        "taught_on_persons": persons["taught"],
        "real_persons": persons["real"],
        "cells": task.kinds,
        "scores": {
            name: {m: found.as_json(task)["hog_linear"][m] for m in _METRICS}
            for name, found in (("synthetic", made), ("real", read))
        },
        "most_frequent_cell": float(by_chance / len(evidence.sample_labels)),
    }


def _not_computed(reason: str) -> dict[str, Any]:
    return {"computed": False, "reason": reason}
