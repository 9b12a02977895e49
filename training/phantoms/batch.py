"""Draw loose phantom knees by the thousand: public pictures with grades, for a warm start."""

import numpy as np
from numpy.typing import NDArray

from training.phantoms.anatomy import draw_strangers
from training.phantoms.parameters import GRADES, Ints
from training.phantoms.prior import PUBLISHED, Prior
from training.phantoms.radiograph import render_knees


def batch(
    count: int,
    *,
    pixels: int | tuple[int, int],
    rng: np.random.Generator,
    grades: NDArray[np.integer] | None = None,
    prior: Prior = PUBLISHED,
) -> tuple[NDArray[np.uint8], Ints]:
    """Draw `count` knees of different persons; the same stream gives the same bytes.

    `pixels` is the side of a square or (height, width); the shorter side shows 90 mm. `grades` are
    KL grades 0-4, one per knee; without them every grade is equally likely. The pixels are 8 bits
    whatever the schema says.
    Shapes: images (count, height, width) uint8, grades (count,).
    Raises: ValueError for under 16 pixels, or grades that are not `count` whole numbers in 0-4.
    """
    shape = (pixels, pixels) if isinstance(pixels, int) else pixels
    if min(shape) < 16:
        raise ValueError(f"Radiographs of {shape} pixels were refused; ask for at least 16.")
    chosen = rng.integers(len(GRADES), size=count) if grades is None else np.asarray(grades)
    if len(chosen) != count or (count and not 0 <= chosen.min() <= chosen.max() < len(GRADES)):
        raise ValueError(
            f"{len(chosen)} grades for {count} knees were refused; give one of 0-4 for each."
        )
    knees = draw_strangers(chosen, rng, prior=prior)
    return render_knees(knees, rng, pixels=shape), chosen.astype(np.int32)
