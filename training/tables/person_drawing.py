"""Synthetic persons with several rows each: how many are drawn first, then row after row.

The first rows of all persons are drawn together, then all second ones, each given the row before it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.table_records import Codes
from training.tables.calibration import calibrated
from training.tables.column_model import ColumnModel
from training.tables.drawing import Broken, Places, draw_allowed
from training.tables.visits import Following

_CALIBRATIONS = 2


@dataclass(frozen=True, eq=False)
class DrawnPersons:
    """Rows (N, D), person by person and in order, with their persons (N,), and the rows before."""

    codes: Codes
    persons: NDArray[np.int64]
    before: Codes


def draw_persons(
    model: ColumnModel, count: int, *, rng: np.random.Generator, is_broken: Broken | None = None
) -> DrawnPersons:
    """Draw whole persons until there are `count` rows; the last person may have fewer than drawn."""
    following = _following(model)
    rows_of = _rows_of_persons(following, count, rng)
    starts = np.cumsum(rows_of) - rows_of
    codes = np.zeros((count, len(model.sizes)), dtype=np.int16)
    before = following.before_first(count)
    for visit in range(int(rows_of.max(initial=0))):
        rows = starts[rows_of > visit] + visit
        if visit:
            before[rows] = codes[rows - 1]
        codes[rows] = _rows(model, before[rows], rng, is_broken)
    persons = np.repeat(np.arange(len(rows_of)), rows_of)
    return DrawnPersons(codes=codes, persons=persons, before=before)


def calibrated_persons(model: ColumnModel, *, count: int, rng: np.random.Generator) -> ColumnModel:
    """Return the model with measured joints given back, where rows follow one another.

    Joints were measured with each person weighing 1, so the rows that are looked at are too.
    """
    found = model
    for _ in range(_CALIBRATIONS):
        drawn = draw_persons(found, count, rng=rng)
        weights = 1.0 / np.bincount(drawn.persons)[drawn.persons]
        chosen = rng.choice(count, size=count, p=weights / weights.sum())
        found = calibrated(model, count=count, rng=rng, before=drawn.before[chosen])
    return found


def _rows(
    model: ColumnModel, before: Codes, rng: np.random.Generator, is_broken: Broken | None
) -> Codes:
    def drawn(places: Places) -> Codes:
        return model.draw(len(places), rng=rng, before=before[places])

    if is_broken is None:
        return drawn(np.arange(len(before)))
    return draw_allowed(drawn, is_broken, count=len(before))


def _rows_of_persons(
    following: Following, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how many rows each person has, `count` in all."""
    found = following.numbers_of_rows(count, rng=rng)
    ends = np.cumsum(found)
    found = found[: int(np.searchsorted(ends, count)) + 1] if count else found
    if count:
        found[-1] -= int(found.sum()) - count
    return found


def _following(model: ColumnModel) -> Following:
    if model.following is None:
        raise InvalidParameter(
            "Drawing persons with several rows was refused: the schema declares no visits."
        )
    return model.following
