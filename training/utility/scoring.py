"""Train on synthetic, test on real (TSTR), and the same classifiers trained on real.

Esteban et al. 2017, arXiv:1706.02633, who named TSTR and TRTS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from privacy.errors import InvalidParameter
from training.utility import dpimagebench, light
from training.utility.fitting import Progress, predicted
from training.utility.material import Labelled, Task
from training.utility.measures import METRICS, Measured, measure

Protocol = Literal["light", "dpimagebench"]
Watch = Callable[[str, int, int], None]  # what is taught, steps done, steps in all
PROTOCOLS: dict[Protocol, ModuleType] = {"light": light, "dpimagebench": dpimagebench}
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores per classifier, and the classifiers that were taught."""

    measured: dict[str, Measured]
    networks: dict[str, nn.Module]
    steps: dict[str, int]  # that each classifier was taught
    headline: str  # the classifier whose scores go by bare names, or "mean"

    def as_json(self, task: Task) -> dict[str, dict[str, object]]:
        """Return `scores` as in the benchmark's document, with their mean over classifiers."""
        mean: dict[str, object] = {name: self.value(MEAN, name) for name in METRICS}
        return {
            **{
                name: one.as_json(task) | {"steps": self.steps[name]}
                for name, one in self.measured.items()
            },
            MEAN: {**mean, **task.rule_as_json(), **_reasons(mean, self.measured)},
        }

    def value(self, classifier: str, metric: str) -> float | None:
        """Return one score; the classifier "mean" is the mean over all of them."""
        if classifier != MEAN:
            return self.measured[classifier].values[metric]
        values = [one.values[metric] for one in self.measured.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


def _reasons(mean: dict[str, object], measured: dict[str, Measured]) -> dict[str, str]:
    """Return why a mean is missing: as for its parts."""
    first = next(iter(measured.values())).reasons
    return {f"{name}_reason": first[name] for name, value in mean.items() if value is None}


@dataclass(frozen=True)
class Effort:
    """What a caller may change of a protocol; None leaves it as it is.

    `classifiers` keeps some, `most_steps` shortens the light protocol, `epochs` the dpimagebench
    one (which then deviates from what was published).
    """

    classifiers: tuple[str, ...] | None = None
    most_steps: int | None = None
    epochs: int | None = None


FULL_EFFORT = Effort()


def score(  # noqa: PLR0913 - what is scored, how, and where
    taught_on: Labelled,
    test: Labelled,
    *,
    task: Task,
    protocol: Protocol = "light",
    seed: int = 0,
    device: torch.device | None = None,
    effort: Effort = FULL_EFFORT,
    networks: Mapping[str, nn.Module] | None = None,
    watch: Watch | None = None,
) -> Scored:
    """Teach every classifier of the protocol on one set and judge it on another.

    `taught_on` is the synthetic set for TSTR, the real training set for its baseline. Classifiers
    in `networks` were taught on it before and are only judged.
    Raises: InvalidParameter if the sets differ in image size or depth, or for an unknown label.
    """
    _check_alike(taught_on, test)
    _check_labels(taught_on, task)
    _check_labels(test, task)
    where = torch.device("cpu") if device is None else device
    module = PROTOCOLS[protocol]
    ready = dict(networks or {})
    most = effort.most_steps if protocol == "light" else effort.epochs
    for name in effort.classifiers or module.CLASSIFIERS:
        if name not in ready:
            ready[name] = module.taught(
                name,
                taught_on,
                kinds=task.kinds,
                seed=seed,
                device=where,
                most=most,
                progress=_named(watch, name),
            )
    measured = {name: judged(network, test, task=task) for name, network in ready.items()}
    steps = {name: module.steps_of(name, taught_on, most) for name in ready}
    return Scored(measured=measured, networks=ready, steps=steps, headline=module.HEADLINE)


def judged(network: nn.Module, test: Labelled, *, task: Task) -> Measured:
    """Judge a taught classifier on a set."""
    return measure(predicted(network, test.images), test.labels, test.persons, task=task)


def accuracy(network: nn.Module, test: Labelled) -> float:
    """Return the share of records whose most probable label is theirs."""
    guessed: NDArray[np.integer] = predicted(network, test.images).argmax(axis=1)
    return float(np.mean(guessed == test.labels))


def _check_alike(taught_on: Labelled, test: Labelled) -> None:
    learnt, judged_on = taught_on.images, test.images
    if learnt.shape[1:] != judged_on.shape[1:] or learnt.dtype != judged_on.dtype:
        raise InvalidParameter(
            f"Scoring was refused: images to learn from are {learnt.shape[1:]} of {learnt.dtype}, "
            f"test images {judged_on.shape[1:]} of {judged_on.dtype}. Bring both to one size."
        )


def _check_labels(records: Labelled, task: Task) -> None:
    if len(records) == 0 or not 0 <= records.labels.min() <= records.labels.max() < task.kinds:
        raise InvalidParameter(
            f"Scoring was refused: {len(records)} records, or labels outside 0 to "
            f"{task.kinds - 1}. Give at least one record, with declared labels only."
        )


def _named(watch: Watch | None, name: str) -> Progress | None:
    return None if watch is None else lambda done, total: watch(name, done, total)
