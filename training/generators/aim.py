"""AIM: a graphical model of the table, which keeps measuring the pair of columns that it gets most wrong.

**Idea.** First every column's distribution is measured. Then, round by round, the exponential
mechanism picks the pair of columns whose joint distribution the model so far misses most, beyond
what measuring it would add in noise; that pair is measured with noise, and the model is fitted
again. Where a round changes the model by no more than its noise, later rounds get half of that noise. The
model is a junction tree, so its fit, its marginals and its rows are exact, and declared constraints
are cells of probability zero: no row breaks one. Pairs with a declared target count four times. The last fit takes
neighbouring levels of a declared order to be related alike, which takes noise away; drawn rows are exchanged until
all pairs of columns agree with the model.

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

from privacy.mechanisms import Stage, ZcdpStage
from privacy.presets import Preset
from privacy.table_schema import TableSchema
from training.checkpoints import Arrays, Progress
from training.ranks import Ranks
from training.run import Run
from training.table_records import TableRecords
from training.tables.adaptive_rounds import AdaptiveRounds, RoundsConfig, most_bytes
from training.tables.constraints import masks
from training.tables.fitted import Fitted, rebuilt
from training.tables.possible_rows import refuse_the_impossible
from training.tables.rounds import Purse
from training.tables.worth import refuse_the_hopeless

__all__ = ["Config", "Fitted", "fit", "from_state"]

MODALITY = "table"
QUANTA = 2000


class Config(RoundsConfig):
    """What a data owner may set; defaults were chosen on public tables."""


STAGES: tuple[Stage, ...] = (ZcdpStage(stage="rounds", steps=QUANTA),)
PRESETS = {
    "quick": Preset(
        summary="A smaller model with fewer passes.",
        settings={"model_megabytes": 0.25, "iterations": 100, "final_iterations": 150},
    ),
    "balanced": Preset(summary="Half a megabyte of model; seconds to a minute.", settings={}),
    "best": Preset(
        summary="A larger model with more passes; minutes where epsilon is large.",
        settings={"model_megabytes": 2.0, "iterations": 400, "final_iterations": 1500},
    ),
}
SUITS_FROM = 1500.0


def from_state(state: Arrays, *, config: Config, schema: TableSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return rebuilt(state, config=config, schema=schema, most_bytes=most_bytes(config))


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
    allowed, left_over = masks(schema, most_bytes=most_bytes(config))
    refuse_the_impossible(schema, allowed, left_over)
    work = AdaptiveRounds(
        records, config, schema=schema, allowed=allowed, purse=purse, kept=Progress(run)
    )
    model = work.run()
    return Fitted(
        config=config,
        schema=schema,
        measurements=tuple(work.measurements),
        model=model,
        left_over=left_over,
        mechanisms=run.mechanisms,
    )
