"""Samples that equal a record of one unit alone, and how often that happens by nature."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.distances import shows_nobody
from privacy.evidence import Evidence
from privacy.neighbourhoods import Population

_NATURAL_PAIRS = 5
NO_MATCH, BLANK = -1, -2  # in place of a person: equals no record; shows nobody


@dataclass(frozen=True)
class Twins:
    """How many values exactly two units have, among how many records; and whether by nature."""

    values: int
    records: int
    natural: bool

    @property
    def rate(self) -> float:
        """Return how likely a fresh record equals one that a single unit has (Good 1953)."""
        return 2.0 * self.values / max(1, self.records) if self.natural else 0.0


@dataclass(frozen=True)
class Verbatim:
    """Pixel-by-pixel matches. `person` (samples,): whom a sample equals alone, or a reason below 0."""

    person: NDArray[np.integer]
    twins: Twins


def unique_records(evidence: Evidence, population: Population) -> dict[bytes, int]:
    """Return bytes -> population person for records that exactly one person has."""
    owners: dict[bytes, set[int]] = {}
    for record, person in zip(evidence.records, evidence.persons, strict=True):
        owners.setdefault(_bytes(record), set()).add(int(person))
    number = {int(person): i for i, person in enumerate(population.original)}
    return {
        record: number[person]
        for record, (person, *others) in ((r, tuple(o)) for r, o in owners.items())
        if not others and person in number
    }


def natural_twins(evidence: Evidence) -> Twins:
    """Count the values that exactly two units have, which tells how often fresh records have them.

    Pictures do not come out equal by nature, so that a handful of pairs are errors of registration
    and excuse nothing; rows of a table may, whether or not a pair has been seen.
    """
    owners: dict[bytes, set[int]] = {}
    for record, person in zip(evidence.records, evidence.persons, strict=True):
        if content := _bytes(record):
            owners.setdefault(content, set()).add(int(person))
    values = sum(len(o) == 2 for o in owners.values())
    natural = evidence.modality == "table" or values >= _NATURAL_PAIRS
    return Twins(values, len(evidence.records), natural)


def _bytes(record: NDArray[np.generic]) -> bytes:
    """Return bytes of a record, empty for a picture that shows nobody."""
    return b"" if shows_nobody(record) else record.tobytes()


def match_verbatim(
    samples: NDArray[np.generic],
    unique: Mapping[bytes, int],
    *,
    like: NDArray[np.generic],
    twins: Twins,
) -> Verbatim:
    """Look every sample up among the unique records, in the records' own number type."""
    same = samples.astype(like.dtype, copy=False)
    found = [unique.get(content, NO_MATCH) if (content := _bytes(s)) else BLANK for s in same]
    return Verbatim(np.array(found, dtype=np.int64), twins)
