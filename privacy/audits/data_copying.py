"""Data-copying: do samples crowd around trained-on records more than chance and the population explain?

What is attacked: memorization that no single sample gives away. A generator that smears its training
set lies closer to trained-on records than held-out ones do, all over or in one region.

Three statistics, all of them known from the literature without a valid error: *C_T*, how samples'
distances to the training set rank among those of held-out records, per cell of the population and
weighted (Meehan, Chaudhuri and Dasgupta 2020, arXiv:2004.05675; its cells' Z scores are no normal
variable once averaged); its *worst cell*; and the *authenticity gap*: the share of samples farther from
their nearest record than that record is from its own neighbour (Alaa et al. 2022, arXiv:2102.08921),
among trained-on records minus among held-out ones. Each is set against what it would be had
other persons been trained on, by shuffling arms, and the smallest p-value against its own shuffles
(Westfall and Young 1993). So a generator stuck on a few pictures, or an ideal one, accuses itself no
more often than the p-value says. Units are drawn where there are many; of many samples those are looked
at that lie nearest to the units drawn, whatever their arms, so that shuffles stay valid.

What a pass does not mean: this audit has none. Distances to the nearest record do not follow the
risk of membership (Yao et al. 2025, arXiv:2505.01524), so it may accuse and never clears.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from privacy.copies import MIN_ARM, Detector
from privacy.evidence import Arm, Evidence, Finding, Goal, Knowledge, Metric, ThreatModel
from privacy.membership import Settings
from privacy.neighbourhoods import Population, Survey

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMORIZATION,
    generator=Knowledge.SAMPLES,
    reference=False,
    description="An onlooker who holds the released samples and sees where they crowd.",
)
NEEDS = ("samples",)
SEES_EVERYTHING = True  # a release of the whole training set: the self-test demands it

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

_NEIGHBOURS = 64
_ROUNDS = 10
_BLOCK_FLOATS = 4_000_000
_DESCRIBED = 10_000  # samples at once


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    directions: int = Field(default=32, ge=2, le=256, description="principal directions")
    cells: int = Field(default=10, ge=1, le=100, description="cells of the population at most")
    cell_size: int = Field(default=10, ge=5, description="samples and held-out units in a cell")
    most: int = Field(
        default=2500, ge=100, description="samples, and twice as many units, looked at"
    )
    # Any of three statistics may be the only one to speak: 3 / (shuffles + 1) must be below the level.
    shuffles: int = Field(default=2000, ge=200, description="shuffles of the arms")


@dataclass(frozen=True)
class Lists:
    """Nearest units of queries: who (queries, k) and how far (queries, k), nearest first."""

    who: Ints
    far: Floats

    def nearest_in(self, group: Bools) -> tuple[Floats, Ints]:
        """Return the distance to the nearest unit of `group`, and the unit; the farthest if none."""
        first = group[self.who].argmax(axis=1)
        rows = np.arange(len(self.who))
        missed = ~group[self.who[rows, first]]
        place = np.where(missed, self.who.shape[1] - 1, first)
        return self.far[rows, place], self.who[rows, place]


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,  # noqa: ARG001 - part of the contract
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,
) -> Finding:
    """Measure crowding of samples around trained-on records against shuffled arms."""
    config = config or Config()
    population = survey.population
    judged = _judged(population, rng, most=2 * config.most)
    trained = population.trained[judged]
    if min(int(trained.sum()), int((~trained).sum())) < MIN_ARM:
        reason = (
            f"it needs {MIN_ARM} trained-on and {MIN_ARM} held-out units; there are "
            f"{int(trained.sum())} and {int((~trained).sum())}"
        )
        return _not_measured(reason)
    points, owners, queries = _described(survey, evidence.samples, judged, config)
    one_each = np.unique(owners, return_index=True)[1]
    count = len(judged)
    of_units = _lists(points[one_each], points, owners, count=count, own=True)
    usual = of_units.far[owners, 0]
    queries = queries[_nearby(queries, points, usual, rng, most=config.most)]
    of_samples = _lists(queries, points, owners, count=count)
    cells = _Cells(queries, points[one_each], config, rng)
    rows = np.tile(trained, (config.shuffles + 1, 1))
    rows[1:] = rng.permuted(rows[1:], axis=1)
    seen = np.array([_statistics(row, of_samples, of_units, cells) for row in rows])
    p_values = (seen[None, :, :] >= seen[:, None, :] - 1e-12).mean(axis=1)
    smallest = p_values.min(axis=1)
    p_value = float((smallest <= smallest[0] + 1e-12).mean())
    return _finding(p_value, seen[0], seen[1:].mean(axis=0), p_values[0], n=len(queries))


def _judged(population: Population, rng: np.random.Generator, *, most: int) -> Ints:
    """Return the units whose arms are compared, at most `most`: half of them held out, if there are.

    Held-out units are the scarce ones, and what they lack is power. Within a set that is drawn from
    each arm by chance, every assignment of as many arms is as likely as the true one (if arms do not
    matter), so shuffles stay valid.
    """
    trained = np.flatnonzero(population.trained & ~population.excluded)
    held_out = np.flatnonzero(population.held_out)
    from_held_out = min(len(held_out), max(most // 2, most - len(trained)))
    from_trained = min(len(trained), most - from_held_out)
    chosen = (
        rng.choice(trained, from_trained, replace=False),
        rng.choice(held_out, from_held_out, replace=False),
    )
    return np.sort(np.concatenate(chosen))


def _described(
    survey: Survey, samples: NDArray[np.generic], judged: Ints, config: Config
) -> tuple[Floats, Ints, Floats]:
    """Return records, their units counted from 0, and samples, in directions of held-out records."""
    population, space = survey.population, survey.spaces[0]
    rows = np.flatnonzero(np.isin(population.persons, judged))
    owners = np.searchsorted(judged, population.persons[rows])
    base = population.records_of(Arm.REFERENCE_A)
    if len(base) < 2 * config.directions:
        base = rows  # the pooled records, blind to arms
    known = space.describe(population.records[base])[0]
    centre = known.mean(axis=0)
    _, _, axes = np.linalg.svd(known - centre, full_matrices=False)
    axes = axes[: config.directions].T
    points = (space.describe(population.records[rows])[0] - centre) @ axes
    blocks = [
        (space.describe(samples[start : start + _DESCRIBED])[0] - centre) @ axes
        for start in range(0, max(1, len(samples)), _DESCRIBED)
    ]
    return points, owners, np.concatenate(blocks)


def _nearby(
    queries: Floats, points: Floats, usual: Floats, rng: np.random.Generator, *, most: int
) -> Ints:
    """Return which samples are looked at, in order: all, or `most` that come nearest to some record.

    A draw of samples beside a draw of units would hold both sides of a copy as seldom as the product of
    both shares: of 40,000 copied units one in 300. Units come first, and then, of the samples nearest
    to each of their records, whatever its arm, those nearest in terms of the distance `usual` (points,)
    between that unit and its own next; others by chance, where these are few.
    """
    if len(queries) <= most:
        return np.arange(len(queries))
    nearest, distance = _nearest_queries(queries, points)
    ratio = np.full(len(points), np.inf)  # last: who has a twin among others
    np.divide(distance, usual, out=ratio, where=usual > 0)
    order = np.argsort(ratio, kind="stable")
    met, first = np.unique(nearest[order], return_index=True)
    chosen = met[np.argsort(first)][:most]
    others = np.setdiff1d(np.arange(len(queries)), chosen)
    return np.union1d(chosen, rng.choice(others, most - len(chosen), replace=False))


def _nearest_queries(queries: Floats, points: Floats) -> tuple[Ints, Floats]:
    """Return (points,) which query is nearest, and how far it is; block by block of queries."""
    found, best = np.zeros(len(points), dtype=np.int64), np.full(len(points), np.inf)
    columns, step = np.arange(len(points)), max(1, _BLOCK_FLOATS // len(points))
    squares = (points**2).sum(axis=1)
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        gaps = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ points.T
        first = gaps.argmin(axis=0)
        nearer = gaps[first, columns] < best
        found[nearer], best[nearer] = start + first[nearer], gaps[first, columns][nearer]
    return found, np.sqrt(np.maximum(best, 0.0))


def _lists(
    queries: Floats, points: Floats, owners: Ints, *, count: int, own: bool = False
) -> Lists:
    """Return the nearest units of each query; with `own`, query i belongs to unit i, left out."""
    order = np.argsort(owners, kind="stable")
    points, starts = points[order], np.searchsorted(owners[order], np.arange(count))
    squares = (points**2).sum(axis=1)
    k = min(_NEIGHBOURS, count - 1)
    who, far = [], []
    step = max(1, _BLOCK_FLOATS // len(points))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        gaps = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ points.T
        by_unit = np.minimum.reduceat(gaps, starts, axis=1)
        if own:
            by_unit[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        nearest = np.argpartition(by_unit, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(by_unit, nearest, axis=1)
        ranks = np.argsort(values, axis=1, kind="stable")
        who.append(np.take_along_axis(nearest, ranks, axis=1))
        far.append(np.sqrt(np.maximum(np.take_along_axis(values, ranks, axis=1), 0.0)))
    return Lists(np.concatenate(who), np.concatenate(far))


class _Cells:
    """Regions of the population, found on units blind to arms (k-means, Lloyd 1982)."""

    def __init__(
        self, samples: Floats, units: Floats, config: Config, rng: np.random.Generator
    ) -> None:
        count = int(np.clip(len(units) // 100, 1, config.cells))
        centres = units[rng.choice(len(units), count, replace=False)]
        for _ in range(_ROUNDS):
            cell = _nearest_centre(units, centres)
            centres = np.stack(
                [
                    units[cell == i].mean(axis=0) if (cell == i).any() else centres[i]
                    for i in range(count)
                ]
            )
        self.of_units = _nearest_centre(units, centres)
        self.of_samples = _nearest_centre(samples, centres)
        self.smallest = config.cell_size
        self.count = count


def _nearest_centre(points: Floats, centres: Floats) -> Ints:
    gaps = (centres**2).sum(axis=1) - 2 * points @ centres.T
    return np.asarray(gaps.argmin(axis=1))


def _statistics(trained: Bools, of_samples: Lists, of_units: Lists, cells: _Cells) -> Floats:
    """Return (-C_T, -worst cell, -authenticity gap) under these arms; larger is riskier."""
    to_samples, _ = of_samples.nearest_in(trained)
    to_units, _ = of_units.nearest_in(trained)
    scores, weights = [], []
    for cell in range(cells.count):
        mine = to_samples[cells.of_samples == cell]
        held = to_units[(cells.of_units == cell) & ~trained]
        if min(len(mine), len(held)) >= cells.smallest:
            scores.append(_rank_z(mine, held))
            weights.append(len(mine))
    if not scores:
        scores, weights = [_rank_z(to_samples, to_units[~trained])], [1]
    gap = _authentic(trained, of_samples, of_units) - _authentic(~trained, of_samples, of_units)
    return np.array([-np.average(scores, weights=weights), -min(scores), -gap])


def _rank_z(samples: Floats, held: Floats) -> float:
    """Return the Z score of Mann and Whitney: negative where samples lie nearer than held-out."""
    n, m = len(samples), len(held)
    ranks = stats.rankdata(np.concatenate([samples, held]))
    rank_sum = float(ranks[:n].sum()) - n * (n + 1) / 2
    return (rank_sum - n * m / 2) / float(np.sqrt(n * m * (n + m + 1) / 12))


def _authentic(group: Bools, of_samples: Lists, of_units: Lists) -> float:
    """Return the share of samples farther from their nearest of `group` than that one from the next."""
    gap, nearest = of_samples.nearest_in(group)
    own_gap, _ = of_units.nearest_in(group)
    return float((gap > own_gap[nearest]).mean())


def _finding(p_value: float, seen: Floats, usual: Floats, parts: Floats, *, n: int) -> Finding:
    names = ("c_t", "c_t_worst_cell", "authenticity_gap")
    return Finding(
        audit="data_copying",
        metrics=(
            Metric(name="p_value", value=p_value, direction="lower_is_riskier", n=n),
            *(
                Metric(
                    name=name,
                    value=-float(seen[i]),
                    baseline=-float(usual[i]),
                    direction="context",
                    n=n,
                )
                for i, name in enumerate(names)
            ),
        ),
        details={f"p_{name}": float(parts[i]) for i, name in enumerate(names)},
    )


def _not_measured(reason: str) -> Finding:
    metric = Metric(name="p_value", value=None, direction="lower_is_riskier", reason=reason)
    return Finding(audit="data_copying", metrics=(metric,))
