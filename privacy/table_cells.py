"""How surely one row of a table is another one, noised: agreement in rare cells says more than in common ones.

The likelihood that a row is a noised copy of another one, over the likelihood that it agrees with it by
chance, is a product over columns: a kernel of width 0.05 standard deviations (what numbers may be off by)
over the share of rows that lie as near (what agreeing is worth: -log p under the marginal). A small
chance that a cell was taken from elsewhere keeps one column from deciding alone.

    cost(s, x) = sum over columns of  log ratio(s, s) - log ratio(s, x)      >= 0, in nats

How near somebody *else* lies decides whether a low cost means anything: see `crowding`. Everything is
counted over rows of all arms alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

WIDTH = 0.05
"""Of a column's standard deviation: how far off a copied number may be."""
ELSEWHERE = 0.01
"""The chance that a cell of a copy was taken from another row."""
TEMPER = 0.35
"""Costs weigh this much where the density of others is meant: a kernel of 1.7 times the width."""
_MOST_CELLS = 512
_LARGEST = 80.0  # exponents beyond it are as good as infinite


@dataclass(frozen=True, eq=False)
class CellCosts:
    """What it costs to call a cell another one: per column its values (cells,) and (cells, cells) costs."""

    values: tuple[Floats, ...]
    costs: tuple[NDArray[np.float32], ...]

    def codes(self, rows: NDArray[np.generic]) -> NDArray[np.int16]:
        """Return (columns, rows) the nearest cell of every value."""
        found = np.empty((len(self.values), len(rows)), dtype=np.int16)
        for column, values in enumerate(self.values):
            middles = (values[1:] + values[:-1]) / 2
            found[column] = np.searchsorted(middles, rows[:, column].astype(np.float64))
        return found

    def between(
        self, queries: NDArray[np.int16], records: NDArray[np.int16]
    ) -> NDArray[np.float32]:
        """Return (queries, records) costs of codes."""
        total = np.zeros((queries.shape[1], records.shape[1]), dtype=np.float32)
        for costs, mine, theirs in zip(self.costs, queries, records, strict=True):
            total += costs[mine].take(theirs, axis=1)
        return total


def cell_costs(known: NDArray[np.generic]) -> CellCosts:
    """Return the costs of cells by how often values occur in `known` rows, blind to arms."""
    values, costs = [], []
    for column in known.T:
        own, table = _column(column.astype(np.float64))
        values.append(own)
        costs.append(table)
    return CellCosts(tuple(values), tuple(costs))


def _column(column: Floats) -> tuple[Floats, NDArray[np.float32]]:
    """Return the cells of one column and their costs: distinct values, or stretches of half a width."""
    spread = float(column.std()) or 1.0
    width = WIDTH * spread / 2
    cells = np.unique(column)
    while len(cells) > _MOST_CELLS:
        cells = np.unique(np.round(column / width)) * width
        width *= 2
    middles = (cells[1:] + cells[:-1]) / 2
    shares = np.bincount(np.searchsorted(middles, column), minlength=len(cells)) / len(column)
    kernel = np.exp(-0.5 * ((cells[:, None] - cells) / (WIDTH * spread)) ** 2)
    by_chance = np.maximum(kernel @ shares, 1 / (2 * len(column)))
    log_ratio = np.log((1 - ELSEWHERE) * kernel / by_chance[:, None] + ELSEWHERE)
    return cells, (np.diagonal(log_ratio)[:, None] - log_ratio).astype(np.float32)


def crowding(first: Floats, others: Floats) -> Floats:
    """Return (rows,) by chance over by copy: the density of everybody else at a row, over the copy's.

    Shapes: first (rows,) the lowest cost; others (rows, persons) the costs of everybody else, infinite
    for who is not there. Small for a copy, wherever it lies: unlike the ratio of two nearest ones it
    knows how many others are near, and how near a copy must be.
    """
    present = np.isfinite(others).sum(axis=1)
    density = np.exp(-TEMPER * others).sum(axis=1) / np.maximum(present, 1)
    logarithm = first + np.log(np.maximum(density, np.exp(-_LARGEST)))
    return np.asarray(np.exp(np.clip(logarithm, -_LARGEST, _LARGEST)))
