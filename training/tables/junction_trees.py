"""Junction trees: which columns a graphical model keeps together, and how these groups hang together.

A clique is a tuple of column indices in rising order. The maximal cliques of a triangulated graph,
joined along their largest overlaps, form a tree in which every column's cliques are connected; sums
over the whole domain then become sums within cliques (Lauritzen & Spiegelhalter 1988). Everything
here follows from declared sizes and from which cliques were measured, never from records.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Clique = tuple[int, ...]

BYTES_PER_CELL = 8


@dataclass(frozen=True)
class JunctionTree:
    """Cliques in an order in which each one comes after its parent; the first is the root.

    `parents[i]` is the index of clique i's parent (-1 for the root), `separators[i]` what the two
    share; parts of the model that share nothing are joined by an empty separator.
    """

    cliques: tuple[Clique, ...]
    parents: tuple[int, ...]
    separators: tuple[Clique, ...]

    def home_of(self, columns: Iterable[int]) -> int | None:
        """Return the first clique that holds all of these columns, or None."""
        wanted = set(columns)
        return next((n for n, clique in enumerate(self.cliques) if wanted <= set(clique)), None)


def junction_tree(cliques: Iterable[Clique], sizes: Sequence[int]) -> JunctionTree:
    """Return a junction tree over all columns in which each of `cliques` lies inside one clique."""
    maximal = maximal_cliques(cliques, sizes)
    count = len(maximal)
    # Prim's tree of largest overlaps; a maximum spanning tree of these is a junction tree.
    order, parents = [0], {0: -1}
    best = {n: (len(set(maximal[n]) & set(maximal[0])), 0) for n in range(1, count)}
    while best:
        chosen = max(best, key=lambda n: (best[n][0], -n))
        parents[chosen] = best.pop(chosen)[1]
        order.append(chosen)
        for n, (overlap, _) in best.items():
            shared = len(set(maximal[n]) & set(maximal[chosen]))
            if shared > overlap:
                best[n] = (shared, chosen)
    place = {n: index for index, n in enumerate(order)}
    ordered = tuple(maximal[n] for n in order)
    above = tuple(place.get(parents[n], -1) for n in order)
    separators = tuple(
        () if parent < 0 else tuple(sorted(set(clique) & set(ordered[parent])))
        for clique, parent in zip(ordered, above, strict=True)
    )
    return JunctionTree(cliques=ordered, parents=above, separators=separators)


def maximal_cliques(cliques: Iterable[Clique], sizes: Sequence[int]) -> list[Clique]:
    """Return the maximal cliques of a triangulation of the graph that `cliques` span.

    Columns are eliminated one by one, always the one whose clique adds the fewest cells of fill.
    """
    neighbours: list[set[int]] = [set() for _ in sizes]
    for clique in cliques:
        for column in clique:
            neighbours[column].update(clique)
    for column, near in enumerate(neighbours):
        near.discard(column)
    logs = np.log(sizes)
    left = set(range(len(sizes)))
    costs = {column: _fill(column, neighbours, logs) for column in left}
    found: list[set[int]] = []
    while left:
        column = min(left, key=lambda n: (costs[n], n))
        near = neighbours[column]
        group = near | {column}
        if not any(group <= other for other in found):
            found.append(group)
        left.discard(column)
        touched = set(near)
        for other in near:
            neighbours[other] |= near
            neighbours[other] -= {other, column}
        for other in near:
            touched |= neighbours[other]
        for other in touched & left:
            costs[other] = _fill(other, neighbours, logs)
    return sorted(tuple(sorted(group)) for group in found)


def model_bytes(cliques: Iterable[Clique], sizes: Sequence[int]) -> int:
    """Return the memory of the tables of a junction tree over `cliques`, in bytes."""
    return sum(
        BYTES_PER_CELL * int(np.prod([sizes[column] for column in clique], dtype=object))
        for clique in maximal_cliques(cliques, sizes)
    )


def _fill(column: int, neighbours: list[set[int]], logs: np.ndarray) -> tuple[int, float]:
    """Return (edges that eliminating this column adds, log of the cells of its clique)."""
    near = neighbours[column]
    missing = sum(len(near) - 1 - len(near & neighbours[other]) for other in near) // 2
    return missing, float(logs[column] + sum(logs[other] for other in near))
