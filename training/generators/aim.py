"""AIM: a graphical model of the table, which keeps measuring the pair of columns that it gets most wrong.

**Idea.** First every column's distribution is measured. Then, round by round, the exponential
mechanism picks the pair of columns whose joint distribution the model so far misses most, beyond
what measuring it would add in noise; that pair is measured with noise, and the model is fitted
again. Where a round changes the model by no more than its noise, later rounds get half of that noise. The
model is a junction tree, so its fit, its marginals and its rows are exact, and declared constraints
are cells of probability zero: no row breaks one. Pairs with a declared target count four times.

**Sensitivity.** A person's rows weigh 1 together, so a person moves every marginal, and the error
of every candidate, by at most 1, in L1 and L2 norm, however many rows they have. What comes out is
weighted by person: those with many rows do not dominate.

**Budget.** Quanta of zCDP, charged before each round; a tenth of a round is for choosing. The number
of persons is a noised number. All fitting is post-processing. A stopped run goes on with what it measured.

**When not.** Where a pair's noise exceeds its whole distribution the fit is refused beforehand; where no
measured pair stands out of its noise, it warns. Independent columns are then as good.

**Sources.** McKenna, Mullins, Sheldon and Miklau 2022, arXiv:2201.12677 (AIM); McKenna, Sheldon and
Miklau 2019, arXiv:1901.09136 (estimation).
"""

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from privacy.mechanisms import Stage, ZcdpStage
from privacy.presets import Preset
from privacy.table_schema import TableSchema
from training.checkpoints import Arrays, Progress, ReleaseLost
from training.randomness import PrivacyRandomness
from training.ranks import Ranks
from training.run import Run
from training.table_records import TableRecords
from training.tables.constraints import masks
from training.tables.estimation import Estimate, estimate
from training.tables.fitted import MEGABYTE, Fitted, rebuilt
from training.tables.junction_trees import Clique, model_bytes
from training.tables.measurements import Vector
from training.tables.pairs import pair_marginals
from training.tables.possible_rows import refuse_the_impossible
from training.tables.rounds import (
    Answers,
    Purse,
    deviation,
    keep,
    kept_measurements,
    measurable_pairs,
    preferences,
)
from training.tables.worth import refuse_the_hopeless

__all__ = ["Config", "Fitted", "fit", "from_state"]

MODALITY = "table"
QUANTA = 2000
_LEAST_CUTS = 4


class Config(BaseModel):
    """What a data owner may set; defaults were chosen on public tables."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds_per_column: int = Field(
        default=16, ge=1, le=64, description="Rounds that the budget starts to be cut into (count)."
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
        default=1000, ge=1, le=100_000, description="Passes of the last fit (count)."
    )


STAGES: tuple[Stage, ...] = (ZcdpStage(stage="rounds", steps=QUANTA),)
PRESETS = {
    "quick": Preset(
        summary="A smaller model with fewer passes.",
        settings={"model_megabytes": 0.25, "iterations": 100, "final_iterations": 300},
    ),
    "balanced": Preset(summary="Half a megabyte of model; seconds to a minute.", settings={}),
    "best": Preset(
        summary="A larger model with more passes; minutes where epsilon is large.",
        settings={"model_megabytes": 2.0, "iterations": 400, "final_iterations": 3000},
    ),
}
SUITS_FROM = 1500.0


def from_state(state: Arrays, *, config: Config, schema: TableSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return rebuilt(state, config=config, schema=schema, most_bytes=_most_bytes(config))


def fit(
    records: TableRecords, config: Config, *, schema: TableSchema, run: Run, seed: int
) -> Fitted:
    """Measure columns and chosen pairs within what `run` has reserved, and fit the model.

    Raises: InvalidParameter if the records contradict the schema, or if the budget or the
    constraints are hopeless.
    """
    del seed  # fitting draws privacy noise only, which takes no seed
    Ranks.here().refuse_several("Measuring marginals")
    records = records.checked(schema)
    purse = Purse(run)
    refuse_the_hopeless(schema, purse.mechanism)
    allowed, left_over = masks(schema, most_bytes=_most_bytes(config))
    refuse_the_impossible(schema, allowed, left_over)
    work = _Work(records, config, schema=schema, purse=purse, kept=Progress(run))
    model = work.run()
    return Fitted(
        config=config,
        schema=schema,
        measurements=tuple(work.measurements),
        model=model,
        left_over=left_over,
        mechanisms=run.mechanisms,
    )


def _most_bytes(config: Config) -> int:
    return int(config.model_megabytes * MEGABYTE)


class _Work:
    """One fit: what was measured so far, and what a round costs by now."""

    def __init__(
        self,
        records: TableRecords,
        config: Config,
        *,
        schema: TableSchema,
        purse: Purse,
        kept: Progress,
    ) -> None:
        """Count what may be measured, and take up what an earlier start measured."""
        self._config, self._purse, self._kept = config, purse, kept
        self._sizes = schema.sizes
        singles = tuple((column,) for column in range(len(self._sizes)))
        self._candidates = singles + measurable_pairs(self._sizes)
        self._answers = Answers.of(records, self._candidates, self._sizes)
        self._allowed = masks(schema, most_bytes=_most_bytes(config))[0]
        targets = set(schema.targets)
        self._weights = np.asarray(
            [
                config.target_weight if len(c) > 1 and targets & set(c) else 1.0
                for c in self._candidates
            ]
        )
        self._source = PrivacyRandomness()
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
        return self._fit(self._config.final_iterations, model)

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
        room = used * _most_bytes(self._config)
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

    def _save(self) -> None:
        keep(self._kept, self.measurements, round_quanta=self._quanta)
        self._purse.show()
