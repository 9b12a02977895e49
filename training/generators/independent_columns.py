"""Independent columns: every column's own distribution, released once, and nothing of how they hang together.

**Idea.** One Gaussian release holds the distribution of each column over its declared levels and
bins. Rows are drawn column by column. This is the honesty floor for tables: whatever another
generator adds must show against it. It is also the right answer where persons are so few, or epsilon
so small, that no pair of columns can be measured.

**Sensitivity.** A person's rows weigh 1 together. The person's part of one column's counts has norm
at most 1, and of the D columns side by side, divided by the root of D, at most 1 as well.

**What it cannot do.** No relation between columns survives, so rows may break declared constraints
that name more than one column.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.mechanisms import GaussianMechanism, GaussianStage, Mechanism, Stage
from privacy.presets import Preset
from privacy.table_schema import TableSchema
from training.checkpoints import Arrays, Progress
from training.randomness import PrivacyRandomness, noised_sum, reproducible
from training.run import Run
from training.table_records import Codes, TableRecords
from training.tables.estimation import Measurement
from training.tables.measurements import Vector, marginal, on_simplex

MODALITY = "table"
_ROWS_AT_ONCE = 100_000


class Config(BaseModel):
    """What a data owner may set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    smoothing: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Added to every count before it becomes a probability (count).",
    )


STAGES: tuple[Stage, ...] = (GaussianStage(stage="columns", noise_ratio=1.0),)
PRESETS = {
    "quick": Preset(summary="One release of every column; takes a second.", settings={}),
    "balanced": Preset(summary="The same; there is nothing to trade.", settings={}),
    "best": Preset(summary="The same; there is nothing to trade.", settings={}),
}
SUITS_FROM = 0.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """One distribution per column. `counts` and `total` are noised numbers."""

    config: Config
    schema: TableSchema
    counts: tuple[Vector, ...]
    total: float
    mechanisms: tuple[Mechanism, ...] = ()

    @property
    def probabilities(self) -> tuple[Vector, ...]:
        """Return the distribution of each column: the noised counts, made non-negative."""
        return tuple(
            on_simplex((counts + self.config.smoothing) / max(self.total, 1.0))
            for counts in self.counts
        )

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Return the noised counts of each column with their noise; none before mechanisms are known."""
        gaussian = next((m for m in self.mechanisms if isinstance(m, GaussianMechanism)), None)
        if gaussian is None:
            return ()
        deviation = gaussian.noise_multiplier * _sensitivity(len(self.counts))
        return tuple(Measurement((c,), deviation, counts) for c, counts in enumerate(self.counts))

    def sample(
        self, count: int, *, seed: int, progress: Callable[[int, int], None] | None = None
    ) -> Codes:
        """Draw rows, the same for the same seed. Shapes: result (count, D)."""
        rng = reproducible(seed)
        rows = np.empty((count, len(self.counts)), dtype=np.int16)
        levels = [np.cumsum(chances) for chances in self.probabilities]
        for start in range(0, count, _ROWS_AT_ONCE):
            block = rows[start : start + _ROWS_AT_ONCE]
            for column, level in enumerate(levels):
                drawn = np.searchsorted(level, rng.random(len(block)) * level[-1], side="right")
                block[:, column] = np.minimum(drawn, len(level) - 1)
            if progress is not None:
                progress(start + len(block), count)
        return rows

    def score(self, codes: NDArray[np.integer], *, seed: int) -> dict[str, Vector]:
        """Return log densities; higher = more likely a member. Shapes: (N, D) -> (N,)."""
        del seed  # the density is exact, nothing is drawn
        density = np.zeros(len(codes))
        for column, chances in enumerate(self.probabilities):
            least = 1.0 / max(self.total, 1.0) / len(chances)
            density += np.log(np.maximum(chances, least))[codes[:, column]]
        return {"log_density": density}

    def state(self) -> Arrays:
        """Return the noised counts, side by side."""
        return {"counts": np.concatenate(self.counts), "total": np.asarray([self.total])}

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)


def from_state(state: Arrays, *, config: Config, schema: TableSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    ends = np.cumsum(schema.sizes)[:-1]
    counts = np.split(np.asarray(state["counts"], dtype=np.float64), ends)
    return Fitted(
        config=config, schema=schema, counts=tuple(counts), total=float(state["total"][0])
    )


def fit(
    records: TableRecords, config: Config, *, schema: TableSchema, run: Run, seed: int
) -> Fitted:
    """Release every column's counts once.

    Raises: InvalidParameter if the records contradict the schema; ReleaseLost on a resume whose
    released result is gone.
    """
    del seed  # fitting draws privacy noise only, which takes no seed
    records = records.checked(schema)
    run.progress("columns", 0, 1)
    released = Progress(run).release_once(0, lambda: _release(records, schema=schema, run=run))
    run.progress("columns", 1, 1)
    counts = np.asarray(released["counts"], dtype=np.float64)
    # Every column's counts add up to the same number of persons, so their mean is the best guess.
    total = max(float(counts.sum()) / len(schema.columns), 1.0)
    state: Arrays = {"counts": counts, "total": np.asarray([total])}
    return from_state(state, config=config, schema=schema).with_mechanisms(run.mechanisms)


def _release(records: TableRecords, *, schema: TableSchema, run: Run) -> Arrays:
    weights = records.weights
    counts = [
        marginal(records.codes, [column], sizes=schema.sizes, weights=weights)
        for column in range(len(schema.columns))
    ]
    released = noised_sum(
        np.concatenate(counts),
        run.mechanisms[0].noise_multiplier,
        sensitivity=_sensitivity(len(counts)),
        source=PrivacyRandomness(),
    )
    return {"counts": released}


def _sensitivity(columns: int) -> float:
    """Return how far a person moves the counts of so many columns side by side (L2)."""
    return float(np.sqrt(columns))
