"""How far apart are the counts of two tables, for one, two and three columns at a time?

The distance of two tables on some columns is the total variation distance of their shares: half the
sum of absolute differences, 0 for alike, 1 for disjoint. Nothing is at distance 0 from a finite sample, so
three lines stand beside every distance: other real persons, the same persons drawn again, and columns
drawn independently, which a generator must beat.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.utility.tables.material import Floats, Rows

WAYS = (1, 2, 3)
MOST_COMBINATIONS = 3000
_MOST_CELLS = 1_000_000  # counted in an array; more are counted by what occurs
_CHOICE_SEED = 20_261_123  # which combinations are measured where there are too many


class Distance(BaseModel):
    """Total variation over all (or some) combinations of `way` columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    way: int
    mean: float
    max: float
    worst: tuple[str, ...]  # the columns of the largest distance
    measured: int
    possible: int


def chosen_combinations(
    columns: int, way: int, *, most: int = MOST_COMBINATIONS
) -> list[tuple[int, ...]]:
    """Return all combinations of columns, or `most` of them, the same ones at every call."""
    possible = math.comb(columns, way)
    if possible <= most:
        return list(combinations(range(columns), way))
    rng = np.random.default_rng(_CHOICE_SEED)
    found: set[tuple[int, ...]] = set()
    while len(found) < most:
        found.add(tuple(sorted(rng.choice(columns, way, replace=False).tolist())))
    return sorted(found)


def compare(
    real: Rows,
    others: Mapping[str, Rows],
    *,
    names: Sequence[str],
    sizes: Sequence[int],
    ways: Sequence[int] = WAYS,
    most: int = MOST_COMBINATIONS,
) -> dict[str, tuple[Distance, ...]]:
    """Return, for each other table, its distance from `real` for each number of columns."""
    keys = {name: rows.codes.astype(np.int64) for name, rows in others.items()}
    own, own_weights = real.codes.astype(np.int64), real.weights
    weights = {name: rows.weights for name, rows in others.items()}
    found: dict[str, list[Distance]] = {name: [] for name in others}
    for way in (way for way in ways if way <= len(sizes)):
        chosen = chosen_combinations(len(sizes), way, most=most)
        values = {name: np.empty(len(chosen)) for name in others}
        for place, columns in enumerate(chosen):
            cells = math.prod(sizes[column] for column in columns)
            mine = _cells(own, columns, sizes)
            for name, codes in keys.items():
                theirs = _cells(codes, columns, sizes)
                values[name][place] = variation(
                    (mine, own_weights), (theirs, weights[name]), cells=cells
                )
        for name in others:
            worst = int(values[name].argmax())
            found[name].append(
                Distance(
                    way=way,
                    mean=float(values[name].mean()),
                    max=float(values[name][worst]),
                    worst=tuple(names[column] for column in chosen[worst]),
                    measured=len(chosen),
                    possible=math.comb(len(sizes), way),
                )
            )
    return {name: tuple(one) for name, one in found.items()}


def variation(
    one: tuple[NDArray[np.int64], Floats], other: tuple[NDArray[np.int64], Floats], *, cells: int
) -> float:
    """Return the total variation distance of two weighted sets of cells numbered below `cells`."""
    (first, first_weights), (second, second_weights) = one, other
    if cells > _MOST_CELLS:
        occur, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
        first, second = np.split(numbers.reshape(-1), [len(first)])
        cells = len(occur)
    shares = np.bincount(first, weights=first_weights, minlength=cells)
    others = np.bincount(second, weights=second_weights, minlength=cells)
    return float(0.5 * np.abs(shares - others).sum())


def _cells(
    codes: NDArray[np.int64], columns: Sequence[int], sizes: Sequence[int]
) -> NDArray[np.int64]:
    """Number the combination of codes in each row. Shapes: (N, all columns) -> (N,)."""
    number = codes[:, columns[0]]
    for column in columns[1:]:
        number = number * sizes[column] + codes[:, column]
    return number
