"""Membership from samples: can an onlooker tell who was trained on, from the release alone?

What is attacked: membership. The attacker holds the released samples and pictures of some persons,
and, for calibration, pictures of others who were never trained on (reference half a).

Three declared scores per person, none of which needs a shadow model: *nearest* (closeness to the
nearest sample; Chen et al. 2020, GAN-Leaks, arXiv:1909.03935), *calibrated* (the same, relative to
the nearest reference person), and *density* (samples per reference record in a person's
neighbourhood, in 32 principal directions of the reference set; van Breugel et al. 2023, DOMIAS,
arXiv:2302.12580).

What a pass does not mean: a stronger attack may exist, and an average hides the few: read it
beside near-copies and the guarantee.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.evidence import Arm, Evidence, Finding, Goal, Knowledge, ThreatModel
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

Floats = NDArray[np.floating]


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    directions: int = Field(default=32, ge=2, le=256, description="principal directions")
    neighbours: int = Field(default=10, ge=1, description="samples that make a neighbourhood")


def density_score(
    evidence: Evidence, survey: Survey, pool: Pool, *, config: Config
) -> Floats | None:
    """Return log distance to the k-th reference record minus that to the k'-th sample, per person.

    k and k' are in proportion to the sizes of the two sets. None without a reference set.
    """
    population, space = survey.population, survey.spaces[0]
    reference_rows = population.records_of(Arm.REFERENCE_A)
    if len(reference_rows) < 2 * config.directions:
        return None
    reference = space.describe(population.records[reference_rows])[0]
    centre = reference.mean(axis=0)
    _, _, axes = np.linalg.svd(reference - centre, full_matrices=False)
    axes = axes[: config.directions].T
    rows = np.flatnonzero(np.isin(population.persons, pool.persons))
    targets = (space.describe(population.records[rows])[0] - centre) @ axes
    samples = (space.describe(evidence.samples)[0] - centre) @ axes
    near = max(1, round(config.neighbours * len(samples) / max(len(samples), len(reference))))
    far = max(1, round(config.neighbours * len(reference) / max(len(samples), len(reference))))
    ratio = np.full(len(population.records), np.nan)
    ratio[rows] = np.log(
        (_kth_distance(targets, (reference - centre) @ axes, far) + SMALLEST)
        / (_kth_distance(targets, samples, near) + SMALLEST)
    )
    return per_person(ratio, population, pool, largest=True)


def _kth_distance(targets: Floats, points: Floats, k: int) -> Floats:
    """Return (targets,) the distance to the k-th nearest of `points`, block by block."""
    k = min(k, len(points))
    squares = (points**2).sum(axis=1)
    out = np.empty(len(targets))
    step = max(1, 4_000_000 // max(1, len(points)))
    for start in range(0, len(targets), step):
        block = targets[start : start + step]
        distance = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ points.T
        out[start : start + step] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return np.asarray(np.sqrt(np.maximum(out, 0.0)))


def unusual_tenth(survey: Survey, pool: Pool) -> NDArray[np.bool_] | None:
    """Return which pool persons are farthest from the reference set, blind to coins."""
    distance = survey.calibration[survey.spaces[0].name].to_reference[pool.persons]
    if not len(distance) or not np.isfinite(distance).all():
        return None
    return np.asarray(distance >= np.quantile(distance, 0.9))


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
    pool = pool_of(survey.population)
    scores = distance_scores(survey, pool)
    density = density_score(evidence, survey, pool, config=config) if len(pool.persons) else None
    if density is not None:
        scores["density"] = density
    return measure(
        "sample_membership",
        scores,
        pool,
        settings=settings,
        rng=rng,
        unusual=unusual_tenth(survey, pool),
    )
