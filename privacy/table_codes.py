"""Columns of a table in few codes each, and counts of them, for audits that look at marginals.

Bins come from rows of the population, blind to arms: nothing here depends on who was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

_BLOCK_FLOATS = 4_000_000


@dataclass(frozen=True)
class Coder:
    """Inner bounds of the bins of every column: (bins - 1,) each."""

    bounds: tuple[Floats, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many codes each column has."""
        return tuple(len(bounds) + 1 for bounds in self.bounds)

    def codes(self, rows: NDArray[np.generic]) -> Ints:
        """Return (rows, columns) codes."""
        found = np.empty(rows.shape, dtype=np.int32)
        for column, bounds in enumerate(self.bounds):
            values = rows[:, column].astype(np.float64)
            found[:, column] = np.searchsorted(bounds, values, side="right")
        return found

    def indicators(self, codes: Ints) -> NDArray[np.float32]:
        """Return (rows, all codes) float32, a one for the code of every column."""
        ends = np.cumsum(self.sizes)
        found = np.zeros((len(codes), int(ends[-1])), dtype=np.float32)
        found[np.arange(len(codes))[:, None], codes + (ends - self.sizes)] = 1.0
        return found


def coder_of(known: NDArray[np.generic], *, most: int) -> Coder:
    """Return bins of about equally many `known` rows; columns with few values keep all of them."""
    bounds: list[Floats] = []
    for column in known.T:
        values = np.unique(column.astype(np.float64))
        if len(values) <= most:
            bounds.append((values[1:] + values[:-1]) / 2)
            continue
        cuts = np.quantile(column.astype(np.float64), np.arange(1, most) / most)
        bounds.append(np.unique(cuts[cuts > values[0]]))
    return Coder(tuple(bounds))


def column_sets(columns: int, *, size: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Return the sets of `size` columns, at most `most` of them, spread evenly and always the same."""
    every = list(combinations(range(columns), size)) if columns <= 64 else []
    if not every:  # too many to list: runs of neighbours and strides through the table
        every = [
            tuple(sorted((start + step * i) % columns for i in range(size)))
            for step in (1, 7, 19)
            for start in range(columns)
        ]
    if len(every) <= most:
        return tuple(every)
    return tuple(every[i] for i in np.linspace(0, len(every) - 1, most).astype(int))


def cells_of(codes: Ints, columns: Sequence[int], sizes: Sequence[int]) -> Ints:
    """Return (rows,) the number of each row's combination of codes in `columns`."""
    cells = np.zeros(len(codes), dtype=np.int64)
    for column in columns:
        cells = cells * sizes[column] + codes[:, column]
    return cells


def counts_at(cells: Ints, among: Ints) -> Ints:
    """Return how often each of `cells` (n,) occurs in `among` (m,)."""
    ordered = np.sort(among)
    found = np.searchsorted(ordered, cells, side="right")
    return np.asarray(found - np.searchsorted(ordered, cells, side="left"))


def nearest_points(targets: Floats, points: Floats, *, count: int) -> Ints:
    """Return (targets, count) which of `points` are nearest, in no order; Euclid, block by block."""
    points = points.astype(np.float32)
    squares, count = (points**2).sum(axis=1), min(count, len(points))
    found = np.empty((len(targets), count), dtype=np.int64)
    step = max(1, _BLOCK_FLOATS // max(1, len(points)))
    for start in range(0, len(targets), step):
        gaps = squares - 2 * targets[start : start + step].astype(np.float32) @ points.T
        nearest = np.argpartition(gaps, count - 1, axis=1) if count > 1 else gaps.argmin(axis=1)
        found[start : start + step] = nearest.reshape(len(gaps), -1)[:, :count]
    return found
