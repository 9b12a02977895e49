"""Membership from marginals: do counts of the synthetic table lean towards those it was fitted to?

What is attacked: membership, in tables. Most generators of tables are fitted to counts over few columns
at a time, so that what leaks of a person are the cells that they stand in. The attacker holds the
released rows, rows of persons in question, and others' who were never trained on (reference half a).

Six declared scores per person, none of which needs a shadow model. Columns are coded in few bins, and
*ones*, *pairs* and *triples* add up log p_synthetic / p_reference of the person's cells over sets of one,
two and three columns (Guépin et al. 2023, arXiv:2307.01701; Golob et al. 2024, MAMA-MIA). *rarest* is the
largest such ratio of all pairs. *density* compares how many synthetic and how many reference rows agree
with the person in most columns (van Breugel et al. 2023, DOMIAS, arXiv:2302.12580), and *classifier* is
the log-odds of "synthetic" against "reference" by a logistic regression on the codes (Hayes et al. 2019,
LOGAN, arXiv:1705.07663).

Metrics: as in sample_membership, groups included.

What a pass does not mean: bins hide what lies within them, which near-copies look at; attacks that fit
the same generator many times with and without a person may see more.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.evidence import Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.groups import unusual_tenth, with_groups
from privacy.membership import Settings, measure, pool_of
from privacy.neighbourhoods import Survey
from privacy.table_marginals import BINS, SETS, marginal_scores

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.SAMPLES,
    reference=True,
    description="An onlooker who counts rows of the release that share a person's values.",
)
NEEDS = ("samples",)
MODALITIES = ("table",)
AUDIT = "marginal_membership"


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bins: int = Field(default=BINS, ge=2, le=64, description="codes of a column at most")
    sets: int = Field(default=SETS, ge=1, description="sets of pairs, and of triples, at most")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,
) -> Finding:
    """Score the audit pool by counts and measure how well scores tell the coins."""
    population, pool = survey.population, pool_of(survey.population)
    config = config or Config()
    scores = marginal_scores(
        evidence, population, pool, rng=rng, bins=config.bins, sets=config.sets
    )
    finding = measure(AUDIT, scores, pool, settings=settings, rng=rng)
    unusual = unusual_tenth(survey, pool)
    return with_groups(
        finding, scores, pool, population=population, settings=settings, rng=rng, unusual=unusual
    )
