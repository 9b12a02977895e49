"""Several rows of a person, in order: how many there are, and how each follows from the one before.

Released are the number of rows of persons, and for every column the joint counts of a row's code and of
the same column's code in the person's row before (or none). A person adds 1 to the former, and 1 in all,
shared out among the rows, to each of the latter: every one has sensitivity 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.table_schema import TableSchema, Visits
from training.checkpoints import Arrays, Progress, ReleaseLost
from training.randomness import PrivacyRandomness, noised_sum
from training.table_records import Codes, TableRecords
from training.tables.constraints import MOST_CELLS
from training.tables.measurements import Vector, marginal, on_simplex
from training.tables.rounds import Purse, deviation

_SECTION = "visits"
_SHARE = 0.25
"""Part of the marginals' budget for rows that follow each other."""
_BACKWARDS = -5e3
"""Logit of going back in order: never drawn, unless declared constraints leave nothing else."""
_PRIOR = 1.0  # counts added to both sides of a ratio, in deviations of its noise


@dataclass(frozen=True, eq=False)
class Following:
    """How many rows persons have (most,), and what a column's code before adds to its logits.

    `lifts[column]` is (size + 1, size): its last line is for a person's first row.
    """

    chances: Vector
    lifts: tuple[NDArray[np.float32], ...]

    def before_first(self, count: int) -> Codes:
        """Return what stands for the row before a first one (count, D)."""
        nothing = np.asarray([lift.shape[1] for lift in self.lifts], dtype=np.int16)
        return np.repeat(nothing[None], count, axis=0)

    def numbers_of_rows(self, persons: int, *, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw how many rows each of some synthetic persons has."""
        return 1 + rng.choice(len(self.chances), size=persons, p=self.chances)

    def state(self) -> Arrays:
        """Return chances and lifts by name."""
        return {"chances": self.chances} | {str(n): lift for n, lift in enumerate(self.lifts)}

    @classmethod
    def from_state(cls, state: Arrays, *, columns: int) -> "Following":
        """Rebuild what `state` returned."""
        lifts = tuple(np.asarray(state[str(n)], dtype=np.float32) for n in range(columns))
        return cls(chances=np.asarray(state["chances"], dtype=np.float64), lifts=lifts)


def rows_before(records: TableRecords, order: int) -> NDArray[np.int64]:
    """Return the number of each row's predecessor of the same person, or -1. PRIVATE. (N,).

    Rows follow each other by their code in the column `order`, equal ones as they were uploaded.
    """
    sorted_rows = np.lexsort((np.arange(len(records)), records.codes[:, order], records.persons))
    before = np.full(len(records), -1, dtype=np.int64)
    same = records.persons[sorted_rows][1:] == records.persons[sorted_rows][:-1]
    before[sorted_rows[1:][same]] = sorted_rows[:-1][same]
    return before


def codes_before(
    codes: Codes, before: NDArray[np.int64], rows: NDArray[np.int64], sizes: Sequence[int]
) -> Codes:
    """Return the codes of the rows before some rows; a column's size stands for none. PRIVATE."""
    earlier = before[rows]
    found = codes[np.maximum(earlier, 0)]
    found[earlier < 0] = np.asarray(sizes, dtype=np.int16)
    return found


def follow(
    records: TableRecords, *, schema: TableSchema, visits: Visits, purse: Purse, kept: Progress
) -> Following:
    """Measure how rows follow each other, for a share of the purse, once.

    Raises: ReleaseLost if that was charged before and its result is gone.
    """
    order = schema.index(visits.order)
    found = kept.section(_SECTION)
    if not found:
        if purse.left < purse.quanta:
            raise ReleaseLost(
                "Measuring again how rows follow each other was refused: it was charged, and its "
                "result is not in the checkpoint. Request a new job."
            )
        rho = purse.spend(int(_SHARE * purse.quanta))
        found = _measured(records, schema, order=order, most=visits.most, rho=rho)
        kept.keep(_SECTION, found)
    return _following(found, schema.sizes, order=order)


def _measured(
    records: TableRecords, schema: TableSchema, *, order: int, most: int, rho: float
) -> Arrays:
    sizes = schema.sizes
    people, before = records.by_person(), rows_before(records, order)
    earlier = codes_before(records.codes, before, np.arange(len(records)), sizes)
    columns = [n for n, size in enumerate(sizes) if (size + 1) * size <= MOST_CELLS]
    sigma = deviation(rho / (len(columns) + 1))
    source, weights = PrivacyRandomness(), records.weights
    rows = np.minimum(np.diff(people.starts), most) - 1
    counts = np.bincount(rows, minlength=most).astype(np.float64)
    found: Arrays = {"rows": noised_sum(counts, sigma, source=source)}
    for column in columns:
        both = np.stack([earlier[:, column], records.codes[:, column]], axis=1)
        shape = (sizes[column] + 1, sizes[column])
        joint = marginal(both, (0, 1), sizes=shape, weights=weights)
        found[f"pair_{column}"] = noised_sum(joint, sigma, source=source)
    return found | {"sigma": np.asarray([sigma])}


def _following(found: Arrays, sizes: Sequence[int], *, order: int) -> Following:
    sigma = float(found["sigma"][0])
    counts = np.asarray(found["rows"], dtype=np.float64)
    lifts = []
    for column, size in enumerate(sizes):
        lift = np.zeros((size + 1, size))
        if f"pair_{column}" in found:
            values = np.asarray(found[f"pair_{column}"], dtype=np.float64)
            lift = _lift(values.reshape(size + 1, size), sigma)
        if column == order:
            lift[:size][np.tril_indices(size, -1)] = _BACKWARDS
        lifts.append(lift.astype(np.float32))
    return Following(chances=on_simplex(counts / max(float(counts.sum()), 1.0)), lifts=tuple(lifts))


def _lift(joint: Vector, sigma: float) -> Vector:
    """Return log P(before, now) / P(before) P(now) from noised counts, shrunk towards 0 by the noise."""
    total = max(float(joint.sum()), 1.0)
    counts = total * on_simplex(joint.ravel() / total).reshape(joint.shape)
    alone = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / total
    lift: Vector = np.log((counts + _PRIOR * sigma) / (alone + _PRIOR * sigma))
    return lift
