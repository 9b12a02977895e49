"""MST: a graphical model along one spanning tree of pairs of columns; quick, and robust at small epsilon.

**Idea.** A third of the budget measures every column. A third chooses a spanning tree: edge by edge,
the exponential mechanism prefers the pair whose joint distribution differs most from independent
columns. The last third measures the pairs on the tree. The model fitted to all of it is drawn from;
declared constraints are cells of probability zero: no row breaks one.

**Sensitivity.** A person's rows weigh 1 together, so a person moves every marginal, and the score of
every pair, by at most 1, in L1 and L2 norm, however many rows they have.

**When.** In seconds, for a first look or very wide tables. AIM is better wherever it can be afforded: it
measures what matters again, and keeps more than a tree.

**Sources.** McKenna, Miklau and Sheldon 2021, arXiv:2108.04978 (MST); McKenna, Sheldon and Miklau
2019, arXiv:1901.09136 (estimation).
"""

from collections.abc import Callable
from math import sqrt

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
from training.tables.constraints import Masks, masks
from training.tables.estimation import Measurement, estimate, noised_total
from training.tables.fitted import MEGABYTE, Fitted, rebuilt
from training.tables.junction_trees import Clique, model_bytes
from training.tables.measurements import on_simplex
from training.tables.possible_rows import refuse_the_impossible
from training.tables.rounds import (
    Answers,
    Purse,
    measurable_pairs,
    measurements_from_arrays,
    measurements_to_arrays,
    preferences,
)
from training.tables.worth import refuse_the_hopeless

__all__ = ["Config", "Fitted", "fit", "from_state"]

MODALITY = "table"
QUANTA = 300


class Config(BaseModel):
    """What a data owner may set; defaults were chosen on public tables."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model_megabytes: float = Field(
        default=2.0, gt=0, le=64, description="Memory of the model's tables (MB)."
    )
    iterations: int = Field(
        default=1000, ge=1, le=100_000, description="Passes of the fit (count)."
    )


STAGES: tuple[Stage, ...] = (ZcdpStage(stage="tree", steps=QUANTA),)
PRESETS = {
    "quick": Preset(summary="A few hundred passes.", settings={"iterations": 300}),
    "balanced": Preset(summary="A thousand passes; seconds.", settings={}),
    "best": Preset(summary="Three thousand passes.", settings={"iterations": 3000}),
}
SUITS_FROM = 1000.0


def from_state(state: Arrays, *, config: Config, schema: TableSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return rebuilt(state, config=config, schema=schema, most_bytes=_most_bytes(config))


def fit(
    records: TableRecords, config: Config, *, schema: TableSchema, run: Run, seed: int
) -> Fitted:
    """Measure columns, choose a tree, measure its pairs, and fit the model.

    Raises: InvalidParameter if the records contradict the schema, or if the budget or the
    constraints are hopeless; ReleaseLost on a resume whose measured results are gone.
    """
    del seed  # fitting draws privacy noise only, which takes no seed
    Ranks.here().refuse_several("Measuring marginals")
    records = records.checked(schema)
    purse, kept, sizes = Purse(run), Progress(run), schema.sizes
    refuse_the_hopeless(schema, purse.mechanism)
    allowed, left_over = masks(schema, most_bytes=_most_bytes(config))
    refuse_the_impossible(schema, allowed, left_over)
    pairs = measurable_pairs(sizes)
    singles = tuple((column,) for column in range(len(sizes)))
    answers = Answers.of(records, singles + pairs, sizes)
    thirds = _Thirds(purse, kept)

    columns = thirds.once("columns", lambda rho: _measured(answers, singles, rho))
    known = measurements_from_arrays(columns, sizes)
    chosen = thirds.once(
        "edges",
        lambda rho: _edges(
            answers, known, pairs, sizes, rho=rho, allowed=allowed, most_bytes=_most_bytes(config)
        ),
    )
    edges = tuple((int(a), int(b)) for a, b in chosen["edges"])
    # A table of one column, or without a pair that may be measured, has its columns measured again.
    last = thirds.once("pairs", lambda rho: _measured(answers, edges or singles, rho))
    measurements = known + measurements_from_arrays(last, sizes)
    model = estimate(measurements, sizes, iterations=config.iterations, allowed=allowed)
    return Fitted(
        config=config,
        schema=schema,
        measurements=tuple(measurements),
        model=model,
        left_over=left_over,
        mechanisms=run.mechanisms,
    )


def _most_bytes(config: Config) -> int:
    return int(config.model_megabytes * MEGABYTE)


class _Thirds:
    """Three phases that each charge a third of the quanta, once, and keep what they found."""

    def __init__(self, purse: Purse, kept: Progress) -> None:
        self._purse, self._kept = purse, kept
        self._unaccounted = purse.quanta - purse.left
        self._phases = 0

    def once(self, name: str, compute: Callable[[float], Arrays]) -> Arrays:
        """Charge a third and compute with the rho it buys, or take the result of an earlier start.

        Raises: ReleaseLost if the phase was charged before and its result is gone.
        """
        self._phases += 1
        third = self._purse.quanta // 3
        quanta = third if self._phases < 3 else self._purse.quanta - 2 * third
        found = self._kept.section(f"phase_{name}")
        if not found and self._unaccounted > 0:
            raise ReleaseLost(
                f"Repeating the phase {name!r} was refused: it was charged, and its result is not "
                "in the checkpoint. A second one would cost the budget twice. Request a new job."
            )
        self._unaccounted -= quanta
        if not found:
            found = compute(self._purse.spend(quanta))
            self._kept.keep(f"phase_{name}", found)
        self._purse.show()
        return found


def _measured(answers: Answers, cliques: tuple[Clique, ...], rho: float) -> Arrays:
    source = PrivacyRandomness()
    each = rho / len(cliques)
    return measurements_to_arrays([answers.measure(c, each, source=source) for c in cliques])


def _edges(
    answers: Answers,
    known: list[Measurement],
    pairs: tuple[Clique, ...],
    sizes: tuple[int, ...],
    *,
    rho: float,
    allowed: Masks,
    most_bytes: int,
) -> Arrays:
    """Choose a spanning tree of pairs, each edge by the exponential mechanism (E, 2)."""
    total = noised_total(known)
    single = [on_simplex(column.values / total) for column in known]
    product = [total * np.multiply.outer(single[a], single[b]).ravel() for a, b in pairs]
    scores = answers.errors(pairs, product)
    epsilon = sqrt(8 * rho / max(len(sizes) - 1, 1))
    source, group = PrivacyRandomness(), list(range(len(sizes)))
    edges: list[Clique] = []
    for _ in range(len(sizes) - 1):
        open_pairs = [n for n, (a, b) in enumerate(pairs) if group[a] != group[b]]
        order = preferences(scores[open_pairs], epsilon=epsilon, sensitivity=1.0, source=source)
        wished = (pairs[open_pairs[int(n)]] for n in order)
        fitting = (p for p in wished if model_bytes([*edges, p, *allowed], sizes) <= most_bytes)
        edge = next(fitting, None)
        if edge is None:
            break
        edges.append(edge)
        group = [group[edge[0]] if mark == group[edge[1]] else mark for mark in group]
    return {"edges": np.asarray(edges, dtype=np.int16).reshape(-1, 2)}
