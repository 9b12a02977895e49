"""Whole persons as rows: what audits look at where the rows of a person follow one another.

A person becomes one row: the columns of their first visits in order, side by side, and how many visits
there are; who has fewer stays as they were at the last one. How many visits stand there is settled by
how many persons have, blind to arms. So everything that tells copies and members among rows tells them among
persons: each counts once, and arms are as independent as coins are.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from privacy.errors import EvidenceMissing
from privacy.evidence import Evidence, Visits
from privacy.neighbourhoods import Population, Survey, survey

Ints = NDArray[np.integer]

MOST_VISITS = 8
"""Visits that stand side by side; of later ones only the number counts."""
_MOST_COLUMNS = 256
_ALL_BUT_FEW = 0.9  # of persons have no more visits than stand side by side


@dataclass(frozen=True)
class Trajectories:
    """Evidence and population whose records are persons; `numbers` says how many rows each has.

    Shapes: evidence.records (persons, features), evidence.samples (synthetic persons, features);
    numbers (persons,), sample_numbers (synthetic persons,).
    """

    evidence: Evidence
    population: Population
    numbers: Ints
    sample_numbers: Ints

    def survey(self, *, most_spaces: int | None = None) -> Survey:
        """Return who lies near whom, among persons, in the first spaces or in all."""
        return survey(
            self.evidence,
            keep=np.empty(0, dtype=np.int64),
            population=self.population,
            progress=lambda *_: None,
            most_spaces=most_spaces,
        )

    def of_several_rows(self) -> "Trajectories":
        """Return persons with two rows or more: the others are absent, blind to arms."""
        several, made = self.numbers > 1, self.sample_numbers > 1
        return replace(
            self,
            evidence=replace(
                self.evidence,
                records=self.evidence.records[several],
                labels=self.evidence.labels[several],
                persons=np.flatnonzero(several),
                samples=self.evidence.samples[made],
                sample_labels=self.evidence.sample_labels[made],
            ),
            population=self.population.without(~several),
            sample_numbers=self.sample_numbers[made],
        )


def visits_in(evidence: Evidence) -> Visits:
    """Return how rows follow one another.

    Raises: EvidenceMissing where nobody says, or not for every sample.
    """
    visits = evidence.visits
    if visits is None:
        raise EvidenceMissing(
            "Looking at whole persons was refused: the evidence does not say how rows follow. Give "
            "`visits`."
        )
    if len(visits.sample_persons) != len(evidence.samples):
        raise EvidenceMissing(
            f"Looking at whole persons was refused: {len(visits.sample_persons)} of "
            f"{len(evidence.samples)} samples say whose they are. Give one person per sample."
        )
    return visits


def trajectories_of(evidence: Evidence, population: Population) -> Trajectories:
    """Return persons, real and synthetic, as rows.

    Raises: EvidenceMissing where the evidence does not say how rows follow.
    """
    visits = visits_in(evidence)
    numbers = np.bincount(population.persons)
    columns = population.records.shape[1]
    usual = int(np.quantile(numbers, _ALL_BUT_FEW, method="higher"))
    most = max(1, min(usual, MOST_VISITS, (_MOST_COLUMNS - 1) // columns))
    real = _side_by_side(population.records, population.persons, order=visits.order, most=most)
    whose = np.unique(visits.sample_persons, return_inverse=True)[1].reshape(-1)
    made = _side_by_side(evidence.samples, whose, order=visits.order, most=most)
    count = len(numbers)
    everybody, nothing = np.arange(count), np.zeros(count, dtype=np.int64)
    looked_at = replace(
        population,
        original=everybody,
        records=real,
        labels=nothing,
        persons=everybody,
        rows=everybody,
    )
    found = replace(
        evidence,
        records=real,
        labels=nothing,
        persons=everybody,
        arms=population.arms,
        folds=population.folds,
        excluded=population.excluded,
        samples=made,
        sample_labels=np.zeros(len(made), dtype=np.int64),
        record_scores={},
        gradient_features=np.empty((0, 0)),
        targets=(),
        quasi_identifiers=(),
        visits=None,
    )
    return Trajectories(found, looked_at, numbers, np.bincount(whose))


def steps_of(rows: NDArray[np.generic], persons: Ints, *, order: int) -> tuple[Ints, Ints]:
    """Return the positions of all following rows of one person: before and after (steps,) each."""
    places = in_order(rows, persons, order=order)
    same = persons[places][1:] == persons[places][:-1]
    return places[:-1][same], places[1:][same]


def in_order(rows: NDArray[np.generic], persons: Ints, *, order: int) -> Ints:
    """Return the positions of rows person by person, by the column `order`, equal ones as they stand."""
    return np.lexsort((np.arange(len(rows)), rows[:, order], persons))


def _side_by_side(
    rows: NDArray[np.generic], persons: Ints, *, order: int, most: int
) -> NDArray[np.generic]:
    """Return (persons, most * columns + 1) float64; persons are numbered from 0 without gaps."""
    places = in_order(rows, persons, order=order)
    numbers = np.bincount(persons)
    starts = np.cumsum(numbers) - numbers
    # Who has no k-th row stays as they were at the last one.
    visits = np.minimum(np.arange(most)[None], numbers[:, None] - 1)
    picked = rows[places[starts[:, None] + visits]].astype(np.float64)
    flat = picked.reshape(len(numbers), -1)
    return np.hstack([flat, numbers[:, None].astype(np.float64)])
