"""Deals images to ordered grades by their rank, where a teacher orders better than it names.

A noised threshold between two grades may swallow a grade whole, and drawn images look worse or
better to a teacher than real ones do. Their *order* survives both. So the grades asked for are laid
along the order of the expected grade: as many images as there are grades wanted, band by band.
"""

import numpy as np
from numpy.typing import NDArray

from training.generators import SampleProgress
from training.teacher import Draw, Teacher


def deal_by_rank(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose for each requested grade an image of its own from the grade's band of the order.

    Bands are as wide as the grades' shares of the request. Shapes: (N, grades), (M,) -> (M,)
    distinct indices, M <= N.
    """
    grades = probabilities.shape[1]
    order = np.argsort(probabilities @ np.arange(grades), kind="stable")
    wanted = np.bincount(labels, minlength=grades)
    edges = np.cumsum([0, *wanted]) * len(order) // max(len(labels), 1)
    chosen = np.empty(len(labels), dtype=np.int64)
    for grade in range(grades):
        band = order[edges[grade] : edges[grade + 1]]
        chosen[labels == grade] = rng.permutation(band)[: wanted[grade]]
    return chosen


def dealt_by_rank(
    draw: Draw,
    labels: NDArray[np.integer],
    *,
    teacher: Teacher,
    seed: int,
    pool: float,
    progress: SampleProgress | None = None,
) -> NDArray[np.integer]:
    """Draw `pool` times the images wanted, and deal them by rank; the same for the same seed.

    Shapes: (M,) -> (M, H, W).
    """
    labels = np.asarray(labels, dtype=np.int64)
    if len(labels) == 0:
        return draw(labels, seed=seed, progress=progress)
    images = draw(np.resize(labels, int(np.ceil(pool * len(labels)))), seed=seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(labels)]))
    chosen = deal_by_rank(teacher.probabilities(images), labels, rng=rng)
    if progress is not None:
        progress(len(labels), len(labels))
    return images[chosen]
