"""Copied persons: does the release repeat how a person went on, from visit to visit?

What is attacked: memorization, in tables whose rows follow one another. A synthetic person may be a real
one all along, verbatim or slightly changed, although each of their rows alone is like many others'. The
onlooker holds the released rows, which say whose they are, and recognises a person by several visits.

Persons with two rows or more are laid out as one row each, their first eight visits side by side and the
number of visits; who has fewer stays as they were at the last one. On these rows run the three detectors of
near_copies (exact test of arms, ratio, verbatim), with the same control persons and corrections: who
was held out, and how often real persons equal each other by nature.

Sources: as near_copies (Carlini et al. 2023, arXiv:2301.13188; Meehan, Chaudhuri and Dasgupta 2020,
arXiv:2004.05675), with a person as the record.

Metrics: p_value, copied_units and copy_rate (share of synthetic persons) as near_copies has them.

What a pass does not mean: this audit may accuse and never clears, since synthetic persons are too few to
bound the share of copies. Copies that lack visits in between, or whose visits are moved in time and values
changed at once, may go unseen.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from privacy.copies import Detector, copy_metrics
from privacy.evidence import Evidence, Finding, Goal, Knowledge, Metric, ThreatModel
from privacy.exact_copies import match_verbatim, natural_twins, unique_records
from privacy.membership import Settings
from privacy.neighbourhoods import Survey
from privacy.trajectories import trajectories_of

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMORIZATION,
    generator=Knowledge.SAMPLES,
    reference=False,
    description="An onlooker who holds the released rows and recognises a person by their visits.",
)
NEEDS = ("samples", "visits")
MODALITIES = ("table",)
SEES_EVERYTHING = True  # a release of the whole training set: the self-test demands it
AUDIT = "trajectory_copies"


class Config(BaseModel):
    """What may be set; detectors are set up as the battery's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,
    rng: np.random.Generator,
    config: Config | None = None,  # noqa: ARG001 - part of the contract
) -> Finding:
    """Look for synthetic persons who are a trained-on person all along.

    Raises: EvidenceMissing where the evidence does not say how rows follow.
    """
    persons = trajectories_of(evidence, survey.population).of_several_rows()
    population = persons.population
    if not len(persons.evidence.samples) or not len(persons.evidence.records):
        reason = "no person has two rows or more, synthetic or real"
        return Finding(audit=AUDIT, metrics=(Metric(name="p_value", value=None, reason=reason),))
    seen = persons.survey()
    of_persons = Detector(
        population,
        seen.calibration,
        sample_count=len(persons.evidence.samples),
        config=detector.config,
        rng=rng,
    )
    unique = unique_records(persons.evidence, population)
    verbatim = match_verbatim(
        persons.evidence.samples,
        {record: person for record, person in unique.items() if population.present[person]},
        like=persons.evidence.records,
        twins=natural_twins(persons.evidence),
    )
    copies = of_persons.inspect(seen.samples, verbatim)
    original = survey.population.original
    return Finding(
        audit=AUDIT,
        metrics=copy_metrics(
            copies, detector=of_persons, error=settings.bound_error, unit="persons"
        ),
        details={
            "copied_units": original[copies.copied].tolist(),
            "control_units": original[copies.controls].tolist(),
            "synthetic_persons": len(persons.evidence.samples),
            "natural_match_rate": verbatim.twins.rate,
        },
    )
