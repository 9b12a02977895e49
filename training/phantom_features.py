"""Map images to features by a fixed public rule: brightness, contrast, low-frequency structure.

Structure is that of the image made mean 0 and deviation 1, in cosine coefficients. Centre, spread
and weights are measured on phantoms of the public prior, never on records; a coefficient weighs as
much as its variation over phantoms is the knee's and not the grain's.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from training.phantom_evolution import first_candidates
from training.phantoms.prior import Prior
from training.records import Float
from training.spectrum import to_coefficients

Features = NDArray[np.float32]

_FREQUENCIES = 24  # per axis: over 90 mm, a joint space of 4 mm is one half wave
_KNEES, _SEED = 400, 20261123
# What the squared distance between two knees of the prior is made of, on average.
_BRIGHTNESS, _CONTRAST, _STRUCTURE = 0.30, 0.15, 0.55
_FARTHEST = 4.0  # standard deviations; what is stranger than that counts no more
_LEAST_CONTRAST = 0.02  # of full scale; keeps a blank image from being divided by nothing


@dataclass(frozen=True, eq=False)
class Embedding:
    """A fixed public map; one number per feature in each array."""

    centre: Features
    spread: Features
    weight: Features

    @classmethod
    def of(cls, schema: DatasetSchema, *, prior: Prior) -> Self:
        """Measure the map on phantoms of the prior: public, and the same every time."""
        rng = np.random.default_rng(_SEED)
        count = _KNEES // len(schema.labels) + 1
        knees = first_candidates(count, schema=schema, prior=prior, rng=rng)
        one, other = (
            _raw(knees.render(schema, rng).reshape(-1, schema.height, schema.width))
            for _ in range(2)  # the same knees in another grain
        )
        total = np.maximum(one.var(axis=0), 1e-12)
        grain = 0.5 * np.square(one - other).mean(axis=0)
        reliable = np.clip(1 - grain / total, 0, 1)
        weight = np.sqrt(_STRUCTURE / np.square(reliable[2:]).sum()) * reliable
        weight[:2] = np.sqrt([_BRIGHTNESS, _CONTRAST])
        return cls(one.mean(axis=0), np.sqrt(total), weight.astype(np.float32))

    def __call__(self, images: Float) -> Features:
        """Return the features of images in [-0.5, 0.5]. Shapes: (N, H, W) -> (N, F)."""
        scores = (_raw(images) - self.centre) / self.spread
        # Brightness and contrast are bounded by the pixels; structure is bounded here.
        scores[:, 2:] = np.clip(scores[:, 2:], -_FARTHEST, _FARTHEST)
        return np.asarray(scores * self.weight, dtype=np.float32)


def _raw(images: Float) -> Features:
    """Return mean, deviation and standardised low frequencies. Shapes: (N, H, W) -> (N, F)."""
    count, height, width = images.shape
    flat = images.reshape(count, height * width)
    mean, deviation = flat.mean(axis=1), flat.std(axis=1)
    divisor = np.maximum(deviation, _LEAST_CONTRAST)[:, None, None]
    coefficients = to_coefficients((images - mean[:, None, None]) / divisor)
    rows, columns = np.mgrid[0:height, 0:width]
    kept = np.flatnonzero(((rows < _FREQUENCIES) & (columns < _FREQUENCIES)).ravel())[1:]
    return np.column_stack([mean, deviation, coefficients[:, kept]]).astype(np.float32)
