"""Re-identification: do samples lead to persons, by what several pictures of one person have in common?

What is attacked: membership and identity. An attacker holds several pictures of a person (other scans,
another side, another day) and looks whether the release holds somebody who looks like all of them. A
copy of one picture is the business of near-copies; here, what counts is the person.

Pictures are compared in a metric of identity, learnt from reference half a alone: principal directions,
whitened by how pictures of one person differ (within-class covariance normalisation, Hatch, Kajarekar
and Stolcke 2006). Packhäuser et al. 2022 show how well radiographs identify (doi:10.1038/s41598-022-19045-3).
Three declared scores per person with several pictures: *template*, how near a sample comes to the mean
of their pictures, relative to the nearest reference person; *two_pictures*, how near one sample comes to
two of their pictures at once; *retrieved*, how many samples have this person as the nearest of the pool,
clearer ones counting more. Coins decide: who was trained on must be found no more often than who was not.

Metrics: as every membership audit has them (leak_p_value is the max-statistic permutation test over the
three scores); verification_auc, how well the metric tells two pictures of one person from two of different
persons on reference half b (0.5: this audit is blind); retrieved_members and retrieved_non_members,
persons that a clear sample leads to, and retrieved_p_value, the exact hypergeometric test of the two.
Not computed where fewer persons than are needed have several pictures.

What a pass does not mean: a metric learnt from a few hundred persons is weaker than a network for
faces or scans; where verification_auc is near 0.5, nothing was tested.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from privacy.copies import Detector
from privacy.evidence import Arm, Evidence, Finding, Goal, Knowledge, Metric, ThreatModel
from privacy.membership import MIN_PER_CELL, SMALLEST, Pool, Settings, measure, pool_of
from privacy.neighbourhoods import Population, Survey
from privacy.statistics import auc

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.SAMPLES,
    reference=True,
    description="Somebody who holds several pictures of a person and the released samples.",
)
NEEDS = ("samples",)
AUDIT = "reidentification"
ATTACKS = ("template", "two_pictures", "retrieved")

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
_BLOCK_VALUES = 4_000_000
_PAIRS = 4000
_FLOOR = 0.01  # of the mean within-person variance


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    directions: int = Field(default=24, ge=2, le=256, description="principal directions")
    reference_persons: int = Field(
        default=40, ge=10, description="reference persons with several pictures that are needed"
    )
    clear_share: float = Field(
        default=0.05, gt=0, le=1, description="share of samples that lead to somebody most clearly"
    )


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,
) -> Finding:
    """Learn a metric of identity on reference half a, and look for persons of the pool by it."""
    config = config or Config()
    population = survey.population
    pool = with_several(pool_of(population), population)
    reason = _too_few(population, pool, config)
    if reason:
        nothing = {name: np.full(len(pool.persons), np.nan) for name in ATTACKS}
        finding = measure(AUDIT, nothing, pool, settings=settings, rng=rng)
        metrics = (m.model_copy(update={"reason": reason}) for m in finding.metrics)
        return finding.model_copy(update={"metrics": (*metrics, *_none(reason))})
    identity = _learn(survey, config)
    look = _look(evidence, survey, identity, pool, rng=rng)
    finding = measure(AUDIT, look.scores, pool, settings=settings, rng=rng)
    extra = (
        _verification(survey, identity, rng),
        *_retrieved(look, pool, config),
    )
    details = finding.details | {"persons_with_several": len(pool.persons)}
    return finding.model_copy(update={"metrics": (*finding.metrics, *extra), "details": details})


def with_several(pool: Pool, population: Population) -> Pool:
    """Return the persons of the pool who have more than one record."""
    counts = np.bincount(population.persons, minlength=len(population.arms))
    return pool.where(counts[pool.persons] > 1)


def _too_few(population: Population, pool: Pool, config: Config) -> str | None:
    counts = np.bincount(population.persons, minlength=len(population.arms))
    known = (population.arms == Arm.REFERENCE_A) & ~population.excluded & (counts > 1)
    if not len(pool.persons):
        return "nobody in the audit pool has more than one record"
    if known.sum() < config.reference_persons:
        return (
            f"{int(known.sum())} reference persons have several records; "
            f"{config.reference_persons} are needed to learn what a person's records share"
        )
    return pool.too_small()


def _none(reason: str) -> tuple[Metric, ...]:
    names = ("verification_auc", "retrieved_members", "retrieved_non_members")
    return tuple(
        Metric(name=n, value=None, direction="context", reason=reason)
        for n in (*names, "retrieved_p_value")
    )


@dataclass(frozen=True)
class Identity:
    """A linear metric: subtract, project, compare by Euclidean distance."""

    centre: Floats
    axes: Floats

    def of(self, survey: Survey, records: NDArray[np.generic]) -> Floats:
        """Return (records, directions) coordinates in which one person's records lie close."""
        described = survey.spaces[0].describe(records)[0]
        return np.asarray((described - self.centre) @ self.axes)


def _learn(survey: Survey, config: Config) -> Identity:
    """Whiten principal directions of half a by the scatter within its persons."""
    population = survey.population
    rows = population.records_of(Arm.REFERENCE_A)
    described = survey.spaces[0].describe(population.records[rows])[0].astype(np.float64)
    centre = described.mean(axis=0)
    _, _, axes = np.linalg.svd(described - centre, full_matrices=False)
    axes = axes[: min(config.directions, len(rows) // 4)].T
    points = (described - centre) @ axes
    _, owner, counts = np.unique(population.persons[rows], return_inverse=True, return_counts=True)
    templates = _means(points, owner, len(counts))
    several = counts[owner] > 1
    within = points[several] - templates[owner[several]]
    freedom = max(1, int(several.sum()) - int((counts > 1).sum()))
    scatter = within.T @ within / freedom
    floor = _FLOOR * np.trace(scatter) / len(scatter) + SMALLEST
    values, vectors = np.linalg.eigh(scatter)
    return Identity(centre, axes @ (vectors / np.sqrt(np.maximum(values, 0) + floor)))


def _means(points: Floats, owner: Ints, count: int) -> Floats:
    """Return (count, directions) each owner's mean point."""
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, owner, points)
    return sums / np.maximum(np.bincount(owner, minlength=count), 1)[:, None]


@dataclass(frozen=True)
class Look:
    """What samples say of the pool: attack -> (pool,) scores, and whom each sample leads to."""

    scores: dict[str, Floats]
    leads_to: Ints
    ratio: Floats


def _look(
    evidence: Evidence, survey: Survey, identity: Identity, pool: Pool, *, rng: np.random.Generator
) -> Look:
    """Search samples among templates and pictures of the pool's persons."""
    population = survey.population
    place = np.full(len(population.arms), -1)
    place[pool.persons] = np.arange(len(pool.persons))
    rows = np.flatnonzero(place[population.persons] >= 0)
    owner = place[population.persons[rows]]
    order = np.argsort(owner, kind="stable")
    rows, owner = rows[order], owner[order]
    pictures = identity.of(survey, population.records[rows])
    templates = _means(pictures, owner, len(pool.persons))
    samples = identity.of(survey, evidence.samples)
    known = _templates_of(survey, identity, Arm.REFERENCE_A)
    nearest = np.full(len(pool.persons), np.inf)
    both = np.full(len(pool.persons), np.inf)
    leads, ratios = [], []
    starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    step = max(1, _BLOCK_VALUES // max(len(rows), 1))
    for start in range(0, len(samples), step):
        block = samples[start : start + step]
        distance = _distances(block, templates)
        nearest = np.minimum(nearest, distance.min(axis=0))
        both = np.minimum(both, _second_nearest(_distances(block, pictures), starts).min(axis=0))
        two = np.partition(distance, 1, axis=1)[:, :2]
        leads.append(distance.argmin(axis=1))
        ratios.append(two[:, 0] / (two[:, 1] + SMALLEST))
    leads_to, ratio = np.concatenate(leads), np.concatenate(ratios)
    votes = np.bincount(leads_to, weights=1 - ratio, minlength=len(pool.persons))
    to_known = _distances(templates, known).min(axis=1)
    return Look(
        scores={
            "template": np.log((to_known + SMALLEST) / (nearest + SMALLEST)),
            "two_pictures": -both,
            # Ties, mostly persons whom no sample leads to, are broken by chance, blind to coins.
            "retrieved": votes + SMALLEST * rng.random(len(votes)),
        },
        leads_to=leads_to,
        ratio=ratio,
    )


def _templates_of(survey: Survey, identity: Identity, arm: Arm) -> Floats:
    population = survey.population
    rows = population.records_of(arm)
    _, owner = np.unique(population.persons[rows], return_inverse=True)
    points = identity.of(survey, population.records[rows])
    return _means(points, owner, int(owner.max()) + 1)


def _second_nearest(distances: Floats, starts: Ints) -> Floats:
    """Return (rows, persons) the second smallest distance within each person's columns."""
    first = np.minimum.reduceat(distances, starts, axis=1)
    widths = np.diff([*starts, distances.shape[1]])
    is_first = distances <= np.repeat(first, widths, axis=1)
    # Where two pictures are equally near, one of them stays.
    ties = np.add.reduceat(is_first, starts, axis=1) > 1
    rest = np.minimum.reduceat(np.where(is_first, np.inf, distances), starts, axis=1)
    return np.where(ties, first, rest)


def _distances(left: Floats, right: Floats) -> Floats:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def _verification(survey: Survey, identity: Identity, rng: np.random.Generator) -> Metric:
    """Measure on reference half b whether the metric knows persons at all."""
    population = survey.population
    rows = population.records_of(Arm.REFERENCE_B)
    persons = population.persons[rows]
    one, other = (rng.integers(0, max(1, len(rows)), _PAIRS) for _ in range(2))
    order = np.argsort(persons, kind="stable")
    next_own = np.flatnonzero(persons[order][1:] == persons[order][:-1])
    if len(next_own) < MIN_PER_CELL:
        reason = f"{len(next_own)} pairs of one person's records in reference half b; 20 are needed"
        return Metric(name="verification_auc", value=None, direction="context", reason=reason)
    points = identity.of(survey, population.records[rows])
    same = np.linalg.norm(points[order[next_own]] - points[order[next_own + 1]], axis=1)
    differ = persons[one] != persons[other]
    apart = np.linalg.norm(points[one[differ]] - points[other[differ]], axis=1)
    value = auc(-np.concatenate([same, apart]), np.repeat([1, 0], [len(same), len(apart)]))
    return Metric(
        name="verification_auc", value=value, direction="context", n=len(same), baseline=0.5
    )


def _retrieved(look: Look, pool: Pool, config: Config) -> tuple[Metric, ...]:
    """Count the persons that the clearest samples lead to, by coin; test it exactly."""
    clear = look.ratio <= np.quantile(look.ratio, config.clear_share)
    found = np.isin(np.arange(len(pool.persons)), look.leads_to[clear]) & pool.tossed
    members = int((found & (pool.coins == 1)).sum())
    others = int((found & (pool.coins == 0)).sum())
    total, inside = int(pool.tossed.sum()), int((pool.coins[pool.tossed] == 1).sum())
    p_value = float(stats.hypergeom.sf(members - 1, total, inside, members + others))
    return (
        Metric(name="retrieved_members", value=members, direction="context", unit="persons"),
        Metric(name="retrieved_non_members", value=others, direction="context", unit="persons"),
        Metric(name="retrieved_p_value", value=p_value, direction="context", n=total),
    )
