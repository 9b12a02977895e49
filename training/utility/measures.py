"""Accuracy, balanced accuracy, weighted kappa and AUC, and their bootstrap over test persons."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.utility.material import Task

Floats = NDArray[np.float64]
METRICS = ("accuracy", "balanced_accuracy", "qwk", "auc")
BOOTSTRAPS = 200
_TAILS = (2.5, 97.5)  # per cent


@dataclass(frozen=True)
class Measured:
    """The scores of one classifier, None where one is not defined, and 95 % intervals."""

    values: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    reasons: dict[str, str]

    def as_json(self, task: Task) -> dict[str, object]:
        """Return the scores, each undefined one with its reason, as in the benchmark's document."""
        return {
            **self.values,
            **task.rule_as_json(),
            **{f"{name}_reason": text for name, text in self.reasons.items()},
            "ci_over_test_persons": {
                name: None if ends is None else list(ends) for name, ends in self.intervals.items()
            },
        }


def measure(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    persons: NDArray[np.integer],
    *,
    task: Task,
    bootstraps: int = BOOTSTRAPS,
) -> Measured:
    """Return every score and its percentile interval over resampled persons.

    Shapes: probabilities (N, labels), labels (N,), persons (N,). All images of a person are drawn
    together, because they are not independent.
    """
    judged = _Judged(np.asarray(probabilities, dtype=np.float64), np.asarray(labels), task)
    values = judged.scores(np.ones(len(labels)))
    _, person = np.unique(persons, return_inverse=True)
    count = int(person.max()) + 1 if len(person) else 0
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(bootstraps if count > 1 else 0):
        weights = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        for name, value in judged.scores(weights[person]).items():
            if value is not None:
                drawn[name].append(value)
    intervals = {name: _ends(values[name], drawn[name]) for name in METRICS}
    return Measured(values=values, intervals=intervals, reasons=judged.reasons(values))


def _ends(value: float | None, drawn: list[float]) -> tuple[float, float] | None:
    if value is None or not drawn:
        return None
    low, high = np.percentile(drawn, _TAILS)
    return float(low), float(high)


class _Judged:
    """Predictions beside the truth, prepared once so that a resample costs little."""

    def __init__(self, probabilities: Floats, labels: NDArray[np.integer], task: Task) -> None:
        self.task = task
        self.labels = labels
        self.predicted = probabilities.argmax(axis=1)
        self.cells = labels * task.kinds + self.predicted
        self.curves: list[tuple[NDArray[np.integer], NDArray[np.bool_]]] = []
        if task.threshold is not None:
            self._add(probabilities[:, task.threshold :].sum(axis=1), labels >= task.threshold)
        else:
            for kind in range(task.kinds):
                self._add(probabilities[:, kind], labels == kind)

    def _add(self, scores: Floats, positive: NDArray[np.bool_]) -> None:
        _, rank = np.unique(scores, return_inverse=True)  # equal scores share a rank
        self.curves.append((rank, positive))

    def scores(self, weights: Floats) -> dict[str, float | None]:
        """Return the scores when record i counts `weights[i]` times."""
        kinds = self.task.kinds
        counts = np.bincount(self.cells, weights=weights, minlength=kinds**2)
        table: Floats = counts.astype(np.float64).reshape(kinds, kinds)
        rows, total = table.sum(axis=1), float(table.sum())
        if total == 0:
            return dict.fromkeys(METRICS)
        present = rows > 0
        recalls = np.diag(table)[present] / rows[present]
        areas = [_area(rank, positive, weights) for rank, positive in self.curves]
        known = [area for area in areas if area is not None]
        return {
            "accuracy": float(np.trace(table) / total),
            "balanced_accuracy": float(recalls.mean()),
            "qwk": _weighted_kappa(table) if self.task.is_ordinal else None,
            "auc": float(np.mean(known)) if known else None,
        }

    def reasons(self, values: dict[str, float | None]) -> dict[str, str]:
        """Return why a score is missing."""
        because = {
            "accuracy": "there is no test record",
            "balanced_accuracy": "there is no test record",
            "qwk": "the labels have no order"
            if not self.task.is_ordinal
            else "all records have one label",
            "auc": "the test records are all on one side",
        }
        return {name: because[name] for name, value in values.items() if value is None}


def _area(rank: NDArray[np.integer], positive: NDArray[np.bool_], weights: Floats) -> float | None:
    """Return the area under the ROC curve; equal scores count half."""
    above = np.bincount(rank, weights=np.where(positive, weights, 0.0))
    below = np.bincount(rank, weights=np.where(positive, 0.0, weights))
    pairs = float(above.sum() * below.sum())
    if pairs == 0:
        return None
    beaten = np.cumsum(below) - below / 2
    return float((above * beaten).sum() / pairs)


def _weighted_kappa(table: Floats) -> float | None:
    """Return Cohen's kappa with quadratic weights (Cohen 1968, doi:10.1037/h0026256)."""
    kinds = np.arange(len(table))
    cost = (kinds[:, None] - kinds[None]) ** 2
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    expected = float((cost * chance).sum())
    return None if expected == 0 else float(1 - (cost * table).sum() / expected)
