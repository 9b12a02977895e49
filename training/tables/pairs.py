"""Two-way marginals of a fitted model, exact for every pair of columns.

For a column a, the joint of a with each separator is carried through the junction tree, away from
a's clique: P(a, next) = sum over s of P(a, s) P(next | s). Nothing is drawn, so that a candidate's
error is not confused with the scatter of a sample.
"""

from collections.abc import Iterator, Sequence
from string import ascii_letters

import numpy as np

from training.tables.beliefs import Table, summed
from training.tables.junction_trees import Clique, JunctionTree

Pair = tuple[int, int]


def pair_marginals(
    tree: JunctionTree, beliefs: Sequence[Table], sizes: Sequence[int]
) -> dict[Pair, Table]:
    """Return P(a, b) for all a < b as tables (size of a, size of b), each adding up to 1."""
    walk = _Walk(tree, beliefs, sizes)
    found: dict[Pair, Table] = {}
    for source, clique in enumerate(tree.cliques):
        homed = [column for column in clique if tree.home_of([column]) == source]
        for column in homed:
            for other in clique:
                pair = (min(column, other), max(column, other))
                if column != other and pair not in found:
                    found[pair] = summed(beliefs[source], clique, pair)
        if homed:
            found |= {p: t for p, t in walk.away_from(source, homed) if p not in found}
    return found


class _Walk:
    """Carries joints through the tree; conditionals are kept, since every source needs them."""

    def __init__(self, tree: JunctionTree, beliefs: Sequence[Table], sizes: Sequence[int]) -> None:
        self._tree, self._beliefs, self._sizes = tree, beliefs, sizes
        self._near: list[list[tuple[int, Clique]]] = [[] for _ in tree.cliques]
        for child, (parent, shared) in enumerate(zip(tree.parents, tree.separators, strict=True)):
            if parent >= 0:
                self._near[child].append((parent, shared))
                self._near[parent].append((child, shared))
        self._kept: dict[tuple[int, Clique, Clique], Table] = {}

    def away_from(self, source: int, columns: list[int]) -> Iterator[tuple[Pair, Table]]:
        """Yield P(a, b) for each a of `columns` and each b outside of the source's clique."""
        seen = set(self._tree.cliques[source])
        ends = np.cumsum([0, *(self._sizes[column] for column in columns)])
        waiting = [
            (near, source, shared, self._joint(source, shared, columns))
            for near, shared in self._near[source]
        ]
        while waiting:
            place, before, shared, joint = waiting.pop()
            clique = self._tree.cliques[place]
            for other in clique:
                if other in seen:
                    continue
                seen.add(other)
                both = self._onward(place, shared, (other,), joint)
                for n, column in enumerate(columns):
                    table = both[:, ends[n] : ends[n + 1]]
                    if column < other:
                        yield (column, other), np.ascontiguousarray(table.T)
                    else:
                        yield (other, column), np.ascontiguousarray(table)
            for near, next_shared in self._near[place]:
                if near != before:
                    onward = self._onward(place, shared, next_shared, joint)
                    waiting.append((near, place, next_shared, onward))

    def _joint(self, source: int, shared: Clique, columns: list[int]) -> Table:
        """Return P(shared, a) for each a of `columns`, flat and side by side. (|s|, sum of sizes)."""
        clique, belief = self._tree.cliques[source], self._beliefs[source]
        shape = tuple(self._sizes[c] for c in shared)
        cells = int(np.prod(shape, dtype=np.int64))
        parts = []
        for column in columns:
            size = self._sizes[column]
            if column in shared:
                codes = np.indices(shape)[shared.index(column)].ravel()
                part = np.zeros((cells, size))
                part[np.arange(cells), codes] = summed(belief, clique, shared).ravel()
            else:
                onto = tuple(sorted((*shared, column)))
                table = summed(belief, clique, onto)
                part = np.moveaxis(table, onto.index(column), -1).reshape(cells, size)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def _onward(self, place: int, shared: Clique, onto: Clique, joint: Table) -> Table:
        """Return P(onto, a), flat, from P(shared, a), both inside the clique at `place`."""
        given = self._conditional(place, shared, onto)
        union = tuple(sorted({*shared, *onto}))
        if set(shared).isdisjoint(onto):
            order = [union.index(c) for c in (*onto, *shared)]
            matrix = given.transpose(order).reshape(-1, len(joint))
            flat: Table = matrix @ joint
            return flat
        shape = tuple(self._sizes[c] for c in shared)
        # One letter per column and one for the columns a; einsum keeps the letters asked for.
        letter = dict(zip(union, ascii_letters, strict=False))
        left, given_letters, kept = (
            "".join(letter[c] for c in group) for group in (shared, union, onto)
        )
        last = ascii_letters[-1]
        carried: Table = np.einsum(
            f"{given_letters},{left}{last}->{kept}{last}",
            given,
            joint.reshape(*shape, joint.shape[1]),
        )
        return carried.reshape(-1, joint.shape[1])

    def _conditional(self, place: int, shared: Clique, onto: Clique) -> Table:
        """Return P(onto | shared) as a table over the columns of both, in rising order."""
        key = (place, shared, onto)
        if key not in self._kept:
            clique, belief = self._tree.cliques[place], self._beliefs[place]
            union = tuple(sorted({*shared, *onto}))
            table = summed(belief, clique, union)
            axes = tuple(n for n, column in enumerate(union) if column not in shared)
            below = table.sum(axis=axes, keepdims=True)
            self._kept[key] = np.divide(table, below, out=np.zeros_like(table), where=below > 0)
        return self._kept[key]
