"""Autoregressive network: a graphical model of the table, corrected column by column under DP-SGD.

**Idea.** Part of the budget measures columns and the pairs that matter, as `aim` does, and a graphical
model is fitted to them. Its rows can be drawn column by column, each given those before it. A network
that starts at nothing then learns with DP-SGD, on the rows themselves, what these conditionals get
wrong: relations of many columns at once, and of pairs that were not measured. So the warm start is exact
and costs nothing beyond the measurements, and no step is spent on what a few counts already say.
At last the measured joints, which the noise of training has pushed about, are given back: over rows
drawn from the model itself, which is free.

**Visits.** Where the schema declares `visits`, a row is also given the person's row before: by measured
joint counts of a column then and now, and by the network. How many rows persons have is measured too, and
synthetic persons are drawn row after row (`sample_persons`).

**Constraints.** What cannot be given the columns drawn before has probability zero in the model, and
the network only multiplies: no row breaks a declared constraint.

**Sensitivity.** Measurements: a person's rows weigh 1 together, so a person moves every marginal by
at most 1. DP-SGD: one gradient per person and step, averaged over the person's rows before it is
clipped; Poisson sampling of persons; division by the public expected batch size.

**When.** For tables with visits, which no other generator draws. Otherwise the network makes unseen rows
likelier than the graphical model alone, but on public tables counts and classifiers gained nothing: take `aim`.

**Sources.** Uria et al. 2016, arXiv:1605.02226 (neural autoregressive densities); McKenna et al. 2022,
arXiv:2201.12677 (what to measure); Abadi et al. 2016, arXiv:1607.00133 (DP-SGD).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from privacy.mechanisms import DpSgdStage, Mechanism, Stage, ZcdpStage
from privacy.presets import Preset, ShareOfUnits
from privacy.table_schema import TableSchema
from training import dp_sgd
from training.checkpoints import Arrays, Progress
from training.randomness import reproducible
from training.ranks import Ranks
from training.run import Run
from training.table_records import Codes, TableRecords
from training.tables import fitted as graphical
from training.tables.adaptive_rounds import AdaptiveRounds, RoundsConfig, most_bytes
from training.tables.calibration import calibrated
from training.tables.column_model import ColumnModel, ordered_sizes
from training.tables.column_network import losses, seeded_network, state_of
from training.tables.conditionals import conditionals
from training.tables.constraints import breaks, masks
from training.tables.drawing import Places, draw_allowed
from training.tables.estimation import Measurement
from training.tables.junction_trees import Clique
from training.tables.measurements import Vector
from training.tables.person_drawing import calibrated_persons, draw_persons
from training.tables.possible_rows import refuse_the_impossible
from training.tables.rounds import Purse
from training.tables.visits import Following, codes_before, follow, rows_before
from training.tables.worth import refuse_the_hopeless

MODALITY = "table"
QUANTA = 2000
_MARGINALS, _NETWORK, _LOGITS, _FOLLOWING = "marginals/", "network/", "logits/", "following/"
_ROWS_TO_CALIBRATE = 50_000
_MOST_ROWS_PER_PERSON = 16
_ROWS_AT_ONCE = 512


class Config(RoundsConfig):
    """What a data owner may set; defaults were chosen on public tables."""

    marginals_noise_ratio: float = Field(
        default=1.15,
        gt=1,
        le=100,
        description="Noise of the marginals, relative to spending the whole target on them (ratio).",
    )
    hidden: int = Field(default=32, ge=4, le=512, description="Width of the network (count).")
    steps: int = Field(default=200, ge=1, le=100_000, description="DP-SGD steps (count).")
    expected_batch_size: int = Field(
        default=1024, ge=1, le=1_000_000, description="Persons expected in a step (count)."
    )
    learning_rate: float = Field(
        default=3e-3, gt=0, le=1, description="Adam's first step size (ratio)."
    )
    rounds_per_column: int = Field(
        default=16,
        ge=1,
        le=64,
        description="Rounds that the marginals start to be cut into (count).",
    )


STAGES: tuple[Stage, ...] = (
    ZcdpStage(stage="rounds", steps=QUANTA, noise_ratio="marginals_noise_ratio"),
    DpSgdStage(stage="training", steps="steps", expected_batch_size="expected_batch_size"),
)
_BATCH = ShareOfUnits(share=0.2, least=32, most=4096)
PRESETS = {
    "quick": Preset(
        summary="Fewer steps of a smaller network.",
        settings={
            "steps": 60,
            "hidden": 16,
            "iterations": 100,
            "final_iterations": 150,
            "expected_batch_size": _BATCH,
        },
    ),
    "balanced": Preset(
        summary="Two hundred steps; a minute.", settings={"expected_batch_size": _BATCH}
    ),
    "best": Preset(
        summary="More steps of a wider network; minutes.",
        settings={
            "steps": 600,
            "hidden": 64,
            "final_iterations": 1500,
            "expected_batch_size": _BATCH,
        },
    ),
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A graphical model of noised marginals, and a network that corrects its conditionals."""

    config: Config
    schema: TableSchema
    marginals: graphical.Fitted
    columns: ColumnModel
    mechanisms: tuple[Mechanism, ...] = ()

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Return the noised marginals that the warm start was fitted to."""
        return self.marginals.measurements

    @property
    def total(self) -> float:
        """Return how many persons there were, from noised marginals (count)."""
        return self.marginals.total

    def sample(
        self, count: int, *, seed: int, progress: Callable[[int, int], None] | None = None
    ) -> Codes:
        """Draw rows, the same for the same seed; none breaks a constraint. Result (count, D)."""
        if self.schema.visits is not None:
            rows, _ = self.sample_persons(count, seed=seed)
        else:
            rows = self._drawn(count, seed=seed)
        if progress is not None:
            progress(count, count)
        return rows

    def sample_persons(self, count: int, *, seed: int) -> tuple[Codes, NDArray[np.int64]]:
        """Draw persons with their rows in order: codes (count, D) and persons (count,), from 0 on.

        Raises: InvalidParameter if the schema declares no visits.
        """
        left_over = self.marginals.left_over
        found = draw_persons(
            self.columns,
            count,
            rng=reproducible(seed),
            is_broken=breaks(self.schema, left_over) if left_over else None,
        )
        return found.codes, found.persons

    def _drawn(self, count: int, *, seed: int) -> Codes:
        rng = reproducible(seed)

        def drawn(places: Places) -> Codes:
            return self.columns.draw(len(places), rng=rng)

        broken = breaks(self.schema, self.marginals.left_over)
        return draw_allowed(drawn, broken, count=count)

    def score(self, codes: NDArray[np.integer], *, seed: int) -> dict[str, Vector]:
        """Return scores; higher = more likely a member. Shapes: (N, D) -> (N,) each.

        Those of the graphical model, with this model's own `log_density`, and `correction`: how much
        likelier the network, which alone has seen rows, makes a row. Rows are looked at one by one,
        without the rows before them.
        """
        found = self.marginals.score(codes, seed=seed)
        density = self.log_density(codes)
        return {
            **found,
            "log_density": density,
            "log_lift": found["log_lift"] + density - found["log_density"],
            "correction": density - found["log_density"],
        }

    def log_density(self, codes: NDArray[np.integer]) -> Vector:
        """Return the logarithm of the probability of each row. Shapes: (N, D) -> (N,)."""
        return self.columns.log_density(codes)

    def clique_terms(self, codes: NDArray[np.integer]) -> dict[Clique, Vector]:
        """Return the log marginal of each measured clique at each row, by its columns (N,)."""
        return self.marginals.clique_terms(codes)

    def related_pairs(self) -> tuple[Clique, ...]:
        """Return the measured pairs that stand out of their noise against independent columns."""
        return self.marginals.related_pairs()

    def warnings(self) -> tuple[str, ...]:
        """Return what the owner should know about this fit, from noised marginals alone."""
        return self.marginals.warnings()

    def state(self) -> Arrays:
        """Return the noised marginals, the potentials fitted to them, and the network's weights."""
        weights = {f"{_NETWORK}{k}": v for k, v in state_of(self.columns.network).items()}
        logits = {f"{_LOGITS}{one.column}": one.logits for one in self.columns.conditionals}
        marginals = {f"{_MARGINALS}{k}": v for k, v in self.marginals.state().items()}
        following = {} if self.columns.following is None else self.columns.following.state()
        following = {f"{_FOLLOWING}{k}": v for k, v in following.items()}
        return {**marginals, **weights, **logits, **following}

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)


def from_state(state: Arrays, *, config: Config, schema: TableSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    marginals = graphical.rebuilt(
        _under(state, _MARGINALS), config=config, schema=schema, most_bytes=most_bytes(config)
    )
    visits = _under(state, _FOLLOWING)
    following = Following.from_state(visits, columns=len(schema.columns)) if visits else None
    columns = _column_model(marginals, config, following=following, seed=0)
    weights = _under(state, _NETWORK)
    columns.network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
    moved = _under(state, _LOGITS)
    columns = columns.with_logits(lambda one: np.asarray(moved[str(one.column)], dtype=np.float32))
    return Fitted(config=config, schema=schema, marginals=marginals, columns=columns)


def fit(
    records: TableRecords, config: Config, *, schema: TableSchema, run: Run, seed: int
) -> Fitted:
    """Measure marginals, fit a model to them, and train the network that corrects it.

    `seed` sets the network's initial weights; noise takes none. Raises: InvalidParameter if the
    records contradict the schema, or if the budget or the constraints are hopeless.
    """
    Ranks.here().refuse_several("Measuring marginals")
    records = records.checked(schema)
    purse, kept = Purse(run), Progress(run)
    refuse_the_hopeless(schema, purse.mechanism)
    allowed, left_over = masks(schema, most_bytes=most_bytes(config))
    refuse_the_impossible(schema, allowed, left_over)
    following = None
    if schema.visits is not None:
        following = follow(records, schema=schema, visits=schema.visits, purse=purse, kept=kept)
    rounds = AdaptiveRounds(records, config, schema=schema, allowed=allowed, purse=purse, kept=kept)
    marginals = graphical.Fitted(
        config=config,
        schema=schema,
        model=rounds.run(),
        measurements=tuple(rounds.measurements),
        left_over=left_over,
    )
    columns = _column_model(marginals, config, following=following, seed=seed)
    dp_sgd.train(
        columns.network,
        _Correction(records, columns, schema=schema),
        people=records.by_person(),
        index=1,
        settings=dp_sgd.DpSgdSettings(
            expected_batch_size=config.expected_batch_size,
            learning_rate=config.learning_rate,
            images_per_person=_MOST_ROWS_PER_PERSON,
            physical_batch=_ROWS_AT_ONCE,
        ),
        run=run,
        kept=kept,
    )
    give_back = calibrated if following is None else calibrated_persons
    columns = give_back(columns, count=_ROWS_TO_CALIBRATE, rng=reproducible(seed))
    return Fitted(
        config=config,
        schema=schema,
        marginals=marginals,
        columns=columns,
        mechanisms=run.mechanisms,
    )


class _Correction:
    """The objective of DP-SGD: a row's negative log-likelihood."""

    def __init__(self, records: TableRecords, columns: ColumnModel, *, schema: TableSchema) -> None:
        self._records, self._columns = records, columns
        self._before: NDArray[np.int64] | None = None
        if schema.visits is not None:
            self._before = rows_before(records, schema.index(schema.visits.order))

    def examples(self, records: NDArray[np.int64]) -> dp_sgd.Examples:
        """Return rows in the order of drawing, the logits that the network adds to, and rows before."""
        codes = self._records.codes[records]
        if self._before is None:
            return self._columns.examples(codes)
        # The row before is the same person's: nothing of anybody else enters a person's gradient.
        earlier = codes_before(self._records.codes, self._before, records, self._columns.sizes)
        return self._columns.examples(codes, earlier)

    def loss(self, network: Callable[..., Tensor], examples: dp_sgd.Examples) -> Tensor:
        """Return the loss of each row (nats)."""
        return losses(network, examples, sizes=self._columns.network.sizes).sum(dim=1)


def _column_model(
    marginals: graphical.Fitted, config: Config, *, following: Following | None = None, seed: int
) -> ColumnModel:
    sizes = marginals.schema.sizes
    found = conditionals(marginals.model, sizes)
    network = seeded_network(
        ordered_sizes(found, sizes),
        hidden=config.hidden,
        recalls=following is not None,
        seed=seed,
    )
    return ColumnModel(conditionals=found, sizes=sizes, network=network, following=following)


def _under(state: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
