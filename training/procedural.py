"""Procedural images that belong to nobody: what a network may see for free before any record.

*Dead leaves*: discs, bars and gradients that cover each other. Their edges and flat regions follow
the statistics of pictures in general (Lee, Mumford and Huang 2001), so a network that learns to
denoise them starts DP-SGD knowing what an edge is. `like` gives them the noised first and second
moments of a fitted Gaussian, so that they differ from its draws only in what a Gaussian cannot say.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from training.class_gaussian import ClassGaussian
from training.spectrum import Array, radial_frequency, to_coefficients

_LEAVES = 48
_SMALLEST, _LARGEST = 0.03, 0.6  # of the image's shorter side


class LeafPool:
    """A pool of dead-leaves images in cosine coefficients, shaped to a Gaussian's second moment."""

    def __init__(
        self, count: int, *, model: ClassGaussian, schema: DatasetSchema, rng: np.random.Generator
    ) -> None:
        images = dead_leaves(count, height=schema.height, width=schema.width, rng=rng)
        leaves = to_coefficients(images)
        ring = np.rint(radial_frequency(schema)).astype(np.int64)
        size = np.maximum(np.bincount(ring), 1)
        power = np.bincount(ring, weights=np.square(leaves).mean(axis=0)) / size
        self._gain = np.sqrt(model.residual_variance / np.maximum(power[ring], 1e-9))
        self._leaves = leaves.astype(np.float32)
        # Turning the sign of odd frequencies mirrors an image: three more from each for nothing.
        rows, columns = np.mgrid[0 : schema.height, 0 : schema.width]
        self._mirrors = np.stack(
            [np.ones(rows.size), (-1.0) ** rows.ravel(), (-1.0) ** columns.ravel()]
        )
        self._smooth = replace(model, residual_variance=np.zeros_like(model.residual_variance))
        self._rng = rng

    def draw(self, labels: NDArray[np.integer]) -> Array:
        """Draw coefficients with the Gaussian's low part and leaves for the rest. Shapes: (M, D)."""
        chosen = self._rng.integers(len(self._leaves), size=len(labels))
        strength = self._rng.uniform(0.3, 1.7, size=(len(labels), 1))
        mirrors = self._mirrors[self._rng.integers(len(self._mirrors), size=len(labels))]
        leaves = strength * mirrors * self._leaves[chosen] * self._gain
        return np.asarray(self._smooth.draw(labels, self._rng) + leaves)


def dead_leaves(
    count: int, *, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw images of overlapping discs and bars with shaded insides, in [-0.5, 0.5] (N, H, W)."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    images = _shade(count, rows, columns, rng)
    side = min(height, width)
    for _ in range(_LEAVES):
        # Radii fall as 1 / r³, which makes the picture look the same at every scale.
        low, high = _SMALLEST**-2, _LARGEST**-2
        radius = side * (high + (low - high) * rng.random((count, 1, 1))) ** -0.5
        stretch = np.where(rng.random((count, 1, 1)) < 0.5, 1.0, rng.uniform(1, 6, (count, 1, 1)))
        angle = rng.uniform(0, np.pi, (count, 1, 1))
        down = rows - rng.uniform(0, height, (count, 1, 1))
        across = columns - rng.uniform(0, width, (count, 1, 1))
        along = (np.cos(angle) * across + np.sin(angle) * down) / stretch
        away = np.cos(angle) * down - np.sin(angle) * across
        cover = np.clip(radius - np.hypot(along, away) + 0.5, 0.0, 1.0)
        images = images + cover * (_shade(count, rows, columns, rng) - images)
    return np.asarray(images, dtype=np.float32)


def _shade(
    count: int, rows: NDArray[np.float32], columns: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    level, down, across = rng.uniform(-0.4, 0.4, (3, count, 1, 1)) * np.array(
        [1.0, 0.3, 0.3]
    ).reshape(3, 1, 1, 1)
    shade = level + down * (rows / rows.shape[0] - 0.5) + across * (columns / rows.shape[1] - 0.5)
    return np.asarray(shade, dtype=np.float32)
