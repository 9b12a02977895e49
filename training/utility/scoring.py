"""Train on synthetic, test on real (TSTR), and the same classifiers trained on real.

Esteban et al. 2017, arXiv:1706.02633, who named TSTR and TRTS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from privacy.errors import InvalidParameter
from training.utility import light
from training.utility.fitting import predicted
from training.utility.material import Labelled, Task
from training.utility.measures import METRICS, Measured, measure

Protocol = Literal["light", "dpimagebench"]
Watch = Callable[[str, int, int], None]  # what is taught, steps done, steps in all
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores per classifier, and the classifiers that were taught."""

    measured: dict[str, Measured]
    networks: dict[str, nn.Module]
    headline: str

    def as_json(self, task: Task) -> dict[str, dict[str, object]]:
        """Return `scores` as in the benchmark's document, with their mean over classifiers."""
        mean: dict[str, object] = {name: self.value(MEAN, name) for name in METRICS}
        return {
            **{name: one.as_json(task) for name, one in self.measured.items()},
            MEAN: {**mean, "binary_rule": task.binary_rule},
        }

    def value(self, classifier: str, metric: str) -> float | None:
        """Return one score; the classifier "mean" is the mean over all of them."""
        if classifier != MEAN:
            return self.measured[classifier].values[metric]
        values = [one.values[metric] for one in self.measured.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


def score(
    taught_on: Labelled,
    test: Labelled,
    *,
    task: Task,
    seed: int = 0,
    device: torch.device | None = None,
    watch: Watch | None = None,
) -> Scored:
    """Teach every classifier of the protocol on one set and judge it on another.

    `taught_on` is the synthetic set for TSTR, the real training set for its baseline.
    Raises: InvalidParameter if the sets differ in image size or depth, or for an unknown label.
    """
    if taught_on.images.shape[1:] != test.images.shape[1:]:
        raise InvalidParameter(
            f"Scoring was refused: images to learn from are {taught_on.images.shape[1:]} pixels, "
            f"test images {test.images.shape[1:]}. Bring both to one size."
        )
    if taught_on.images.dtype != test.images.dtype:
        raise InvalidParameter(
            f"Scoring was refused: images to learn from are {taught_on.images.dtype}, test images "
            f"{test.images.dtype}. Bring both to one bit depth."
        )
    for records in (taught_on, test):
        if len(records) == 0 or not 0 <= records.labels.min() <= records.labels.max() < task.kinds:
            raise InvalidParameter(
                f"Scoring was refused: {len(records)} records with labels outside 0 to "
                f"{task.kinds - 1}. Give records with declared labels."
            )
    where = torch.device("cpu") if device is None else device
    networks: dict[str, nn.Module] = {}
    measured: dict[str, Measured] = {}
    for name in light.CLASSIFIERS:
        progress = None if watch is None else _named(watch, name)
        networks[name] = light.taught(
            name, taught_on, kinds=task.kinds, seed=seed, device=where, progress=progress
        )
        measured[name] = judged(networks[name], test, task=task)
    return Scored(measured=measured, networks=networks, headline=light.HEADLINE)


def judged(network: nn.Module, test: Labelled, *, task: Task) -> Measured:
    """Judge a taught classifier on a set."""
    return measure(predicted(network, test.images), test.labels, test.persons, task=task)


def accuracy(network: nn.Module, test: Labelled) -> float:
    """Return the share of records whose most probable label is theirs."""
    guessed: NDArray[np.integer] = predicted(network, test.images).argmax(axis=1)
    return float(np.mean(guessed == test.labels))


def _named(watch: Watch, name: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(name, done, total)
