"""A quick look at utility for the data owner: taught on synthetic, judged on held-out persons.

Only persons whom the generator never saw are judged on: the held-out half of the audit pool and the
reference arm. The numbers are measured on real records without noise; they go into a document and
a section of the report that owner and auditors see, and into nothing that leaves.
"""

import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Arm, Evidence
from training.utility import Labelled, Task, fidelity, score
from training.utility.scoring import Effort
from workers.split import IN_TRAINING

HELD_OUT = (Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.REFERENCE_B)
STAYS_INSIDE = "Measured on real records without noise: for the data owner and the auditors only."
FEWEST_PERSONS = 20
_MOST_RECORDS = 4000  # of each set
_MOST_SECONDS = 40.0
EFFORT = Effort(classifiers=("hog_linear",), most_steps=150)

Progress = Callable[[int, int], None]


class OutOfTime(Exception):
    """The look would take longer than a report should wait for it."""


def measure_utility(
    evidence: Evidence,
    *,
    label: str,
    labels: tuple[str, ...],
    progress: Progress | None = None,
    most_seconds: float = _MOST_SECONDS,
) -> dict[str, Any]:
    """Return the utility section as JSON-ready numbers, or `computed` false with a reason."""
    reason, found = _why_not(evidence), None
    if reason is None:
        watch = Deadline(progress, most_seconds)
        try:
            found = _measured(evidence, Task.of(labels, name=label), watch)
        except OutOfTime:
            reason = f"it would have taken more than {most_seconds:g} seconds"
    about = {"schema_version": 1, "stays_inside": STAYS_INSIDE}
    if found is None:
        return {**about, "computed": False, "reason": reason}
    return {**about, "computed": True, **found}


def _why_not(evidence: Evidence) -> str | None:
    """Return why utility cannot be computed from this evidence, or None."""
    if evidence.modality != "image":
        return "the records are no images"
    held = records_of(evidence, HELD_OUT)
    persons = len(np.unique(held.persons))
    if persons < FEWEST_PERSONS:
        return f"{persons} held-out persons are too few; at least {FEWEST_PERSONS} are needed"
    if len(np.unique(held.labels)) < 2 or len(np.unique(evidence.sample_labels)) < 2:
        return "there is only one label to tell apart"
    if held.images.shape[1:] != evidence.samples.shape[1:]:
        return "synthetic and real images differ in size"
    return None


def _measured(evidence: Evidence, task: Task, watch: "Deadline") -> dict[str, Any]:
    held, trained = records_of(evidence, HELD_OUT), records_of(evidence, IN_TRAINING)
    samples = cast("NDArray[np.integer]", evidence.samples)
    synthetic = some_of(Labelled.of(samples, evidence.sample_labels))
    sources = {"synthetic": synthetic, "real": some_of(trained)}
    scores = {
        name: score(source, held, task=task, effort=EFFORT, watch=watch).as_json(task)["hog_linear"]
        for name, source in sources.items()
        if len(source)
    }
    return {
        "classifier": "linear on histograms of oriented gradients",
        "held_out_persons": len(np.unique(held.persons)),
        "held_out_images": len(held),
        "binary_rule": task.binary_rule,
        "scores": scores,
        "fidelity": fidelity.compare(synthetic, held, reference=sources["real"]),
        "not_said": "A quick look with one classifier; benchmarks.utility measures with several.",
    }


def records_of(evidence: Evidence, arms: tuple[Arm, ...]) -> Labelled:
    """Return the records of some arms; persons with a twin in another arm are left out."""
    chosen = np.isin(evidence.arms, arms) & ~np.asarray(evidence.excluded)
    rows = np.flatnonzero(chosen[evidence.persons])
    if len(rows) > _MOST_RECORDS:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MOST_RECORDS])
    images = cast("NDArray[np.integer]", evidence.records[rows])  # images have whole numbers
    return Labelled.of(images, evidence.labels[rows], evidence.persons[rows])


def some_of(records: Labelled) -> Labelled:
    """Return the records, or as many of them as a look takes, drawn at random."""
    if len(records) <= _MOST_RECORDS:
        return records
    return records.take(np.random.default_rng(0).permutation(len(records))[:_MOST_RECORDS])


class Deadline:
    """Passes progress on, and stops the look when its time is over."""

    def __init__(self, progress: Progress | None, most_seconds: float) -> None:
        self._progress = progress
        self._end = time.monotonic() + most_seconds

    def __call__(self, _name: str, done: int, total: int) -> None:
        """Note a step. Raises: OutOfTime."""
        if time.monotonic() > self._end:
            raise OutOfTime
        if self._progress is not None:
            self._progress(done, total)
