"""Membership from scores: does the generator treat those it was trained on differently?

What is attacked: membership, by somebody who holds the generator itself (an insider, or anybody
if weights leak). The generator hands over one score per record and attack, higher where it knows
the record better: a diffusion loss at fixed noise, the errors that PIA and SecMI look at, a critic's
output, a likelihood, a teacher's confidence. Where reference models were trained, their calibrated
scores (`privacy/reference_attacks.py`) are further attacks of the same family.

Source of the idea: Yeom et al. 2018 (arXiv:1709.01604), Carlini et al. 2022 (arXiv:2112.03570). A
person's score is the mean over their records. Metrics: as in sample_membership, groups included.

What a pass does not mean: gradients and attacks with reference models may see more. A release hands
out samples only, so this audit looks further than its recipients can.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from privacy.copies import Detector
from privacy.evidence import Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.groups import unusual_tenth, with_groups
from privacy.membership import Settings, measure, per_person, pool_of
from privacy.neighbourhoods import Survey

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.SCORES,
    reference=False,
    description="Somebody who holds the generator and evaluates it on persons' records.",
)
NEEDS = ("record_scores",)


class Config(BaseModel):
    """Nothing to set: the generator declares its attacks."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,  # noqa: ARG001 - part of the contract
) -> Finding:
    """Aggregate the generator's scores per person and measure how well they tell the coins."""
    population = survey.population
    pool = pool_of(population)
    scores = {
        name: per_person(
            np.asarray(values, dtype=np.float64)[population.rows], population, pool, largest=False
        )
        for name, values in sorted(evidence.record_scores.items())
    }
    unusual = unusual_tenth(survey, pool)
    finding = measure("loss_membership", scores, pool, settings=settings, rng=rng)
    return with_groups(
        finding, scores, pool, population=population, settings=settings, rng=rng, unusual=unusual
    )
