"""Rounds that measure what a model gets most wrong, and fit the model again: the loop of AIM.

First every column, then again and again the pair of columns that the exponential mechanism prefers:
the one that the model so far misses most, beyond what measuring it would add in noise. Where a
round changes the model by no more than its noise, later rounds get half of that noise
(McKenna, Mullins, Sheldon & Miklau 2022, arXiv:2201.12677). Every round is charged before it runs.
The last fit alone, after everything is measured, is smoothed (`smoothing.py`).
"""

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from privacy.table_schema import TableSchema
from training.checkpoints import Progress, ReleaseLost
from training.randomness import PrivacyRandomness
from training.table_records import TableRecords
from training.tables.constraints import Masks
from training.tables.estimation import Estimate, Measurement, estimate
from training.tables.fitted import MEGABYTE
from training.tables.junction_trees import Clique, model_bytes
from training.tables.measurements import Vector
from training.tables.pairs import pair_marginals
from training.tables.rounds import (
    Answers,
    Purse,
    deviation,
    keep,
    kept_measurements,
    measurable_pairs,
    preferences,
)
from training.tables.smoothing import smoothed

_LEAST_CUTS = 4


class RoundsConfig(BaseModel):
    """What a data owner may set of the rounds; defaults were chosen on public tables."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds_per_column: int = Field(
        default=6, ge=1, le=64, description="Rounds that the budget starts to be cut into (count)."
    )
    choosing_share: float = Field(
        default=0.1, gt=0, lt=1, description="Part of a round's budget for choosing (ratio)."
    )
    target_weight: float = Field(
        default=4.0,
        ge=1,
        le=20,
        description="How much a pair with a declared target counts (ratio).",
    )
    model_megabytes: float = Field(
        default=0.5, gt=0, le=64, description="Memory of the model's tables at the end (MB)."
    )
    iterations: int = Field(
        default=200, ge=1, le=10_000, description="Passes of each round's fit (count)."
    )
    final_iterations: int = Field(
        default=400, ge=1, le=100_000, description="Passes of the last fit (count)."
    )
    smoothing: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="How alike neighbouring levels are taken to be: one over the variance of their log "
        "odds ratios beforehand; 0 for not at all (ratio).",
    )


def most_bytes(config: RoundsConfig) -> int:
    """Return the memory that the model's tables may take."""
    return int(config.model_megabytes * MEGABYTE)


class AdaptiveRounds:
    """One fit: what was measured so far, and what a round costs by now."""

    def __init__(
        self,
        records: TableRecords,
        config: RoundsConfig,
        *,
        schema: TableSchema,
        allowed: Masks,
        purse: Purse,
        kept: Progress,
    ) -> None:
        """Count what may be measured, and take up what an earlier start measured.

        `allowed` are the cells that declared constraints leave (`constraints.masks`).
        """
        self._config, self._purse, self._kept = config, purse, kept
        self._sizes, self._columns = schema.sizes, schema.columns
        singles = tuple((column,) for column in range(len(self._sizes)))
        self._candidates = singles + measurable_pairs(self._sizes)
        self._answers = Answers.of(records, self._candidates, self._sizes)
        self._allowed = allowed
        targets = set(schema.targets)
        self._weights = np.asarray(
            [
                config.target_weight if len(c) > 1 and targets & set(c) else 1.0
                for c in self._candidates
            ]
        )
        self._source = PrivacyRandomness()
        self.measurements: list[Measurement]
        self.measurements, numbers = kept_measurements(kept, self._sizes)
        # With many columns, a round for each of them must leave most of the budget for pairs.
        cuts = max(config.rounds_per_column, _LEAST_CUTS) * len(self._sizes)
        self._quanta = int(numbers.get("round_quanta", max(1, purse.quanta // cuts)))

    def run(self) -> Estimate:
        """Measure until nothing is left to spend; return the model."""
        if not self.measurements:
            self._measure_columns()
        model = self._fit(self._config.iterations, None)
        while self._purse.left:
            model = self._round(model)
        return self._last_fit(model)

    def _measure_columns(self) -> None:
        count = len(self._sizes)
        quanta = min(self._quanta, self._purse.left // count)
        if quanta < 1:
            raise ReleaseLost(
                f"Measuring {count} columns with {self._purse.left} quanta left was refused: the "
                "rest was charged, and what it measured is not in the checkpoint. Request a new job."
            )
        rho = self._purse.spend(quanta * count) / count
        self.measurements += [
            self._answers.measure((column,), rho, source=self._source) for column in range(count)
        ]
        self._save()

    def _round(self, model: Estimate) -> Estimate:
        """Choose a clique, measure it, fit again, and settle what the next round costs."""
        is_last = self._purse.left < 2 * self._quanta
        quanta = self._purse.left if is_last else self._quanta
        modelled = self._modelled(model)
        rho = self._purse.spend(quanta)
        choosing = self._config.choosing_share * rho
        chosen = self._choose(modelled, choosing, rho - choosing)
        columns = self._candidates[chosen]
        found = self._answers.measure(columns, rho - choosing, source=self._source)
        self.measurements.append(found)
        self._save()
        fitted = self._fit(self._config.iterations, model)
        moved = float(np.abs(fitted.marginal(columns) - modelled[chosen]).sum())
        if moved <= sqrt(2 / pi) * found.deviation * len(found.values):
            self._quanta = 4 * quanta
        return fitted

    def _choose(self, modelled: Sequence[Vector], choosing: float, measuring: float) -> int:
        """Return a candidate by the exponential mechanism, among those the model has room for."""
        noise = sqrt(2 / pi) * deviation(measuring)
        errors = self._answers.errors(self._candidates, modelled)
        cells = np.asarray([len(one) for one in modelled])
        order = preferences(
            self._weights * (errors - noise * cells),
            epsilon=sqrt(8 * choosing),
            sensitivity=float(self._weights.max()),
            source=self._source,
        )
        used = 1 - self._purse.left / self._purse.quanta
        room = used * most_bytes(self._config)
        return next(int(n) for n in order if self._fits(self._candidates[n], room))

    def _fits(self, columns: Clique, room: float) -> bool:
        """Tell whether the model may hold this clique; every single column is in it already."""
        held = [*(m.columns for m in self.measurements), *self._allowed]
        if any(set(columns) <= set(other) for other in held):
            return True
        return model_bytes([*held, columns], self._sizes) <= room

    def _modelled(self, model: Estimate) -> list[Vector]:
        """Return the model's counts of every candidate."""
        tree = model.propagation.tree
        pairs = pair_marginals(tree, model.beliefs, self._sizes)
        return [
            model.marginal(c) if len(c) == 1 else model.total * pairs[c[0], c[1]].ravel()
            for c in self._candidates
        ]

    def _fit(self, iterations: int, before: Estimate | None) -> Estimate:
        return estimate(
            self.measurements,
            self._sizes,
            iterations=iterations,
            allowed=self._allowed,
            start=None if before is None else before.warm(),
        )

    def _last_fit(self, before: Estimate) -> Estimate:
        passes, strength = self._config.final_iterations, self._config.smoothing
        if not strength:
            return self._fit(passes, before)
        return smoothed(
            self.measurements,
            self._columns,
            strength=strength,
            iterations=passes,
            allowed=self._allowed,
        )

    def _save(self) -> None:
        keep(self._kept, self.measurements, round_quanta=self._quanta)
        self._purse.show()
