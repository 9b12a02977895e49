"""Pull noised means and eigenvalues towards what their known noise leaves believable.

Post-processing of released tables: it costs nothing and sees no record.
"""

import numpy as np
from numpy.typing import NDArray

from training.spectrum import Array


def shrink_table(raw: Array, spread: Array, bands: NDArray[np.int64]) -> Array:
    """Pull means towards a sum of one effect per axis, band by band, by their known noise.

    Shapes: raw (A, B, ..., K) with one axis for each of what tells cells apart (label, side; or each
    column that a cell is made of), spread (A, B, ...), bands (K,).
    """
    weights = 1.0 / spread**2
    every = tuple(range(spread.ndim))
    overall = _pool(raw, weights, axes=every)
    additive = wiener(overall[None], np.array([weights.sum() ** -0.5]), bands)[0]
    for axis in every:
        others = tuple(other for other in every if other != axis)
        effect = _pool(raw, weights, axes=others) - overall
        noise = weights.sum(axis=others) ** -0.5
        shape = [-1 if other == axis else 1 for other in every]
        additive = additive + wiener(effect, noise, bands).reshape(*shape, raw.shape[-1])
    rest = (raw - additive).reshape(-1, raw.shape[-1])
    return np.asarray(additive + wiener(rest, spread.ravel(), bands).reshape(raw.shape))


def _pool(raw: Array, weights: Array, *, axes: tuple[int, ...]) -> Array:
    summed = weights.sum(axis=axes)
    return np.asarray((raw * weights[..., None]).sum(axis=axes) / summed[..., None])


def wiener(values: Array, spread: Array, bands: NDArray[np.int64]) -> Array:
    """Scale rows (R, K) in each band by signal / (signal + noise); their signal is shared."""
    result = np.zeros_like(values)
    for band in np.unique(bands):
        inside = bands == band
        power = np.square(values[:, inside]).mean(axis=1)
        weights = 1.0 / spread**4
        signal = max(float(((power - spread**2) * weights).sum() / weights.sum()), 0.0)
        # Two standard errors of the noise's power, or a lone noisy row would keep its own noise.
        own = np.maximum(power - spread**2 * (1 + 2 * np.sqrt(2 / inside.sum())), 0.0)
        gain = np.maximum(signal, 0.5 * own) / (np.maximum(signal, 0.5 * own) + spread**2)
        result[:, inside] = gain[:, None] * values[:, inside]
    return result


def shrunk_spectrum(moment: Array, spread: float) -> tuple[Array, Array]:
    """Return eigenvalues with the noise's share removed, and their vectors; pure noise is dropped.

    Off-diagonal noise has standard deviation spread / sqrt(2), so noise alone has eigenvalues up to
    `edge`; above it, (λ + sqrt(λ² - edge²)) / 2 undoes the mean push (Benaych-Georges 2011).
    """
    values, vectors = np.linalg.eigh(moment)
    edge = np.sqrt(2.0 * len(moment)) * spread
    kept = values > edge
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    return (values + np.sqrt(values**2 - edge**2)) / 2.0, vectors
