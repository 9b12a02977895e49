"""Turns, stretches and bends images at random: more of the ways in which an image may vary, for free.

A Gaussian of pixels varies by adding patterns, while real images vary by moving. Random smooth
movements of what is drawn cover some of what is missing. They look at no record, and what label a
moved image has is for a teacher to say.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

# At strength 1: the most that an image is turned, stretched, slanted and shifted, and the standard
# deviation of the bend at the knots of a coarse grid.
_TURN = np.deg2rad(12.0)
_STRETCH = 0.12  # of the logarithm of each side
_SLANT = 0.1  # pixels across per pixel down
_SHIFT = 1 / 28  # of a side
_BEND = 0.7 / 28  # of a side
_KNOTS = 5
_IMAGES_AT_ONCE = 1024


def warped(
    images: NDArray[np.integer], *, strength: float, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Return every image moved in its own way; edges are continued outwards.

    Shapes: (N, H, W) integers -> the same. `strength` 0 returns the images themselves.
    """
    if strength == 0:
        return images
    parts = [
        _moved(images[start : start + _IMAGES_AT_ONCE], strength, rng)
        for start in range(0, len(images), _IMAGES_AT_ONCE)
    ]
    return np.concatenate([images[:0], *parts])


def _moved(
    images: NDArray[np.integer], strength: float, rng: np.random.Generator
) -> NDArray[np.integer]:
    count, height, width = images.shape
    values = torch.from_numpy(images.astype(np.float32))[:, None]
    places = functional.affine_grid(
        torch.from_numpy(_affine(count, strength, rng)),
        [count, 1, height, width],
        align_corners=False,
    )
    # Places run from -1 to 1, so a side is 2 long.
    knots = 2 * strength * _BEND * rng.standard_normal((count, 2, _KNOTS, _KNOTS))
    bend = functional.interpolate(
        torch.from_numpy(knots.astype(np.float32)),
        size=(height, width),
        mode="bicubic",
        align_corners=True,
    )
    moved = functional.grid_sample(
        values, places + bend.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    return np.asarray(np.rint(moved[:, 0].numpy()).astype(images.dtype))


def _affine(count: int, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw maps from places in the moved image to places in the image (N, 2, 3)."""

    def draw(most: float, *shape: int) -> NDArray[np.float64]:
        return rng.uniform(-strength * most, strength * most, (count, *shape))

    angle, slant, stretch = draw(_TURN), draw(_SLANT), np.exp(draw(_STRETCH, 2))
    maps = np.empty((count, 2, 3), dtype=np.float32)
    maps[:, 0, 0] = np.cos(angle) * stretch[:, 0]
    maps[:, 0, 1] = slant - np.sin(angle)
    maps[:, 1, 0] = np.sin(angle)
    maps[:, 1, 1] = np.cos(angle) * stretch[:, 1]
    maps[:, :, 2] = draw(2 * _SHIFT, 2)
    return maps
