"""Rows drawn from a fitted model, clique by clique down the junction tree.

Within each group of rows that agree on a separator, the rest of a clique is drawn systematically:
the group's ranks, in random order and with one random offset, are looked up in the cumulated
conditional. Every row has the model's distribution, and the counts of a drawn table stay within
about one of what the model expects, which independent draws would not (their scatter would be added to the
noise for nothing). Given the model's marginals of all pairs, rows of a group then exchange what they drew until
pairs of columns that share no clique agree with them as well (`balancing.py`), unless fewer than 40 are drawn.
Rows that break a constraint too large for the model's tables are drawn again, a handful of them unbalanced.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.table_records import Codes
from training.tables.balancing import balance, passes_for
from training.tables.beliefs import Table
from training.tables.junction_trees import Clique, JunctionTree
from training.tables.measurements import Vector
from training.tables.pairs import Pair

Places = NDArray[np.int64]
Broken = Callable[[Codes], NDArray[np.bool_]]

# Positions are multiples of this, so that group number + position is exact in float64.
_POSITIONS = 2.0**-32
_MOST_ATTEMPTS = 100


def draw(
    tree: JunctionTree,
    beliefs: Sequence[Table],
    sizes: Sequence[int],
    *,
    count: int,
    rng: np.random.Generator,
    pairs: Mapping[Pair, Table] | None = None,
) -> Codes:
    """Draw rows from the model whose clique marginals are `beliefs`. Shapes: result (count, D).

    With `pairs`, the model's shares of all pairs of columns, drawn rows are balanced towards them where
    there are enough of them.
    """
    rows = np.zeros((count, len(sizes)), dtype=np.int16)
    if count == 0:
        return rows
    passes = 0 if pairs is None else passes_for(count, len(sizes))
    known: list[int] = []
    for clique, shared, belief in zip(tree.cliques, tree.separators, beliefs, strict=True):
        fresh = tuple(column for column in clique if column not in shared)
        if not fresh:
            continue
        order = [clique.index(column) for column in (*shared, *fresh)]
        groups = int(np.prod([sizes[c] for c in shared], dtype=np.int64))
        conditional = belief.transpose(order).reshape(groups, -1)
        group = _flat(rows, shared, sizes)
        cells = _draw_cells(conditional, group, rng)
        for column in reversed(fresh):
            cells, rows[:, column] = np.divmod(cells, sizes[column])
        earlier = tuple(column for column in known if column not in shared)
        if pairs is not None and passes and earlier:
            balance(
                rows,
                group,
                fresh=fresh,
                earlier=earlier,
                wanted=pairs,
                sizes=sizes,
                passes=passes,
                rng=rng,
            )
        known += fresh
    return rows


def draw_allowed(drawn: Callable[[Places], Codes], is_broken: Broken, *, count: int) -> Codes:
    """Draw rows until `count` of them break nothing; `drawn` is told the places of the rows (N,).

    Raises: InvalidParameter if nearly all rows break something.
    """
    rows = drawn(np.arange(count))
    for _ in range(_MOST_ATTEMPTS):
        broken = np.flatnonzero(is_broken(rows))
        if len(broken) == 0:
            return rows
        rows[broken] = drawn(broken)
    raise InvalidParameter(
        f"Drawing rows was refused: after {_MOST_ATTEMPTS} attempts {len(broken)} of {count} still "
        "break a constraint. Look for constraints that contradict each other, or name fewer columns."
    )


def _draw_cells(
    conditional: Table, group: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return for each row a cell of the rest of its clique. Shapes: (G, R), (N,) -> (N,)."""
    groups, cells = conditional.shape
    totals: Vector = conditional.sum(axis=1, keepdims=True)
    shares: Vector = np.divide(
        conditional, totals, out=np.full_like(conditional, 1.0 / cells), where=totals > 0
    )
    levels: Vector = np.cumsum(shares, axis=1)
    levels = levels / levels[:, -1:] + np.arange(groups)[:, None]
    position = even_positions(group, groups=groups, rng=rng)
    found = np.searchsorted(levels.ravel(), group + position, side="right")
    within: NDArray[np.int64] = found - group * cells
    return within


def even_positions(
    group: NDArray[np.integer], *, groups: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a position in [0, 1) for each row, spread evenly within its group. Shapes: (N,) -> (N,).

    Each position alone is uniform; those of a group are its rows' ranks in random order, with one
    random offset.
    """
    members = np.bincount(group, minlength=groups)
    # Ranks in random order: shuffled first, then grouped without disturbing that order.
    shuffled = rng.permutation(len(group))
    order = shuffled[np.argsort(group[shuffled], kind="stable")]
    starts = np.cumsum(members) - members
    rank: Vector = np.empty(len(group))
    rank[order] = np.arange(len(group)) - np.repeat(starts, members)
    offset: Vector = rng.random(size=(groups,))
    position = (rank + offset[group]) / members[group]
    position = np.floor(position / _POSITIONS) * _POSITIONS
    result: Vector = np.minimum(position, 1.0 - _POSITIONS)
    return result


def _flat(rows: Codes, columns: Clique, sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the flat index of each row's codes in some columns. Shapes: (N, D) -> (N,)."""
    index = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        index *= sizes[column]
        index += rows[:, column]
    return index
