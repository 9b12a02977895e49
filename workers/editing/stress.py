"""Where does a classifier change its mind? Its answers along series in which one thing changes.

Along an axis that has nothing to do with the label (exposure), every change of mind is a weakness; along
the label itself, what never changes is one. Synthetic images show what a model does with them;
a model may do better or worse on patients' images.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.editing.editor import Editor
from training.editing.series import LABEL, Series

Floats = NDArray[np.float64]

_ERROR = 0.05
_ROUNDS = 2000


class Answers(Protocol):
    """A classifier, in this process or in another."""

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """Return (N, labels) probabilities."""


@dataclass(frozen=True, eq=False)
class StressTest:
    """Shapes: probabilities (cases, steps, labels); answers (cases, steps); flips (cases,) bools."""

    series: Series
    probabilities: Floats
    answers: NDArray[np.integer]
    flips: NDArray[np.bool_]

    def document(self, editor: Editor, *, seed: int) -> dict[str, Any]:
        """Return the result as JSON; intervals by resampling cases."""
        share, low, high = _share(self.flips, seed=seed)
        steps = [
            {
                "value": float(value),
                "images": int(self.series.is_met[:, step].sum()),
                "mean_answer": self._mean_answer(step),
                "answers": {
                    name: int((self._met(step) == k).sum()) for k, name in enumerate(editor.labels)
                },
            }
            for step, value in enumerate(self.series.values)
        ]
        found: dict[str, Any] = {
            "axis": self.series.axis,
            "labels": list(editor.labels),
            "cases": len(self.flips),
            "images_that_met_their_specification": float(self.series.is_met.mean()),
            "changed_their_answer": {"share": share, "ci_low": low, "ci_high": high},
            "steps": steps,
            "first_changes": [self._first_change(case) for case in range(len(self.flips))],
        }
        if self.series.axis == LABEL:
            right = (self.answers == self.series.labels)[self.series.is_met]
            found["agrees_with_the_label"] = float(right.mean()) if right.size else None
        return found

    def _met(self, step: int) -> NDArray[np.integer]:
        return np.asarray(self.answers[:, step][self.series.is_met[:, step]])

    def _mean_answer(self, step: int) -> float | None:
        """Return the mean of the expected label (its place in the order) over cases."""
        kept = self.probabilities[:, step][self.series.is_met[:, step]]
        if not len(kept):
            return None
        return float((kept @ np.arange(kept.shape[1])).mean())

    def _first_change(self, case: int) -> dict[str, Any]:
        met = np.flatnonzero(self.series.is_met[case])
        answers = self.answers[case, met]
        changed = np.flatnonzero(answers[1:] != answers[:-1])
        place = None if not len(changed) else int(changed[0])
        return {
            "source_image": int(self.series.sources[case]),
            "between": None
            if place is None
            else [float(self.series.values[met[place]]), float(self.series.values[met[place + 1]])],
            "from": None if place is None else int(answers[place]),
            "to": None if place is None else int(answers[place + 1]),
        }


def run_stress_test(series: Series, classifier: Answers) -> StressTest:
    """Ask the classifier about every image of a series."""
    cases, steps = series.images.shape[:2]
    flat = classifier.probabilities(series.images.reshape(-1, *series.images.shape[2:]))
    probabilities = flat.reshape(cases, steps, -1)
    answers = probabilities.argmax(axis=2)
    flips = np.array(
        [len(np.unique(answers[case, series.is_met[case]])) > 1 for case in range(cases)]
    )
    return StressTest(series, probabilities, answers, flips)


def _share(values: NDArray[np.bool_], *, seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    means = rng.choice(values, size=(_ROUNDS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [_ERROR / 2, 1 - _ERROR / 2])
    return float(values.mean()), float(low), float(high)
