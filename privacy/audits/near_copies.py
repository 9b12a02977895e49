"""Near-copies: does the release repeat pictures of persons it was trained on?

What is attacked: memorization. An onlooker who holds only the released samples looks for pictures
that are a real person's, verbatim or slightly changed (noise, flip, shift of a few pixels, contrast).

Three detectors, Bonferroni between them. (1) *Arms*, exact: whoever lies near a sample is trained on
no more often than chance allows, by the hypergeometric law; thresholds were fixed on distances among
held-out persons, and the smallest p-value over all thresholds and spaces is judged against its
own permutation distribution. (2) *Ratio*: a copy is far nearer to one person than to the next
nearest one. For real records that ratio follows a power law (Facco et al. 2017, arXiv:1803.06992),
fitted here on records of this very data set; three or more trained-on persons beyond what law and
natural near-duplicates explain are a finding. (3) *Verbatim*: a sample equal, pixel by pixel, to
a record that only one person has, beyond the rate at which real persons share records.

Pictures are compared in pixels, tile by tile, by a perceptual hash and whatever small turn or zoom. A
full battery adds an embedding that a network learnt on pictures of reference half a alone, 200 or more:
contrastively, so that a picture turned by up to 25 degrees, cut or noised stays near itself.

Rows of a table are compared in all columns together, in the worst one, in all but the worst, and cell by
cell: the likelihood that a sample is a noised copy of a person over the likelihood that it agrees by
chance, cells that are rare counting more (`privacy.table_cells`). How near is near is told there by the
nearest pairs of real persons: samples that lie in less of a crowd than the second, or the seventh,
nearest pair of them, and are more than as many fresh records would be, are a finding of the ratio
detector (`privacy.natural_nearness`; nine tenths of its level are spent there).

Sources: Carlini et al. 2023 (arXiv:2301.13188); Meehan, Chaudhuri and Dasgupta 2020 (arXiv:2004.05675);
Chen et al. 2020 (arXiv:2002.05709); Pizzi et al. 2022 (arXiv:2202.10261); Wilks 1941 (order statistics).

What a pass does not mean: copies that are rotated a lot, cropped, recoloured or stitched from
several persons may go unseen, and so may copies of a record that two persons share. Persons who
share one are judged by their other records, and never by the arms detector, which needs a fair
control for everybody.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Copies, Detector, copy_metrics
from privacy.distances import Gallery
from privacy.evidence import Arm, Evidence, Finding, Goal, Knowledge, Metric, ThreatModel
from privacy.exact_copies import match_verbatim, natural_twins, unique_records
from privacy.membership import Settings
from privacy.neighbourhoods import Nearest, Population, Survey, nearest

THREAT_MODEL = ThreatModel(
    goal=Goal.MEMORIZATION,
    generator=Knowledge.SAMPLES,
    reference=False,
    description="An onlooker who holds the released samples and recognises a real record.",
)
NEEDS = ("samples",)

Ints = NDArray[np.integer]


class Config(BaseModel):
    """What may be set; detectors are set up by the battery, once for candidate and self-test."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pairs: int = Field(default=24, ge=1, le=200, description="suspicious pairs kept for reviewers")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,
    rng: np.random.Generator,  # noqa: ARG001 - part of the contract
    config: Config | None = None,
) -> Finding:
    """Look for near-copies of trained-on persons among the samples."""
    config = config or Config()
    population = survey.population
    verbatim = match_verbatim(
        evidence.samples,
        unique_records(evidence, population),
        like=evidence.records,
        twins=natural_twins(evidence),
    )
    copies = detector.inspect(survey.samples, verbatim)
    return Finding(
        audit="near_copies",
        metrics=(
            *copy_metrics(
                copies,
                detector=detector,
                error=settings.bound_error,
                unit=_plural(evidence.unit.value),
            ),
            *_embedding_metric(evidence),
        ),
        details={
            "copied_units": population.original[copies.copied].tolist(),
            "control_units": population.original[copies.controls].tolist(),
            "flagged_samples": np.flatnonzero(copies.flagged).tolist(),
            "ratio_thresholds": {k: float(v) for k, v in copies.ratio_thresholds.items()},
            "ratio_exponents": {k: law.exponent for k, law in detector.laws.items()},
            "natural_match_rate": verbatim.twins.rate,
            "pairs": suspicious_pairs(evidence, survey, copies, limit=config.pairs),
        },
    )


def _embedding_metric(evidence: Evidence) -> tuple[Metric, ...]:
    """Return of how many pictures the copy embedding was learnt, or why there is none; full depth."""
    network, reason = evidence.copy_network, evidence.no_copy_network
    if network is None and not reason:
        return ()
    return (
        Metric(
            name="embedding_pictures",
            value=None if network is None else float(network.pictures),
            unit="pictures of reference half a",
            direction="context",
            reason=reason if network is None else None,
        ),
    )


def _plural(unit: str) -> str:
    return "images" if unit == "record" else "persons"


def suspicious_pairs(
    evidence: Evidence, survey: Survey, copies: Copies, *, limit: int
) -> list[dict[str, float | int | bool]]:
    """Return the most suspicious samples, one per nearest trained-on person, for reviewers.

    Indices point into the evidence: sample, and its nearest trained-on and held-out records.
    """
    population, space = survey.population, survey.spaces[0]
    near = survey.samples[space.name]
    order = np.lexsort((near.ratio, ~copies.flagged))
    order = order[population.trained[near.first[order]]]
    _, first_seen = np.unique(near.first[order], return_index=True)
    picked = order[np.sort(first_seen)][:limit]
    trained = np.flatnonzero(population.trained[population.persons])
    held = population.records_of(Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.REFERENCE_B)
    if not len(picked) or not len(held):
        return []
    queries = evidence.samples[picked]
    in_training = _nearest_records(survey, queries, trained)
    in_held_out = _nearest_records(survey, queries, held)
    return [
        {
            "sample": int(sample),
            "train_record": int(population.rows[trained[in_training.first[i]]]),
            "held_out_record": int(population.rows[held[in_held_out.first[i]]]),
            "train_distance": float(in_training.first_distance[i]),
            "held_out_distance": float(in_held_out.first_distance[i]),
            "ratio": float(near.ratio[sample]),
            "flagged": bool(copies.flagged[sample]),
        }
        for i, sample in enumerate(picked)
    ]


def _nearest_records(survey: Survey, queries: NDArray[np.generic], rows: Ints) -> Nearest:
    """Search a few queries among single records (each taken as a person of its own)."""
    count = len(rows)
    none = np.zeros(count, dtype=np.int64)
    alone = Population(
        arms=none,
        folds=none,
        strata=none,
        original=none,
        excluded=none.astype(bool),
        records=survey.population.records[rows],
        labels=none,
        persons=np.arange(count),
        rows=rows,
    )
    gallery = Gallery(survey.spaces[0], alone.records, alone.persons, count=count)
    return nearest(gallery, queries, alone)
