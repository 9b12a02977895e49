"""What can be measured on a radiograph, with its unit, so that an edit can be asked for and checked.

Measures see an image alone, as grey values from 0 (black) to 1 (white). None was fitted to records:
those of knees are learnt on phantoms (`training.editing.rulers`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Attribute:
    """One number about an image. `measure`: (N, H, W) grey values 0-1 -> (N,)."""

    name: str
    title: str
    unit: str
    measure: Callable[[Floats], Floats]


def exposure(images: Floats) -> Floats:
    """Return the mean grey value."""
    return np.asarray(images.mean(axis=(1, 2)))


def contrast(images: Floats) -> Floats:
    """Return the standard deviation of grey values."""
    return np.asarray(images.std(axis=(1, 2)))


BRIGHTNESS = (
    Attribute("exposure", "exposure (mean grey value)", "share of white", exposure),
    Attribute("contrast", "contrast (spread of grey values)", "share of white", contrast),
)
