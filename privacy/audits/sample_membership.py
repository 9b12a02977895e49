"""Membership from samples: can an onlooker tell who was trained on, from the release alone?

What is attacked: membership. The attacker holds the released samples and pictures of some persons,
and, for calibration, pictures of others who were never trained on (reference half a).

Five declared scores per person, none of which needs a shadow model: *nearest* (closeness to the
nearest sample; Chen et al. 2020, GAN-Leaks, arXiv:1909.03935), *calibrated* (the same, relative to
the nearest reference person) and, in 32 principal directions of the reference set, *density* (samples
per reference record in a person's neighbourhood; van Breugel et al. 2023, DOMIAS, arXiv:2302.12580),
*monte_carlo* (how many samples lie within a fixed distance, nearer ones counting more; Hilprecht et
al. 2019, arXiv:1906.03006) and *classifier* (odds that a record is a sample and no reference record,
by a logistic regression on directions and their squares; Hayes et al. 2019, LOGAN, arXiv:1705.07663).

Metrics: auc, tpr_at_*, leak_p_value, epsilon_lower_bound, epsilon_max_certifiable over everybody;
auc_unusual for the tenth of persons farthest from the reference set, auc_label_* for each label with
enough persons, and group_leak_p_value, one permutation test over all attacks times groups.

What a pass does not mean: a stronger attack may exist, and an average hides the few: read it
beside near-copies and the guarantee.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.evidence import Arm, Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.groups import unusual_tenth, with_groups
from privacy.logistic import fit_logistic
from privacy.membership import (
    SMALLEST,
    Pool,
    Settings,
    distance_scores,
    measure,
    per_person,
    pool_of,
)
from privacy.neighbourhoods import Survey

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.SAMPLES,
    reference=True,
    description="An onlooker who holds the released samples and other persons' records.",
)
NEEDS = ("samples",)
ATTACKS = ("nearest", "calibrated", "density", "monte_carlo", "classifier")

Floats = NDArray[np.floating]
_BLOCK_VALUES = 4_000_000


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    directions: int = Field(default=32, ge=2, le=256, description="principal directions")
    neighbours: int = Field(default=10, ge=1, description="samples that make a neighbourhood")


@dataclass(frozen=True)
class Directions:
    """Records in principal directions of the reference set, (rows, directions) each.

    `rows` are the positions of `targets`, the pool's records, in the population.
    """

    rows: NDArray[np.integer]
    targets: Floats
    samples: Floats
    reference: Floats


def directions_of(
    evidence: Evidence, survey: Survey, pool: Pool, *, config: Config
) -> Directions | None:
    """Project pool, samples and reference half a; None without enough reference records."""
    population, space = survey.population, survey.spaces[0]
    reference_rows = population.records_of(Arm.REFERENCE_A)
    if len(reference_rows) < 2 * config.directions:
        return None
    reference = space.describe(population.records[reference_rows])[0]
    centre = reference.mean(axis=0)
    _, _, axes = np.linalg.svd(reference - centre, full_matrices=False)
    axes = axes[: config.directions].T
    rows = np.flatnonzero(np.isin(population.persons, pool.persons))
    return Directions(
        rows=rows,
        targets=(space.describe(population.records[rows])[0] - centre) @ axes,
        samples=(space.describe(evidence.samples)[0] - centre) @ axes,
        reference=(reference - centre) @ axes,
    )


def direction_scores(seen: Directions, *, config: Config) -> dict[str, Floats]:
    """Return attack -> score of each target record."""
    return {
        "density": _density(seen, config.neighbours),
        "monte_carlo": _monte_carlo(seen),
        "classifier": _classifier(seen),
    }


def _density(seen: Directions, neighbours: int) -> Floats:
    """Return log distance to the k-th reference record minus that to the k'-th sample.

    k and k' are in proportion to the sizes of the two sets.
    """
    largest = max(len(seen.samples), len(seen.reference))
    near = max(1, round(neighbours * len(seen.samples) / largest))
    far = max(1, round(neighbours * len(seen.reference) / largest))
    to_reference = _kth_distance(seen.targets, seen.reference, far)
    to_samples = _kth_distance(seen.targets, seen.samples, near)
    return np.asarray(np.log((to_reference + SMALLEST) / (to_samples + SMALLEST)))


def _monte_carlo(seen: Directions) -> Floats:
    """Return the sum of log(radius / distance) over samples nearer than the radius.

    The radius is the median distance from a target to its nearest sample, blind to coins.
    """
    radius = float(np.median(_kth_distance(seen.targets, seen.samples, 1))) + SMALLEST
    return np.concatenate(
        [
            np.log(radius / (np.minimum(distance, radius) + SMALLEST)).sum(axis=1)
            for distance in _distances(seen.targets, seen.samples)
        ]
    )


def _classifier(seen: Directions) -> Floats:
    """Return the log-odds of "sample" against "reference record", learnt from those two sets."""
    rows = np.concatenate([seen.samples, seen.reference])
    is_sample = np.repeat([1, 0], [len(seen.samples), len(seen.reference)])
    return fit_logistic(_with_squares(rows), is_sample).logits(_with_squares(seen.targets))


def _with_squares(rows: Floats) -> Floats:
    return np.concatenate([rows, rows**2], axis=1)


def _kth_distance(targets: Floats, points: Floats, k: int) -> Floats:
    """Return (targets,) the distance to the k-th nearest of `points`."""
    k = min(k, len(points))
    return np.concatenate(
        [np.partition(d, k - 1, axis=1)[:, k - 1] for d in _distances(targets, points)]
    )


def _distances(targets: Floats, points: Floats) -> Iterator[Floats]:
    """Yield (some targets, points) distances, block by block; at least one block."""
    squares = (points**2).sum(axis=1)
    step = max(1, _BLOCK_VALUES // max(1, len(points)))
    for start in range(0, max(1, len(targets)), step):
        block = targets[start : start + step]
        distance = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ points.T
        yield np.sqrt(np.maximum(distance, 0.0))


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,
) -> Finding:
    """Score the audit pool from the samples and measure how well scores tell the coins."""
    config = config or Config()
    population, pool = survey.population, pool_of(survey.population)
    scores = distance_scores(survey, pool)
    seen = directions_of(evidence, survey, pool, config=config) if len(pool.persons) else None
    if seen is not None:
        for name, values in direction_scores(seen, config=config).items():
            spread = np.full(len(population.records), np.nan)
            spread[seen.rows] = values
            scores[name] = per_person(spread, population, pool, largest=True)
    for name in ATTACKS:  # declared, so that one which could not run is told and no gate passes
        scores.setdefault(name, np.full(len(pool.persons), np.nan))
    unusual = unusual_tenth(survey, pool)
    finding = measure("sample_membership", scores, pool, settings=settings, rng=rng)
    return with_groups(
        finding, scores, pool, population=population, settings=settings, rng=rng, unusual=unusual
    )
