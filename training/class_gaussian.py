"""The class-conditional Gaussian that noised moments describe: draw from it, and its density."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from training.checkpoints import Arrays
from training.spectrum import Array

SIDES = 2
_LONGEST_DRAWN = 1.6  # times the typical length


@dataclass(frozen=True, eq=False)
class ClassGaussian:
    """A Gaussian per label and side with shared covariance, in cosine coefficients (H·W = D).

    counts (L, S) noised persons; means (L, S, D); components (R, D) orthonormal, with variances
    (R,); residual_variance (D,) of what lies outside them; length_scales and length_weights (B,):
    how much longer or shorter than typical a deviation is, and how often.
    """

    counts: Array
    means: Array
    components: Array
    variances: Array
    residual_variance: Array
    length_scales: Array
    length_weights: Array

    def state(self) -> Arrays:
        """Return the arrays, by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state(cls, state: Arrays) -> "ClassGaussian":
        """Rebuild from arrays named by field."""
        return cls(**{f.name: np.asarray(state[f.name], dtype=np.float64) for f in fields(cls)})

    def side_weights(self) -> Array:
        """Return how often each side occurs within each label, from the noised counts (L, S)."""
        positive = np.maximum(self.counts, 1.0)
        return np.asarray(positive / positive.sum(axis=1, keepdims=True))

    def draw(self, labels: NDArray[np.integer], rng: np.random.Generator) -> Array:
        """Draw coefficients for labels. Shapes: (M,) -> (M, D)."""
        sides = (rng.random(len(labels)) > self.side_weights()[labels, 0]).astype(np.int64)
        # A rare long deviation is often noise in the histogram, and makes a picture of noise.
        lengths = np.minimum(self.length_scales, _LONGEST_DRAWN)
        scales = rng.choice(lengths, size=len(labels), p=self.length_weights)
        deviation = rng.standard_normal((len(labels), len(self.variances)))
        deviation = (deviation * np.sqrt(self.variances)) @ self.components
        rest = rng.standard_normal((len(labels), self.means.shape[-1]))
        deviation += rest * np.sqrt(self.residual_variance)
        return np.asarray(self.means[labels, sides] + scales[:, None] * deviation)

    def log_density(self, coefficients: Array, labels: NDArray[np.integer]) -> Array:
        """Return log p(image | label) up to a constant, of the Gaussian parts. Shapes: (N,)."""
        logs = [
            self._squared_length(coefficients - self.means[labels, side]) * -0.5
            + np.log(self.side_weights()[labels, side])
            for side in range(SIDES)
        ]
        return np.asarray(np.logaddexp.reduce(np.stack(logs), axis=0))

    def _squared_length(self, deviation: Array) -> Array:
        floor = 1e-8 + float(self.residual_variance.mean())
        noise = self.residual_variance + 0.1 * floor
        inside = deviation @ self.components.T
        rest = deviation - inside @ self.components
        return np.asarray(
            (inside**2 / (self.variances + floor)).sum(axis=1) + (rest**2 / noise).sum(axis=1)
        )
