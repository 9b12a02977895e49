"""A fitted graphical model of a table: draws rows, scores rows, and says what it rests on.

Everything here is post-processing of noised marginals.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from privacy.mechanisms import Mechanism
from privacy.table_schema import Constraint, TableSchema
from training.checkpoints import Arrays
from training.randomness import reproducible
from training.table_records import Codes
from training.tables.balancing import passes_for
from training.tables.beliefs import Propagation, Table, summed
from training.tables.constraints import breaks, masks
from training.tables.drawing import Places, draw, draw_allowed
from training.tables.estimation import Estimate, Measurement
from training.tables.junction_trees import Clique, junction_tree
from training.tables.measurements import Vector
from training.tables.pairs import pair_marginals
from training.tables.rounds import measurements_from_arrays, measurements_to_arrays

MEGABYTE = 2**20
NOTHING_FOUND = (
    "No measured relation between columns stands out of its noise: this model is no better than "
    "independent columns. Use independent_columns, add persons, or ask for a larger epsilon."
)

# Below this a probability is taken as this, so that scores stay finite where the model says never.
_LEAST = 1e-12
# How far a measured pair must stand out of its noise, in standard deviations of a chi-square.
_STANDS_OUT = 3.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """A graphical model, the noised marginals that it was fitted to, and what it cannot express."""

    config: BaseModel
    schema: TableSchema
    measurements: tuple[Measurement, ...]
    model: Estimate
    left_over: tuple[Constraint, ...] = ()
    mechanisms: tuple[Mechanism, ...] = ()

    @property
    def total(self) -> float:
        """Return how many persons there were, from noised marginals (count)."""
        return self.model.total

    def sample(
        self, count: int, *, seed: int, progress: Callable[[int, int], None] | None = None
    ) -> Codes:
        """Draw rows, the same for the same seed; none breaks a constraint. Result (count, D)."""
        rng, sizes = reproducible(seed), self.schema.sizes
        tree, beliefs = self.model.propagation.tree, self.model.beliefs
        is_balanced = passes_for(count, len(sizes)) > 0
        pairs = pair_marginals(tree, beliefs, sizes) if is_balanced else None

        def drawn(places: Places) -> Codes:
            return draw(tree, beliefs, sizes, count=len(places), rng=rng, pairs=pairs)

        rows = draw_allowed(drawn, breaks(self.schema, self.left_over), count=count)
        if progress is not None:
            progress(count, count)
        return rows

    def score(self, codes: NDArray[np.integer], *, seed: int) -> dict[str, Vector]:
        """Return scores; higher = more likely a member. Shapes: (N, D) -> (N,) each.

        `log_density` is the model's; `log_lift` its excess over independent columns, where the
        relations that were measured show; `measured_counts` how the noised marginals themselves,
        before any fitting, exceed the model at the row's cells.
        """
        del seed  # densities are exact, nothing is drawn
        density = self.log_density(codes)
        apart = np.zeros(len(codes))
        for column in range(len(self.schema.columns)):
            apart += self._log_marginal((column,), codes)
        excess = np.zeros(len(codes))
        for measurement, marginal in zip(self.measurements, self._modelled(), strict=True):
            residual = (measurement.values - self.total * marginal) / measurement.deviation**2
            excess += residual[self._cells(measurement.columns, codes)]
        return {"log_density": density, "log_lift": density - apart, "measured_counts": excess}

    def log_density(self, codes: NDArray[np.integer]) -> Vector:
        """Return the logarithm of the model's probability of each row. Shapes: (N, D) -> (N,)."""
        tree = self.model.propagation.tree
        found = np.zeros(len(codes))
        for place, (clique, shared) in enumerate(zip(tree.cliques, tree.separators, strict=True)):
            belief = self.model.beliefs[place]
            found += self._log_table(belief, clique, codes)
            if shared:
                found -= self._log_table(summed(belief, clique, shared), shared, codes)
        return found

    def clique_terms(self, codes: NDArray[np.integer]) -> dict[Clique, Vector]:
        """Return the log marginal of each measured clique at each row, by its columns (N,)."""
        measured = dict.fromkeys(m.columns for m in self.measurements)
        return {columns: self._log_marginal(columns, codes) for columns in measured}

    def related_pairs(self) -> tuple[Clique, ...]:
        """Return the measured pairs that stand out of their noise against independent columns.

        Computed from noised marginals alone: the squared distance to the product of the columns,
        in units of the noise, beyond what noise alone would give.
        """
        singles = {column: self._marginal((column,)) for column in range(len(self.schema.columns))}
        found: dict[Clique, None] = {}
        for m in self.measurements:
            if len(m.columns) < 2:
                continue
            product = self.total * np.multiply.outer(singles[m.columns[0]], singles[m.columns[1]])
            squares = float(np.square((m.values - product.ravel()) / m.deviation).sum())
            cells = len(m.values)
            if squares - cells > _STANDS_OUT * sqrt(2.0 * cells):
                found[m.columns] = None
        return tuple(found)

    def warnings(self) -> tuple[str, ...]:
        """Return what the owner should know about this fit, from noised marginals alone."""
        if len(self.schema.columns) < 2 or self.related_pairs():
            return ()
        return (NOTHING_FOUND,)

    def state(self) -> Arrays:
        """Return the noised marginals and the potentials fitted to them."""
        factors = self.model.propagation.factors
        widest = max(len(factor) for factor in factors)
        columns = np.full((len(factors), widest), -1, dtype=np.int16)
        for row, factor in zip(columns, factors, strict=True):
            row[: len(factor)] = factor
        return {
            **measurements_to_arrays(self.measurements),
            "factors": columns,
            "potentials": np.concatenate(self.model.potentials),
            "total": np.asarray([self.model.total]),
            "loss": np.asarray([self.model.loss]),
        }

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    def _modelled(self) -> list[Table]:
        return [self._marginal(m.columns).ravel() for m in self.measurements]

    def _marginal(self, columns: Clique) -> Table:
        shape = tuple(self.schema.sizes[column] for column in columns)
        return (self.model.marginal(columns) / self.total).reshape(shape)

    def _log_marginal(self, columns: Clique, codes: NDArray[np.integer]) -> Vector:
        return self._log_table(self._marginal(columns), columns, codes)

    def _log_table(self, table: Table, columns: Clique, codes: NDArray[np.integer]) -> Vector:
        logs: Vector = np.log(np.maximum(table.ravel(), _LEAST))[self._cells(columns, codes)]
        return logs

    def _cells(self, columns: Clique, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        index = np.zeros(len(codes), dtype=np.int64)
        for column in columns:
            index = index * self.schema.sizes[column] + codes[:, column]
        return index


def rebuilt(state: Arrays, *, config: BaseModel, schema: TableSchema, most_bytes: int) -> Fitted:
    """Rebuild what `Fitted.state` wrote."""
    sizes = schema.sizes
    factors = [tuple(int(column) for column in row if column >= 0) for row in state["factors"]]
    ends = np.cumsum([int(np.prod([sizes[c] for c in factor])) for factor in factors])[:-1]
    potentials = np.split(np.asarray(state["potentials"], dtype=np.float64), ends)
    allowed, left_over = masks(schema, most_bytes=most_bytes)
    tree = junction_tree([*factors, *allowed], sizes)
    propagation = Propagation(tree, factors, sizes, allowed=allowed)
    model = Estimate(
        propagation=propagation,
        potentials=tuple(potentials),
        beliefs=tuple(propagation.marginals(potentials)),
        total=float(state["total"][0]),
        loss=float(state["loss"][0]),
    )
    return Fitted(
        config=config,
        schema=schema,
        measurements=tuple(measurements_from_arrays(state, sizes)),
        model=model,
        left_over=left_over,
    )
