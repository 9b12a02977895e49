"""Membership learnt from half of the coins: what tells members of a table, if one may look at some?

What is attacked: membership, in tables, by somebody who knows of half of the persons whether they were
trained on. Nothing is assumed about how the release leaks: for each person there are features, and a
logistic regression learns from the coins of fold 1 which of them speak.

Features: distances to the nearest rows of the release, plain and relative to reference persons, in every
space that near-copies look at; how mutually near the nearest of them is; and the scores of
marginal_membership (log-ratios per size of marginal, density, classifier).

Source of the idea: Houssiau et al. 2022, TAPAS (arXiv:2211.06550); Meeus et al. 2023 (arXiv:2307.01701).
They train shadow generators for it; here the coins of the release itself teach. Everything is learnt on
fold 1 and measured on fold 2 alone, the epsilon bound among it.

Metrics: as every membership audit has them. *learned* is that regression; *pairs* the same score as in
marginal_membership, on the persons judged here.

What a pass does not mean: with few persons the regression learns little, and intervals are too wide to
clear anybody.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.evidence import Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.logistic import RIDGE
from privacy.membership import (
    SMALLEST,
    Pool,
    Settings,
    fold_two,
    learned_from_coins,
    measure,
    pool_of,
)
from privacy.neighbourhoods import Survey
from privacy.table_marginals import marginal_scores

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.SAMPLES,
    reference=True,
    description="Somebody who holds the released rows and knows who half of the members are.",
)
NEEDS = ("samples",)
MODALITIES = ("table",)
SEES_EVERYTHING = True  # a release of the whole training set: the self-test demands it
AUDIT = "learned_membership"

Floats = NDArray[np.floating]


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ridge: float = Field(default=RIDGE, gt=0, description="penalty on the regression's weights")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,
) -> Finding:
    """Learn on the coins of fold 1 and measure on fold 2."""
    config = config or Config()
    pool = pool_of(survey.population)
    features, pairs = table_features(evidence, survey, pool, rng=rng)
    judged = fold_two(pool, rng)
    second = pool.folds == 2
    scores = {
        "learned": learned_from_coins(features, pool, ridge=config.ridge),
        "pairs": pairs[second],
    }
    finding = measure(AUDIT, scores, judged, settings=settings, rng=rng)
    details = finding.details | {"features": features.shape[1]}
    return finding.model_copy(update={"details": details})


def table_features(
    evidence: Evidence, survey: Survey, pool: Pool, *, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return (pool, features), all finite, and the score of pairs of columns by itself."""
    columns: list[Floats] = []
    for name, near in survey.samples.items():
        to_samples = near.to_samples[pool.persons]
        columns += [
            -np.log(to_samples + SMALLEST),
            -np.log(near.to_next_sample[pool.persons] + SMALLEST),
        ]
        to_reference = survey.calibration[name].to_reference[pool.persons]
        columns.append(np.log(to_reference + SMALLEST) + columns[-2])
        columns.append(-np.log(near.mutual[pool.persons] + SMALLEST))
    scores = marginal_scores(evidence, survey.population, pool, rng=rng)
    every = np.stack([*columns, *scores.values()], axis=1)
    return _finite(every), scores["pairs"]


def _finite(features: Floats) -> Floats:
    """Return features with what is not finite put at the lowest finite value of its column."""
    known = np.isfinite(features)
    lowest = np.where(known, features, np.inf).min(axis=0, initial=np.inf)
    return np.asarray(np.where(known, features, np.where(np.isfinite(lowest), lowest, 0.0)))
