"""Covariances of cells from their noised second moments: each leans on its label's, that on all.

Post-processing of released tables: it costs nothing and sees no record. What a cell's moment says
beyond its label's is kept as far as the known noise leaves it believable, entry by entry: entries
between directions that vary much say more above the same noise than those between faint ones.
"""

import numpy as np
from numpy.typing import NDArray

from training.shrinkage import shrunk_spectrum
from training.spectrum import Array

_LEAST_SCALE, _MOST_SCALE = 0.2, 3.0  # of a cell's variance, in its label's


def cell_factors(sums: Array, counts: Array, *, noise: float) -> Array:
    """Return factors of covariances (factor times its transpose), cell by cell.

    Shapes: sums (L, C, R, R) of second moments with noise of deviation `noise` on the diagonal and
    1 / √2 of it elsewhere, counts (L, C) -> (L, C, R, R).
    """
    labels, cells, size = sums.shape[:3]
    own = counts.sum(axis=1)
    pooled = sums.sum(axis=(0, 1)) / own.sum()
    values, vectors = shrunk_spectrum(pooled, noise * np.sqrt(labels * cells) / own.sum())
    if len(values) == 0:
        return np.zeros_like(sums)
    turned = vectors.T @ sums @ vectors
    base = np.broadcast_to(np.diag(values), (labels, len(values), len(values)))
    by_label = _leaning(turned.sum(axis=1), own, base, noise=noise * np.sqrt(cells), spread=values)
    flat, n = turned.reshape(-1, len(values), len(values)), counts.ravel()
    by_cell = _leaning(flat, n, np.repeat(by_label, cells, axis=0), noise=noise, spread=values)
    power, turns = np.linalg.eigh(by_cell)
    factors = np.zeros((labels * cells, size, size))
    factors[:, :, : len(values)] = vectors @ (turns * np.sqrt(np.maximum(power, 0.0))[:, None])
    return factors.reshape(sums.shape)


def _leaning(sums: Array, counts: Array, base: Array, *, noise: float, spread: Array) -> Array:
    """Return matrices (K, R, R) between `base`, scaled to each one's size, and their own."""
    moments, deviation = sums / counts[:, None, None], noise / counts
    scale = np.trace(moments, axis1=1, axis2=2) / np.trace(base, axis1=1, axis2=2)
    base = np.clip(scale, _LEAST_SCALE, _MOST_SCALE)[:, None, None] * base
    rest = moments - base
    entry = np.sqrt(np.outer(spread, spread))
    known = deviation[:, None, None] ** 2 * (0.5 + 0.5 * np.eye(len(spread)))
    groups = _entry_groups(len(spread))
    signal = np.zeros_like(entry)
    for group in np.unique(groups):
        inside = groups == group
        excess = ((rest**2 - known) / entry**2)[:, inside]
        weight = (entry**4 / known**2)[:, inside]
        signal[inside] = max(float((excess * weight).sum() / weight.sum()), 0.0)
    believable = signal * entry**2
    return np.asarray(base + believable / (believable + known) * rest)


def _entry_groups(size: int) -> NDArray[np.int64]:
    """Group a matrix's entries by octaves of their later direction, the diagonal apart (R, R)."""
    rows, columns = np.mgrid[0:size, 0:size]
    octave = np.floor(np.log2(1.0 + np.maximum(rows, columns))).astype(np.int64)
    return np.asarray(np.where(rows == columns, -1 - octave, octave))
