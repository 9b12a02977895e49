"""Shortcut check: does the label show where it should, or at the edge of the image?

A classifier is taught and judged with the middle of every image greyed out, and again with only the
middle left. Where synthetic images carry their label outside the joint and real ones do not, a
classifier taught on them learns a shortcut (DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.utility import light
from training.utility.fitting import Progress
from training.utility.material import Labelled, Task
from training.utility.measures import Measured
from training.utility.scoring import Watch, judged

Sight = Literal["centre_masked", "centre_only"]
SIGHTS: tuple[Sight, ...] = ("centre_masked", "centre_only")
MEANING = "the middle half of each side (a quarter of the area) greyed out, or alone left"


def seen(images: NDArray[np.integer], sight: Sight) -> NDArray[np.integer]:
    """Return images with a part replaced by mid grey. Shapes: (N, H, W) -> same."""
    height, width = images.shape[1:]
    rows = slice(height // 4, height - height // 4)
    columns = slice(width // 4, width - width // 4)
    grey = np.iinfo(images.dtype).max // 2
    if sight == "centre_masked":
        masked = images.copy()
        masked[:, rows, columns] = grey
        return masked
    alone = np.full_like(images, grey)
    alone[:, rows, columns] = images[:, rows, columns]
    return alone


def check(
    taught_on: Labelled,
    test: Labelled,
    *,
    task: Task,
    seed: int = 0,
    device: torch.device | None = None,
    most_steps: int | None = None,
    watch: Watch | None = None,
) -> dict[Sight, Measured]:
    """Return the scores of the convolutional network for each sight."""
    found: dict[Sight, Measured] = {}
    for sight in SIGHTS:
        network = light.taught(
            light.HEADLINE,
            Labelled(seen(taught_on.images, sight), taught_on.labels, taught_on.persons),
            kinds=task.kinds,
            seed=seed,
            device=device or torch.device("cpu"),
            most=most_steps,
            progress=None if watch is None else _part(watch, sight),
        )
        shown = Labelled(seen(test.images, sight), test.labels, test.persons)
        found[sight] = judged(network, shown, task=task)
    return found


def _part(watch: Watch, sight: Sight) -> Progress:
    return lambda done, total: watch(sight, done, total)
