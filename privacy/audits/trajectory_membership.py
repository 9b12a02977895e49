"""Membership of whole persons: do all visits of a person together tell whether they were trained on?

What is attacked: membership, in tables whose rows follow one another. What is faint in each row adds up
over a person's rows, and how a person changes from visit to visit can give them away where no single
row does. The attacker holds the released rows, which say whose they are, all rows of the persons in
question, and others' who were never trained on (reference half a).

Scores, one for each person. *rows* adds up log p_synthetic / p_reference of pairs of columns over all of
the person's rows, and *steps* the same ratio of what a column was before and after, over all columns and
all of the person's steps (Guépin et al. 2023, arXiv:2307.01701, taken from row to row). A person is also laid
out as one row, their first visits side by side: *nearest* and *calibrated* are the distance of the
nearest synthetic person, plain and relative to reference persons; *pairs*, *density* and *classifier* are
those of marginal_membership, so that pairs of columns of different visits are among them.

Metrics: as every membership audit has them. The unit is the person; a person without a second row has
*steps* of 0.

What a pass does not mean: of later visits than the eighth only the number is seen by distances; long
sequences may give away more to a network that learnt them than to counts of single steps.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.evidence import Arm, Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.membership import Pool, Settings, distance_scores, measure, pool_of
from privacy.neighbourhoods import Population, Survey
from privacy.table_codes import Coder, cells_of, coder_of, column_sets, counts_at
from privacy.table_marginals import BINS, SETS, marginal_scores
from privacy.trajectories import steps_of, trajectories_of, visits_in

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMBERSHIP,
    generator=Knowledge.SAMPLES,
    reference=True,
    description="An onlooker who knows every visit of a person and holds the released ones.",
)
NEEDS = ("samples", "visits")
MODALITIES = ("table",)
AUDIT = "trajectory_membership"
_MIN_REFERENCE = 40
_OF_PERSONS = ("pairs", "density", "classifier")

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bins: int = Field(default=BINS, ge=2, le=64, description="codes of a column at most")
    sets: int = Field(default=SETS, ge=1, description="pairs of columns at most")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,
    config: Config | None = None,
) -> Finding:
    """Score the persons of the audit pool by all their rows, and measure how well scores tell coins.

    Raises: EvidenceMissing where the evidence does not say how rows follow.
    """
    config = config or Config()
    population, pool = survey.population, pool_of(survey.population)
    persons = trajectories_of(evidence, population)
    scores = {
        **_along(evidence, population, pool, config=config),
        **distance_scores(persons.survey(most_spaces=1), pool),
    }
    laid_out = marginal_scores(
        persons.evidence, persons.population, pool, rng=rng, bins=config.bins, sets=config.sets
    )
    scores |= {name: laid_out[name] for name in _OF_PERSONS}
    finding = measure(AUDIT, scores, pool, settings=settings, rng=rng)
    several = int((persons.numbers[pool.persons] > 1).sum())
    details = {"persons_with_steps": several, "features": persons.evidence.records.shape[1]}
    return finding.model_copy(update={"details": finding.details | details})


def _along(
    evidence: Evidence, population: Population, pool: Pool, *, config: Config
) -> dict[str, Floats]:
    """Return *rows* and *steps* of the pool: sums of log-ratios over everything that is theirs."""
    order = visits_in(evidence).order
    reference = population.records_of(Arm.REFERENCE_A)
    if len(reference) < _MIN_REFERENCE:
        nothing = np.full(len(pool.persons), np.nan)
        return {"rows": nothing, "steps": nothing}
    coder = coder_of(population.records, most=config.bins)
    real, made = coder.codes(population.records), coder.codes(evidence.samples)
    known = real[reference]
    of_rows = np.zeros(len(real))
    for columns in column_sets(real.shape[1], size=min(2, real.shape[1]), most=config.sets):
        cells, inside, outside = (cells_of(c, columns, coder.sizes) for c in (real, made, known))
        of_rows += _log_ratio(cells, inside, outside)
    before, after = steps_of(population.records, population.persons, order=order)
    made_steps = steps_of(evidence.samples, visits_in(evidence).sample_persons, order=order)
    is_known = np.isin(before, reference)
    of_steps = np.zeros(len(before))
    for column in range(real.shape[1]):
        cells = _joint(real, (before, after), column, coder)
        inside = _joint(made, made_steps, column, coder)
        of_steps += _log_ratio(cells, inside, cells[is_known])
    count = len(population.arms)
    return {
        "rows": np.bincount(population.persons, weights=of_rows, minlength=count)[pool.persons],
        "steps": np.bincount(population.persons[before], weights=of_steps, minlength=count)[
            pool.persons
        ],
    }


def _joint(codes: Ints, steps: tuple[Ints, Ints], column: int, coder: Coder) -> Ints:
    """Return the number of each step's codes before and after in one column."""
    before, after = steps
    return np.asarray(codes[before, column] * np.int64(coder.sizes[column]) + codes[after, column])


def _log_ratio(cells: Ints, inside: Ints, outside: Ints) -> Floats:
    """Return log p_inside / p_outside of each cell, half a count added to either."""
    shares = [(counts_at(cells, among) + 0.5) / (len(among) + 1.0) for among in (inside, outside)]
    return np.asarray(np.log(shares[0] / shares[1]))
