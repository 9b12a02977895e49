"""Weighted marginals of a table, and the same with noise.

A marginal counts the weight of the rows in each combination of some columns' codes. A person's rows
weigh 1 together (`training.table_records`), so adding or removing a person changes it by at most 1
in L2 norm, whatever the rows hold.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_ROWS_AT_ONCE = 1 << 18


def marginal(
    codes: NDArray[np.integer],
    columns: Sequence[int],
    *,
    sizes: Sequence[int],
    weights: Vector | None = None,
) -> Vector:
    """Return the weight in each cell of some columns, as a flat table in C order. PRIVATE.

    Shapes: codes (N, D), weights (N,) -> (product of the columns' sizes,). Without weights, each
    row counts 1.
    """
    shape = tuple(sizes[column] for column in columns)
    cells = int(np.prod(shape))
    total = np.zeros(cells)
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        index = np.zeros(len(codes[block]), dtype=np.int64)
        for column, size in zip(columns, shape, strict=True):
            index *= size
            index += codes[block, column]
        weight = None if weights is None else weights[block]
        total += np.bincount(index, weights=weight, minlength=cells)
    return total


def on_simplex(values: Vector) -> Vector:
    """Return the nearest non-negative vector that adds up to 1 (Duchi et al. 2008).

    Shapes: (P,) -> (P,).
    """
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1.0) / np.arange(1, len(values) + 1)
    kept = int(np.flatnonzero(ordered > excess)[-1]) if np.isfinite(ordered).all() else 0
    nearest: Vector = np.maximum(values - excess[kept], 0.0)
    return nearest
