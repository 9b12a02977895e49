"""A mixture of Gaussians in each label: draw from it, and its density."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from training.checkpoints import Arrays
from training.spectrum import Array

_FLOOR = 1e-3  # share of the mean variance that every direction has at least


@dataclass(frozen=True, eq=False)
class Mixture:
    """Cells of images; every label has the same number of its own, each with a covariance.

    weights (L, C) add up to 1 in each label; means (L, C, R); factors (L, C, R, R), where factor
    times its transpose is the covariance; directions (R, D) turn the R numbers into cosine
    coefficients away from `reference` (D,); rulers (R, D) measure them; residual_variance (D,) is
    of what no direction tells.
    """

    weights: Array
    means: Array
    factors: Array
    directions: Array
    rulers: Array
    reference: Array
    residual_variance: Array

    def __post_init__(self) -> None:
        """Keep what single precision holds, so that a stored mixture draws the same images."""
        for field in fields(self):
            stored = np.asarray(getattr(self, field.name), dtype=np.float32)
            object.__setattr__(self, field.name, stored.astype(np.float64))

    def state(self) -> Arrays:
        """Return the arrays, by field name; in single precision, since factors are many."""
        return {f.name: np.asarray(getattr(self, f.name), dtype=np.float32) for f in fields(self)}

    @classmethod
    def from_state(cls, state: Arrays) -> "Mixture":
        """Rebuild from arrays named by field."""
        return cls(**{f.name: state[f.name].astype(np.float64) for f in fields(cls)})

    def draw(
        self, labels: NDArray[np.integer], rng: np.random.Generator, *, texture: float
    ) -> Array:
        """Draw coefficients for labels. Shapes: (M,) -> (M, D)."""
        shares = np.cumsum(self.weights, axis=1)[labels]
        cell = (rng.random((len(labels), 1)) * shares[:, -1:] > shares).sum(axis=1)
        normal = rng.standard_normal((len(labels), self.means.shape[-1]))
        values = self.means[labels, cell]
        for label, place in np.unique(np.stack([labels, cell], axis=1), axis=0):
            inside = (labels == label) & (cell == place)
            values[inside] += normal[inside] @ self.factors[label, place].T
        grain = rng.standard_normal((len(labels), len(self.reference)))
        return self._shown(values, grain, texture=texture)

    def redraw(self, coefficients: Array, grain: Array, *, texture: float) -> Array:
        """Return each image as the mixture could have drawn it: its place along the directions, and grain.

        Shapes: (N, D), standard normal (N, D) -> (N, D).
        """
        values = (coefficients - self.reference) @ self.rulers.T
        return self._shown(values, grain, texture=texture)

    def _shown(self, values: Array, grain: Array, *, texture: float) -> Array:
        rest = grain * (texture * np.sqrt(self.residual_variance))
        return np.asarray(self.reference + values @ self.directions + rest)

    def log_density(self, coefficients: Array, labels: NDArray[np.integer]) -> Array:
        """Return log p(image | label) up to a constant (N,)."""
        away = coefficients - self.reference
        values = away @ self.rulers.T
        rest = away - values @ self.directions
        noise = self.residual_variance + 0.1 * float(self.residual_variance.mean()) + 1e-9
        result = -0.5 * np.square(rest) @ (1.0 / noise)
        for label in np.unique(labels):
            inside = labels == label
            logs = [self._log_cell(values[inside], label, c) for c in range(self.means.shape[1])]
            result[inside] += np.logaddexp.reduce(np.stack(logs), axis=0)
        return np.asarray(result)

    def _log_cell(self, values: Array, label: int, cell: int) -> Array:
        factor = self.factors[label, cell]
        variances, vectors = np.linalg.eigh(factor @ factor.T)
        variances = np.maximum(variances, 0.0) + _FLOOR * max(float(variances.mean()), 1e-9)
        inside = (values - self.means[label, cell]) @ vectors
        weight = np.log(max(float(self.weights[label, cell]), 1e-9))
        return np.asarray(
            weight - 0.5 * np.log(variances).sum() - 0.5 * np.square(inside) @ (1 / variances)
        )
