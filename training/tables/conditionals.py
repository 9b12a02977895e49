"""A fitted graphical model, read column by column: the chance of each code given earlier columns.

A junction tree is drawn clique by clique, so its columns have an order in which each one depends on
few of those before it: those of its clique. Along that order the model is a product of small
conditional tables, exactly, and what its masks forbid has probability zero given what came before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.tables.beliefs import Table, summed
from training.tables.estimation import Estimate
from training.tables.junction_trees import Clique

IMPOSSIBLE = -1e4
"""Logit of a code that cannot be: its probability is 0 in floating point, and nothing overflows."""
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Conditional:
    """One column's codes given its parents: logits (cells of the parents, codes), float32."""

    column: int
    parents: Clique
    logits: NDArray[np.float32]

    def groups(self, codes: NDArray[np.integer], sizes: Sequence[int]) -> NDArray[np.int64]:
        """Return which cell of its parents each row is in. Shapes: (N, D) -> (N,)."""
        cells = np.zeros(len(codes), dtype=np.int64)
        for parent in self.parents:
            cells *= sizes[parent]
            cells += codes[:, parent]
        return cells


def conditionals(model: Estimate, sizes: Sequence[int]) -> tuple[Conditional, ...]:
    """Return the model's conditional of every column, in the order in which columns are drawn."""
    tree = model.propagation.tree
    found: list[Conditional] = []
    for clique, shared, belief in zip(tree.cliques, tree.separators, model.beliefs, strict=True):
        known = shared
        for column in (c for c in clique if c not in shared):
            both = tuple(sorted((*known, column)))
            joint = np.moveaxis(summed(belief, clique, both), both.index(column), -1)
            logits = _logits(joint.reshape(-1, sizes[column]))
            found.append(Conditional(column=column, parents=known, logits=logits))
            known = both
    return tuple(found)


def _logits(joint: Table) -> NDArray[np.float32]:
    """Return log P(code | cell) for the rows of a joint; all alike in cells that cannot be."""
    totals = joint.sum(axis=1, keepdims=True)
    shares = np.divide(joint, totals, out=np.ones_like(joint), where=totals > 0)
    logs = np.log(np.maximum(shares, _LEAST))
    return np.where(shares > 0, logs, IMPOSSIBLE).astype(np.float32)
