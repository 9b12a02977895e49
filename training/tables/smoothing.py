"""Smoothing: the same model, told beforehand that neighbouring levels are related alike.

Noise of a measured pair falls on every cell by itself, while what relates two columns hardly changes from
one bin of an ordered column to the next. So the last fit adds to the distance from the measurements a
penalty on every pair's local log odds ratios: differences of neighbours along numbers and ordinals, of a
level from the mean of all along categories and what is missing. It is the posterior mode under a normal
prior on these ratios; columns by themselves stay free. Which columns are ordered is declared, the noise is
known, and nothing but noised marginals comes in.

The penalty is on potentials and not on marginals, so mirror descent does not fit: L-BFGS on scaled potentials
does (Liu & Nocedal 1989), with gradients by one more propagation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from privacy.errors import InvalidParameter
from privacy.table_schema import Column
from training.tables.beliefs import Propagation, Table
from training.tables.estimation import Estimate, Goal, Measurement, estimate
from training.tables.junction_trees import Clique
from training.tables.measurements import Vector

_NEARLY_FREE = 1e-2
"""Penalty of a potential itself, so that what no measurement settles stays near 0."""
_PROBE = 1e-4
"""Largest change of a potential in a directional derivative."""
_FIRST = 60
_REMEMBERED = 20
_CONVERGED = 1e-8


def contrasts(column: Column) -> Table:
    """Return the differences between a column's levels that are taken to be small (C, levels).

    Of ordered levels each from the one before; of others, and of what is missing or other, each from
    the mean.
    """
    size = column.size
    if column.kind == "category":
        return np.asarray([[-1.0, 1.0]]) if size == 2 else np.eye(size) - 1.0 / size
    apart = int(column.missing) + int(column.other)
    ordered = size - apart
    steps = np.zeros((max(ordered - 1, 0), size))
    steps[:, :ordered] = np.diff(np.eye(ordered), axis=0)
    away = np.eye(size)[ordered:] - np.where(np.arange(size) < ordered, 1.0 / ordered, 0.0)
    return np.concatenate([steps, away])


@dataclass(frozen=True, eq=False)
class Prior:
    """The penalty on one factor's potentials: half of x'Qx, and Q's diagonal."""

    first: Table | None
    second: Table | None
    strength: float

    @classmethod
    def of(cls, factor: Clique, columns: Sequence[Column], *, strength: float) -> "Prior":
        """Return the penalty of a pair's local log odds ratios; of other factors next to none."""
        if len(factor) != 2:
            return cls(None, None, 0.0)
        one, other = (contrasts(columns[c]) for c in factor)
        return cls(one.T @ one, other.T @ other, strength)

    def slope(self, potential: Vector) -> Vector:
        """Return Qx. Shapes: (cells,) -> (cells,)."""
        flat = _NEARLY_FREE * potential
        if self.first is not None and self.second is not None:
            table = potential.reshape(len(self.first), len(self.second))
            flat = flat + self.strength * (self.first @ table @ self.second).ravel()
        return flat

    def diagonal(self, cells: int) -> Vector:
        """Return the diagonal of Q (cells,)."""
        flat = np.full(cells, _NEARLY_FREE)
        if self.first is not None and self.second is not None:
            flat += self.strength * np.outer(np.diag(self.first), np.diag(self.second)).ravel()
        return flat


def smoothed(
    measurements: Sequence[Measurement],
    columns: Sequence[Column],
    *,
    strength: float,
    iterations: int,
    allowed: Mapping[Clique, NDArray[np.bool_]] | None = None,
) -> Estimate:
    """Return the model fitted to the measurements with smooth relations between columns.

    `strength` is one over the variance that local log odds ratios are given beforehand; the rest is as
    in `estimation.estimate`, a few passes of which make the beginning. Potentials fitted without the
    penalty would be a bad one: where noise left nothing in a cell they are enormous.
    """
    sizes = [column.size for column in columns]
    model = estimate(measurements, sizes, iterations=min(_FIRST, iterations), allowed=allowed)
    factors = model.propagation.factors
    goal = Goal.of(measurements)
    priors = [Prior.of(factor, columns, strength=strength) for factor in factors]
    # Curvatures are taken anew once the model is roughly right.
    early = max(iterations // 4, 1)
    for passes in (early, iterations - early):
        search = _Search.of(model, goal, priors)
        try:
            found = minimize(
                search.value_and_slope,
                search.scaled(model.potentials),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": passes, "maxcor": _REMEMBERED, "ftol": _CONVERGED},
            )
        except InvalidParameter:  # a trial so far off that nothing is left of some clique
            break
        model = search.model(found.x)
    return model


@dataclass(frozen=True, eq=False)
class _Search:
    """What L-BFGS walks through: potentials, each in units of its own curvature."""

    propagation: Propagation
    goal: Goal
    priors: list[Prior]
    units: Vector
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, begun: Estimate, goal: Goal, priors: list[Prior]) -> "_Search":
        propagation = begun.propagation
        marginals = propagation.onto_factors(begun.beliefs)
        units = [
            1.0 / np.sqrt(goal.weights[factor] * (m * (1 - m)) ** 2 + prior.diagonal(len(m)))
            for factor, m, prior in zip(propagation.factors, marginals, priors, strict=True)
        ]
        ends = np.cumsum([len(m) for m in marginals])[:-1]
        return cls(propagation, goal, priors, np.concatenate(units), ends)

    def scaled(self, potentials: Sequence[Table]) -> Vector:
        whole: Vector = np.concatenate([p.ravel() for p in potentials]) / self.units
        return whole

    def potentials(self, place: Vector) -> list[Table]:
        return np.split(place * self.units, self.ends)

    def value_and_slope(self, place: Vector) -> tuple[float, Vector]:
        """Return the penalised distance and its gradient with respect to scaled potentials."""
        potentials = self.potentials(place)
        marginals = self.marginals(potentials)
        loss, pull = self.goal.loss_and_gradient(marginals)
        # The gradient is the covariance of cells times `pull`: how marginals move along it.
        probe = _PROBE / max(1e-300, *(float(np.abs(p).max()) for p in pull))
        moved = self.marginals([x + probe * p for x, p in zip(potentials, pull, strict=True)])
        slopes = []
        for x, prior, m, after in zip(potentials, self.priors, marginals, moved, strict=True):
            own = prior.slope(x)
            loss += 0.5 * float(own @ x)
            slopes.append((after - m) / probe + own)
        return loss, np.concatenate(slopes) * self.units

    def marginals(self, potentials: Sequence[Table]) -> list[Table]:
        return self.propagation.onto_factors(self.propagation.marginals(potentials))

    def model(self, place: Vector) -> Estimate:
        """Return the model at a place; its loss is the distance alone, without the penalty."""
        potentials = self.potentials(place)
        beliefs = self.propagation.marginals(potentials)
        loss, _ = self.goal.loss_and_gradient(self.propagation.onto_factors(beliefs))
        return Estimate(
            propagation=self.propagation,
            potentials=tuple(potentials),
            beliefs=tuple(beliefs),
            total=self.goal.total,
            loss=loss,
        )
