"""Make a whole cohort of phantom persons, two knees each, from one seed.

The seed is recorded and harmless: phantoms are public. Nothing here draws privacy noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantoms.anatomy import draw_knees
from training.phantoms.parameters import Ints, Knees
from training.phantoms.prior import EMPHASISED, Prior
from training.phantoms.radiograph import render_knees


@dataclass(frozen=True)
class Cohort:
    """The knees of a cohort and their radiographs, in the same order."""

    knees: Knees
    images: NDArray[np.uint8]  # (knees, pixels, pixels)

    @property
    def grades(self) -> Ints:
        """The KL grade of each knee, 0-4; (knees,)."""
        return self.knees.grade.astype(np.int32)

    @property
    def persons(self) -> Ints:
        """The person of each knee; (knees,)."""
        return self.knees.person


def make_cohort(
    persons: int,
    *,
    pixels: int = 64,
    seed: int = 0,
    prior: Prior = EMPHASISED,
    progress: Callable[[int, int], None] | None = None,
) -> Cohort:
    """Draw and render two knees for each of `persons` persons; the same seed gives the same bytes.

    The default prior exaggerates grades for small pictures; `PUBLISHED` does not.
    `progress(done, total)` counts knees. Raises: ValueError for no persons or under 16 pixels.
    """
    if persons < 1:
        raise ValueError(f"A cohort of {persons} persons was refused; ask for at least 1.")
    if pixels < 16:
        raise ValueError(f"Radiographs of {pixels} pixels were refused; ask for at least 16.")
    anatomy, rendering = np.random.SeedSequence(seed).spawn(2)
    knees = draw_knees(persons, np.random.default_rng(anatomy), prior=prior)
    images = render_knees(knees, np.random.default_rng(rendering), pixels=pixels, progress=progress)
    return Cohort(knees, images)
