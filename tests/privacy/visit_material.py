"""Made-up visits for audit tests: persons who go on from row to row, and a generator that knows nobody."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Evidence, Visits
from privacy.mechanisms import GaussianMechanism, PrivacyTarget, UnitOfPrivacy
from tests.privacy.audit_material import draw_arms

Rows = NDArray[np.float64]
Persons = NDArray[np.int64]
MOST = 5


def visits(persons: int, rng: np.random.Generator) -> tuple[Rows, Persons]:
    """Return one to five rows a person, mixed up: month, sex, grade and three noisy measurements."""
    numbers = 1 + rng.integers(MOST, size=persons)
    whose = np.repeat(np.arange(persons), numbers)
    visit = np.concatenate([np.arange(n) for n in numbers])
    own = rng.normal(size=(persons, 3))[whose]
    severity = own[:, 0] + 0.3 * visit
    rows = np.stack(
        [
            6.0 * visit + np.round(rng.normal(size=len(whose)), 1),
            (own[:, 1] > 0).astype(np.float64),
            np.clip(np.round(severity + 1.5), 0, 4),
            own[:, 1] + rng.normal(size=len(whose)) / 3,
            own[:, 2] + severity + rng.normal(size=len(whose)) / 3,
            severity + rng.normal(size=len(whose)) / 2,
        ],
        axis=1,
    )
    mixed = rng.permutation(len(rows))
    return rows[mixed], whose[mixed].astype(np.int64)


def innocent_visits(rng: np.random.Generator, *, persons: int, samples: int) -> Evidence:
    """Return evidence of a generator that knows the population and nobody in it."""
    records, whose = visits(persons, rng)
    made, of_whom = visits(samples, rng)
    return Evidence(
        modality="table",
        unit=UnitOfPrivacy.PERSON,
        records=records,
        labels=np.zeros(len(records), dtype=int),
        persons=whose,
        arms=draw_arms(persons, rng),
        folds=rng.integers(1, 3, persons),
        excluded=np.zeros(persons, dtype=bool),
        samples=made,
        sample_labels=np.zeros(len(made), dtype=int),
        target=PrivacyTarget(epsilon=5.0, delta=1e-5),
        mechanisms=(GaussianMechanism(stage="statistics", noise_multiplier=1.2),),
        targets=(2,),
        visits=Visits(order=0, sample_persons=of_whom),
    )


def with_persons_copied(
    evidence: Evidence, chosen: NDArray[np.integer], *, noise: float, rng: np.random.Generator
) -> Evidence:
    """Return evidence to whose samples the rows of some real persons were added, with some noise."""
    rows = np.flatnonzero(np.isin(evidence.persons, chosen))
    copied = evidence.records[rows] + noise * rng.normal(size=(len(rows), 6)) * [1, 0, 0, 1, 1, 1]
    known = evidence.visits
    whose = evidence.persons[rows] + 1 + known.sample_persons.max()
    return replace(
        evidence,
        samples=np.concatenate([evidence.samples, copied]),
        sample_labels=np.concatenate([evidence.sample_labels, np.zeros(len(rows), dtype=int)]),
        visits=replace(known, sample_persons=np.concatenate([known.sample_persons, whose])),
    )
