"""One-shot Gaussian releases: one vector per person, clipped to L2 norm 1, summed, noised.

The whole release is one table (cells, dimension): a record adds its vector to the row of its cell,
weighted 1 / (number of the person's records), so a person's part of the table is the average of
their records wherever these lie. That part is clipped to norm 1 as a whole, whatever the records
hold; the sensitivity under adding or removing a person is then 1, and the noise needs nothing else.
What is divided by later must be public or another noised number.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import GaussianMechanism, Mechanism
from training.randomness import PrivacyRandomness, noised_sum
from training.records import PersonIndex

Vectors = Callable[[NDArray[np.int64]], NDArray[np.float64]]

CLIP_NORM = 1.0
# Float64 sums are exact to far better than this. For the lattice that they are rounded to, the noise is
# raised (`training.randomness.noised_sum`).
_ROUNDING_SLACK = 1e-5
_RECORDS_AT_ONCE = 1024
"""Bounds memory: a block holds so many records, or one person who has more."""


def release_sum(
    vectors: Vectors,
    cells: NDArray[np.integer],
    *,
    people: PersonIndex,
    cell_count: int,
    mechanism: Mechanism,
) -> NDArray[np.float64]:
    """Return the noised sum over persons of their clipped tables.

    `vectors` maps record indices (R,) to vectors (R, D); `cells` (N,) names each record's row.
    Shapes: result (cell_count, D).  Raises: InvalidParameter if `mechanism` is not one release.
    """
    noise_multiplier = _noise_multiplier(mechanism)
    total = sum_of_clipped(vectors, cells, people=people, cell_count=cell_count)
    return noised_sum(total, noise_multiplier, sensitivity=CLIP_NORM, source=PrivacyRandomness())


def sum_of_clipped(
    vectors: Vectors,
    cells: NDArray[np.integer],
    *,
    people: PersonIndex,
    cell_count: int,
) -> NDArray[np.float64]:
    """Sum the persons' clipped tables. PRIVATE: the caller adds the noise.

    Shapes: result (cell_count, D). A person whose norm is not finite adds nothing.
    """
    total: NDArray[np.float64] | None = None
    for first, last in _blocks(people.starts):
        starts = people.starts[first : last + 1]
        records = people.order[starts[0] : starts[-1]]
        person = np.repeat(np.arange(last - first), np.diff(starts))
        part = _clipped_block(vectors(records), cells[records], person, cell_count=cell_count)
        total = part if total is None else total + part
    if total is None:
        raise InvalidParameter("A release over no block of persons was refused: nothing was read.")
    return total


def _blocks(starts: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Yield ranges of persons with few enough records; nobody is split, since the clip is theirs.

    Shapes: starts (persons + 1,), where each person's records start. Nobody gives one empty block.
    """
    first, count = 0, len(starts) - 1
    while True:
        fitting = int(np.searchsorted(starts, starts[first] + _RECORDS_AT_ONCE, side="right")) - 1
        last = min(max(fitting, first + 1), count)
        yield first, last
        first = last
        if first >= count:
            return


def _clipped_block(
    values: NDArray[np.float64],
    cells: NDArray[np.integer],
    person: NDArray[np.int64],
    *,
    cell_count: int,
) -> NDArray[np.float64]:
    weights = 1.0 / np.bincount(person)[person] if len(person) else np.zeros(0)
    pairs, pair_of_record = np.unique(person * cell_count + cells, return_inverse=True)
    table = np.zeros((len(pairs), values.shape[1]))
    np.add.at(table, pair_of_record, values * weights[:, None])
    pair_person, pair_cell = pairs // cell_count, pairs % cell_count
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is dropped just below
        squares = np.bincount(pair_person, weights=np.square(table).sum(axis=1))
    is_finite = np.isfinite(squares)
    norms = np.sqrt(np.where(is_finite, squares, np.inf))
    limit = CLIP_NORM * (1.0 - _ROUNDING_SLACK)
    factors = np.minimum(1.0, limit / np.maximum(norms, limit))
    kept = is_finite[pair_person]
    clipped = np.where(kept[:, None], table, 0.0) * factors[pair_person][:, None]
    total = np.zeros((cell_count, values.shape[1]))
    np.add.at(total, pair_cell, clipped)
    return total


def _noise_multiplier(mechanism: Mechanism) -> float:
    if not isinstance(mechanism, GaussianMechanism):
        raise UnsupportedMechanism(
            f"A one-shot release was refused for mechanism kind {mechanism.kind!r} "
            f"({mechanism.stage}): it needs a Gaussian one. Check the generator's STAGES."
        )
    if mechanism.steps != 1:
        raise InvalidParameter(
            f"A one-shot release of {mechanism.steps} steps was refused "
            f"({mechanism.stage}): it runs once. Reserve steps=1."
        )
    return mechanism.noise_multiplier


def release_second_moments(
    directions: Vectors,
    extras: Vectors,
    cells: NDArray[np.integer],
    *,
    people: PersonIndex,
    cell_count: int,
    share: float,
    mechanism: Mechanism,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return noised sums over persons, cell by cell, of second moments and of other vectors.

    A record's vector is `share` times the upper triangle of u uᵀ (off the diagonal times √2) beside
    √(1 - share²) times its extra vector, each clipped to norm 1 before: together they are no longer
    than 1, and neither is a person's average over records, in whichever cells these lie.
    Shapes: `directions` (R,) -> (R, D), `extras` (R,) -> (R, E); results (cells, D, D) symmetric and
    (cells, E), both divided by their share of the norm. An entry off the diagonal of the first has
    noise of 1 / √2 of what one on it has.
    """
    noise_multiplier = _noise_multiplier(mechanism)
    sums = sum_of_second_moments(
        directions, extras, cells, people=people, cell_count=cell_count, share=share
    )
    noised = noised_sum(sums, noise_multiplier, sensitivity=CLIP_NORM, source=PrivacyRandomness())
    return _unpacked(noised, share=share, directions=directions)


def sum_of_second_moments(
    directions: Vectors,
    extras: Vectors,
    cells: NDArray[np.integer],
    *,
    people: PersonIndex,
    cell_count: int,
    share: float,
) -> NDArray[np.float64]:
    """Sum the persons' packed tables (cells, D(D+1)/2 + E). PRIVATE: the caller adds the noise.

    It is what `sum_of_clipped` gives for these vectors, by matrix products: every record is clipped
    by itself, and an average of vectors no longer than 1 is no longer than 1.
    """
    size, extra_size = (len(make(np.zeros(0, dtype=np.int64)).T) for make in (directions, extras))
    moments, others = np.zeros((cell_count, size, size)), np.zeros((cell_count, extra_size))
    for first, last in _blocks(people.starts):
        starts = people.starts[first : last + 1]
        records = people.order[starts[0] : starts[-1]]
        weights = np.repeat(1.0 / np.maximum(np.diff(starts), 1), np.diff(starts))
        unit, extra = _at_most_one(directions(records)), _at_most_one(extras(records))
        own = cells[records]
        np.add.at(others, own, extra * weights[:, None])
        for cell in np.unique(own):
            inside = own == cell
            moments[cell] += (unit[inside] * weights[inside, None]).T @ unit[inside]
    rows, columns = np.triu_indices(size)
    packed = moments[:, rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    return np.concatenate([share * packed, np.sqrt(1 - share**2) * others], axis=1)


def _at_most_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip rows to norm 1, less the slack; a row that is not finite becomes 0."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is dropped just below
        norms = np.linalg.norm(values, axis=1)
    limit = CLIP_NORM * (1.0 - _ROUNDING_SLACK)
    is_finite = np.isfinite(norms)
    factors = limit / np.maximum(np.where(is_finite, norms, 1.0), limit)
    return np.asarray(np.where(is_finite[:, None], values, 0.0) * factors[:, None])


def _unpacked(
    table: NDArray[np.float64], *, share: float, directions: Vectors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = directions(np.zeros(0, dtype=np.int64)).shape[1]
    rows, columns = np.triu_indices(size)
    upper = np.zeros((len(table), size, size))
    upper[:, rows, columns] = table[:, : len(rows)] / np.where(rows == columns, 1.0, np.sqrt(2.0))
    whole = upper + np.triu(upper, 1).transpose(0, 2, 1)
    return whole / share, table[:, len(rows) :] / np.sqrt(1 - share**2)
