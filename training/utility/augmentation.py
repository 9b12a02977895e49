"""Augmentation curves: few real persons, with and without synthetic images, up to full replacement.

The question of a hospital that has some data of its own. Every point is the convolutional network
of the light protocol; with both kinds, half of each batch is real, so that a few real images are
not drowned by many synthetic ones. All points are taught in the same number of steps.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.utility import light
from training.utility.fitting import Recipe, teach
from training.utility.intervals import over_seeds
from training.utility.material import Labelled, Task
from training.utility.measures import METRICS
from training.utility.scoring import judged

SIZES = (50, 100, 200, 400, 800)  # real persons; all of them are added at the end
SEEDS = 3
RECIPE = Recipe(steps=500)

# What differs between the runs that an interval covers; the synthetic set and the test stay.
VARIED = "draws of real persons and first weights"

PointProgress = Callable[[int, int], None]  # points done, points in all


@dataclass(frozen=True)
class Point:
    """How much of each kind the network learns from."""

    real_persons: int
    has_synthetic: bool


def points(persons: int, sizes: Sequence[int] = SIZES) -> tuple[Point, ...]:
    """Return the points of the curve: each size without and with synthetic images, then without real."""
    chosen = [*(size for size in sizes if size < persons), persons]
    pairs = [Point(size, added) for size in chosen for added in (False, True)]
    return (*pairs, Point(0, has_synthetic=True))


def curve(  # noqa: PLR0913 - what is scored, how, and where
    real: Labelled,
    synthetic: Labelled,
    test: Labelled,
    *,
    task: Task,
    sizes: Sequence[int] = SIZES,
    seeds: int = SEEDS,
    recipe: Recipe = RECIPE,
    device: torch.device | None = None,
    progress: PointProgress | None = None,
    most_seconds: float | None = None,
) -> list[dict[str, object]]:
    """Return one row per point and metric, with mean and interval over seeds.

    A seed draws its own subset of persons; smaller subsets lie in larger ones. A seed that would not
    be done within `most_seconds` is left out; each row says how many there were.
    """
    wanted = points(len(np.unique(real.persons)), sizes)
    found: dict[Point, list[dict[str, float | None]]] = {point: [] for point in wanted}
    started = time.monotonic()
    for seed in range(seeds):
        taken = time.monotonic() - started
        if seed and most_seconds is not None and taken * (seed + 1) / seed > most_seconds:
            break
        order = np.random.default_rng(seed).permutation(np.unique(real.persons))
        for number, point in enumerate(wanted):
            some = real.of_persons(order[: point.real_persons])
            found[point].append(
                _scores(
                    some if point.real_persons else None,
                    synthetic if point.has_synthetic else None,
                    test,
                    task=task,
                    recipe=recipe,
                    seed=seed,
                    device=device or torch.device("cpu"),
                )
            )
            if progress is not None:
                progress(seed * len(wanted) + number + 1, seeds * len(wanted))
    return [
        {
            "real_persons": point.real_persons,
            "synthetic_images": len(synthetic) if point.has_synthetic else 0,
            "metric": metric,
            "steps": recipe.steps,
            **over_seeds([one[metric] for one in values], over=VARIED).as_json(),
        }
        for point, values in found.items()
        for metric in METRICS
    ]


def _scores(
    real: Labelled | None,
    synthetic: Labelled | None,
    test: Labelled,
    *,
    task: Task,
    recipe: Recipe,
    seed: int,
    device: torch.device,
) -> dict[str, float | None]:
    parts = [part for part in (real, synthetic) if part is not None]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    ends = np.cumsum([len(part) for part in parts])
    pools: list[NDArray[np.integer]] = [
        np.arange(end - len(part), end) for part, end in zip(parts, ends, strict=True)
    ]
    shape = images.shape[1:]
    network = light.fresh(light.HEADLINE, shape, kinds=task.kinds, seed=seed).to(device)
    with light.seeded(seed):
        teach(network, images, labels, recipe=recipe, seed=seed, pools=pools)
    return judged(network, test, task=task).values
