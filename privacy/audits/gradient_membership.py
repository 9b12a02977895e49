"""Membership from gradients: do the generator's weights still pull less on those it learnt from?

What is attacked: membership, by somebody who holds the weights and can differentiate the training
loss at a person's records. The generator hands over numbers per record: the norm of the gradient in
every layer, at noise that is the same for all records. No shadow model is trained: for half of the
persons it is known who was trained on (the coins of fold 1), and a logistic regression learns from
them what members' gradients and losses look like.

Source of the idea: Pang et al. 2023, gradients of diffusion models (arXiv:2308.06405); Nasr, Shokri
and Houmansadr 2019 (arXiv:1812.00910). Everything is learnt on fold 1 and measured on fold 2 alone:
every number here, the epsilon bound among them, is about persons whose coin no attack has seen.
*learned* is that regression; *norm* is the plain size of the gradient, smaller = more likely known.

Metrics: as every membership audit has them (auc, tpr_at_*, leak_p_value, epsilon_lower_bound,
epsilon_max_certifiable, auc_label_*, group_leak_p_value).

What a pass does not mean: with few persons the regression learns little. Directions of gradients,
and the gradients of earlier steps of training, are not looked at.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.errors import EvidenceMissing
from privacy.evidence import Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.groups import unusual_tenth, with_groups
from privacy.logistic import RIDGE
from privacy.membership import (
    Pool,
    Settings,
    fold_two,
    learned_from_coins,
    measure,
    per_person,
    pool_of,
)
from privacy.neighbourhoods import Population, Survey

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.GRADIENTS,
    reference=False,
    description="Somebody who holds the generator's weights and knows who half of the members are.",
)
NEEDS = ("gradient_features",)
SEES_EVERYTHING = True  # a generator that knows its training set by heart: the self-test demands it
AUDIT = "gradient_membership"

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
    """Learn on the coins of fold 1 and measure on fold 2.

    Raises: EvidenceMissing where gradient features are not one row per record.
    """
    config = config or Config()
    population, pool = survey.population, pool_of(survey.population)
    features = person_features(evidence, population, pool)
    judged = fold_two(pool, rng)
    unusual = unusual_tenth(survey, judged)
    scores = learned_scores(features, pool, ridge=config.ridge)
    finding = measure(AUDIT, scores, judged, settings=settings, rng=rng)
    details = finding.details | {"features": features.shape[1], "learned_on": _learnt_from(pool)}
    return with_groups(
        finding.model_copy(update={"details": details}),
        scores,
        judged,
        population=population,
        settings=settings,
        rng=rng,
        unusual=unusual,
    )


def person_features(evidence: Evidence, population: Population, pool: Pool) -> Floats:
    """Return (pool, features) means over each person's records: gradients, then the scores given.

    Raises: EvidenceMissing where gradient features are not one row per record.
    """
    gradients = np.asarray(evidence.gradient_features, dtype=np.float64)
    if gradients.ndim != 2 or len(gradients) != len(evidence.records):
        raise EvidenceMissing(
            f"Gradient features of shape {gradients.shape} were refused: give one row for each of the "
            f"{len(evidence.records)} records, NaN where none was computed."
        )
    columns = [*gradients.T, *(v for _, v in sorted(evidence.record_scores.items()))]
    means = [
        per_person(
            np.asarray(c, dtype=np.float64)[population.rows], population, pool, largest=False
        )
        for c in columns
    ]
    whole = len(gradients.T)
    known = [m for i, m in enumerate(means) if i < whole or np.isfinite(m).all()]
    return np.stack(known, axis=1)


def learned_scores(features: Floats, pool: Pool, *, ridge: float) -> dict[str, Floats]:
    """Return attack -> scores of fold 2; NaN where fold 1 is too small to learn from."""
    learned = learned_from_coins(features, pool, ridge=ridge)
    norm = -features[pool.folds == 2][:, 0]
    return {"learned": learned, "norm": np.where(np.isnan(learned), np.nan, norm)}


def _learnt_from(pool: Pool) -> dict[str, int]:
    first = pool.folds == 1
    return {
        "members": int((first & (pool.coins == 1)).sum()),
        "non_members": int((first & (pool.coins == 0)).sum()),
    }
