"""Belief propagation: the exact marginals of a graphical model from its potentials.

A model is the density proportional to the product of exp(potential) over cliques, times a mask of
what may occur at all. One pass from the leaves of the junction tree to its root and one back give
the marginal of every clique (Hugin; Jensen, Lauritzen & Olesen 1990). Messages are sums of positive
numbers, scaled at every step, so nothing is computed in logarithms but the potentials themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.tables.junction_trees import Clique, JunctionTree

Table = NDArray[np.float64]


@dataclass(frozen=True)
class _Edge:
    """How a clique's table is summed down to its separator, and that lies in both tables."""

    child: int
    parent: int
    sum_child: tuple[int, ...]
    sum_parent: tuple[int, ...]
    in_child: tuple[int, ...]
    in_parent: tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    """Where a factor lies inside the table of a clique of the tree."""

    home: int
    summed: tuple[int, ...]
    shape: tuple[int, ...]


class Propagation:
    """Marginals of one junction tree, for potentials over a fixed list of cliques."""

    def __init__(
        self,
        tree: JunctionTree,
        factors: Sequence[Clique],
        sizes: Sequence[int],
        *,
        allowed: Mapping[Clique, NDArray[np.bool_]] | None = None,
    ) -> None:
        self.tree, self.factors, self.sizes = tree, tuple(factors), tuple(sizes)
        self.shapes = tuple(tuple(sizes[c] for c in clique) for clique in tree.cliques)
        self._places = tuple(self._place(factor) for factor in self.factors)
        self._edges = tuple(
            self._edge(child, parent) for child, parent in enumerate(tree.parents) if parent >= 0
        )
        self._masks: list[Table | None] = [None] * len(tree.cliques)
        for clique, mask in (allowed or {}).items():
            place = self._place(clique)
            table = np.broadcast_to(mask.reshape(place.shape), self.shapes[place.home])
            before = self._masks[place.home]
            masked = table.astype(np.float64) if before is None else before * table
            self._masks[place.home] = masked

    def marginals(self, potentials: Sequence[Table]) -> list[Table]:
        """Return the marginal of every clique of the tree, each adding up to 1.

        `potentials` are logarithms, one table for each factor, in its shape or flat.
        Raises: InvalidParameter if nothing may occur under the masks.
        """
        beliefs = self._start(potentials)
        messages: list[Table | None] = [None] * len(beliefs)
        for edge in reversed(self._edges):
            message = beliefs[edge.child].sum(axis=edge.sum_child)
            message = message / _positive(float(message.max()))
            messages[edge.child] = message
            beliefs[edge.parent] *= message.reshape(edge.in_parent)
        beliefs[0] /= _positive(float(beliefs[0].sum()))
        for edge in self._edges:
            message = messages[edge.child]
            assert message is not None  # noqa: S101  (every edge sent one above)
            above = beliefs[edge.parent].sum(axis=edge.sum_parent)
            # Where the message is 0 so is the belief that it meets: any finite ratio will do.
            ratio = above / np.maximum(message, 1e-300)
            belief = beliefs[edge.child]
            belief *= ratio.reshape(edge.in_child)
            belief /= _positive(float(belief.sum()))
        return beliefs

    def onto_factors(self, beliefs: Sequence[Table]) -> list[Table]:
        """Return the marginal of every factor from those of the tree's cliques, flat."""
        return [
            beliefs[place.home].sum(axis=place.summed).ravel()
            if place.summed
            else beliefs[place.home].ravel()
            for place in self._places
        ]

    def _start(self, potentials: Sequence[Table]) -> list[Table]:
        tables = [np.zeros(shape) for shape in self.shapes]
        for place, potential in zip(self._places, potentials, strict=True):
            tables[place.home] += potential.reshape(place.shape)
        return [
            _positive_table(table, mask) for table, mask in zip(tables, self._masks, strict=True)
        ]

    def _place(self, factor: Clique) -> _Place:
        home = self.tree.home_of(factor)
        if home is None:
            raise InvalidParameter(
                f"A factor over the columns {factor} was refused: no clique of the tree holds them."
            )
        clique = self.tree.cliques[home]
        return _Place(
            home=home,
            summed=tuple(axis for axis, column in enumerate(clique) if column not in factor),
            shape=tuple(self.sizes[c] if c in factor else 1 for c in clique),
        )

    def _edge(self, child: int, parent: int) -> _Edge:
        shared = self.tree.separators[child]
        below, above = self.tree.cliques[child], self.tree.cliques[parent]
        return _Edge(
            child=child,
            parent=parent,
            sum_child=tuple(axis for axis, column in enumerate(below) if column not in shared),
            sum_parent=tuple(axis for axis, column in enumerate(above) if column not in shared),
            in_child=tuple(self.sizes[c] if c in shared else 1 for c in below),
            in_parent=tuple(self.sizes[c] if c in shared else 1 for c in above),
        )


def summed(table: Table, clique: Clique, onto: Sequence[int]) -> Table:
    """Return the marginal of a clique's table over some of its columns, in rising order."""
    axes = tuple(axis for axis, column in enumerate(clique) if column not in onto)
    result: Table = table.sum(axis=axes) if axes else table
    return result


def _positive_table(logs: Table, mask: Table | None) -> Table:
    """Return the exponential of a table that may be overwritten, scaled, and masked."""
    largest = logs.max() if mask is None else logs.max(where=mask > 0, initial=-np.inf)
    logs -= largest
    # What is masked may lie above the largest that is not.
    table: Table = np.exp(np.minimum(logs, 0.0, out=logs), out=logs)
    if mask is not None:
        table *= mask
    return table


def _positive(total: float) -> float:
    if not total > 0:
        raise InvalidParameter(
            "A model was refused: no row satisfies every constraint at once, or none that the "
            "measurements leave possible. Look for constraints that contradict each other."
        )
    return total
