"""Estimation: the graphical model that agrees best with noised marginals.

Minimises the weighted squared distance between the model's marginals and the measured ones by
entropic mirror descent: a step moves the potentials against the gradient with respect to the
marginals, and belief propagation gives the next marginals (McKenna, Sheldon & Miklau 2019,
arXiv:1901.09136). All of it is post-processing of noised numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.tables.beliefs import Propagation, Table, summed
from training.tables.junction_trees import Clique, junction_tree

_GROWTH, _SHRINKAGE = 1.1, 0.5
_CONVERGED = 1e-9


@dataclass(frozen=True, eq=False)
class Measurement:
    """A noised marginal: its columns, the standard deviation of its noise, its flat counts."""

    columns: Clique
    deviation: float
    values: Table


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fitted model: potentials of the factors, and marginals of the tree's cliques."""

    propagation: Propagation
    potentials: tuple[Table, ...]
    beliefs: tuple[Table, ...]
    total: float
    loss: float

    def marginal(self, columns: Clique) -> Table:
        """Return the model's counts in the cells of some columns that it keeps together, flat."""
        tree = self.propagation.tree
        home = tree.home_of(columns)
        if home is None:
            raise InvalidParameter(
                f"A marginal over the columns {columns} was refused: no clique of the model holds "
                "them. Ask for columns that were measured together."
            )
        return self.total * summed(self.beliefs[home], tree.cliques[home], columns).ravel()

    def warm(self) -> dict[Clique, Table]:
        """Return the potentials by factor, for the next estimate to start from."""
        return dict(zip(self.propagation.factors, self.potentials, strict=True))


def noised_total(measurements: Sequence[Measurement]) -> float:
    """Return how many persons there are, from noised marginals alone; at least 1.

    Every marginal adds up to the same number, so the sums are averaged by their precision.
    """
    precision = [1.0 / (len(m.values) * m.deviation**2) for m in measurements]
    sums = [float(m.values.sum()) for m in measurements]
    mean = sum(p * s for p, s in zip(precision, sums, strict=True)) / sum(precision)
    return max(mean, 1.0)


def estimate(
    measurements: Sequence[Measurement],
    sizes: Sequence[int],
    *,
    iterations: int,
    allowed: Mapping[Clique, NDArray[np.bool_]] | None = None,
    start: Mapping[Clique, Table] | None = None,
) -> Estimate:
    """Return the model fitted to the measurements in at most `iterations` passes.

    `allowed` masks what may occur; `start` gives potentials to begin with, by factor.
    """
    goal = Goal.of(measurements)
    factors = list(goal.targets)
    tree = junction_tree([*factors, *(allowed or {})], sizes)
    propagation = Propagation(tree, factors, sizes, allowed=allowed)
    begin = start or {}
    potentials = [
        np.array(begin[factor], dtype=np.float64).ravel()
        if factor in begin
        else np.zeros(len(goal.targets[factor]))
        for factor in factors
    ]
    return _descend(propagation, goal, potentials, iterations=iterations)


@dataclass(frozen=True, eq=False)
class Goal:
    """For each factor: the probabilities to come near to, and how much that matters."""

    targets: dict[Clique, Table]
    weights: dict[Clique, float]
    total: float

    @classmethod
    def of(cls, measurements: Sequence[Measurement]) -> "Goal":
        """Average measurements of the same columns by their precision."""
        total = noised_total(measurements)
        sums: dict[Clique, Table] = {}
        precision: dict[Clique, float] = {}
        for m in measurements:
            own = (total / m.deviation) ** 2
            sums[m.columns] = sums.get(m.columns, 0.0) + own * (m.values / total)
            precision[m.columns] = precision.get(m.columns, 0.0) + own
        targets = {columns: sums[columns] / precision[columns] for columns in sums}
        return cls(targets=targets, weights=precision, total=total)

    def loss_and_gradient(self, marginals: Sequence[Table]) -> tuple[float, list[Table]]:
        """Return half the weighted squared distance, and its slope for each factor's marginal."""
        loss, gradient = 0.0, []
        for (columns, target), marginal in zip(self.targets.items(), marginals, strict=True):
            weight = self.weights[columns]
            difference = marginal - target
            slope = weight * difference
            loss += 0.5 * float(slope @ difference)
            gradient.append(slope)
        return loss, gradient


def _descend(
    propagation: Propagation, goal: Goal, potentials: list[Table], *, iterations: int
) -> Estimate:
    beliefs = propagation.marginals(potentials)
    marginals = propagation.onto_factors(beliefs)
    loss, gradient = goal.loss_and_gradient(marginals)
    step = 1.0 / max(goal.weights.values(), default=1.0)
    for _ in range(iterations):
        tried = [p - step * g for p, g in zip(potentials, gradient, strict=True)]
        try:
            tried_beliefs = propagation.marginals(tried)
        except InvalidParameter:  # so long a step that nothing is left of some clique
            step *= _SHRINKAGE
            continue
        tried_marginals = propagation.onto_factors(tried_beliefs)
        tried_loss, tried_gradient = goal.loss_and_gradient(tried_marginals)
        promised = sum(
            float(g @ (m - t)) for g, m, t in zip(gradient, marginals, tried_marginals, strict=True)
        )
        if loss - tried_loss < 0.5 * promised:
            step *= _SHRINKAGE
            continue
        is_done = loss - tried_loss <= _CONVERGED * max(loss, 1e-12)
        potentials, beliefs, marginals = tried, tried_beliefs, tried_marginals
        loss, gradient = tried_loss, tried_gradient
        step *= _GROWTH
        if is_done:
            break
    return Estimate(
        propagation=propagation,
        potentials=tuple(potentials),
        beliefs=tuple(beliefs),
        total=goal.total,
        loss=loss,
    )
