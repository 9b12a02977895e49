"""Visits in synthetic and real tables: how many rows persons have, and how each follows the one before.

A step is two following rows of one person. Compared with held-out persons are the number of rows, how far
a step goes in the column that visits follow (in its bins), and for every column the joint shares of its
codes before and after a step: total variation, as for other distances. Autocorrelation is that of codes,
for columns whose levels have an order. Beside the other reference lines stands the floor of rows that are
real each by itself, dealt out to persons at random: whoever cannot beat it knows nothing of trajectories.
Every person with a step counts once, however many.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from privacy.table_schema import Codes, Column, TableSchema
from training.utility.tables.distances import variation
from training.utility.tables.material import Floats, Rows, judging

REFERENCES = {
    "other_persons": "real persons of the other side",
    "drawn_again": "the same persons, drawn with replacement",
    "rows_dealt_out": "real rows dealt out to persons at random: the floor",
}
_FEWEST_PERSONS = 20

Shares = tuple[float, ...]


class ColumnSteps(BaseModel):
    """One column from visit to visit: distances of its joint shares, and its autocorrelation."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    column: str
    distance: dict[str, float | None]
    autocorrelation: dict[str, float | None] | None  # held_out among; None without an order


class TrajectoryLook(BaseModel):
    """How visits of synthetic persons follow each other, beside those of real ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    order: str
    persons_with_steps: dict[str, int]  # by source, held_out among
    rows_per_person: dict[str, Shares]  # with 1, 2, ... rows, the last one and more
    rows_distance: dict[str, float]
    gaps: dict[str, Shares]  # steps that go on by 0, 1, ... bins
    gaps_distance: dict[str, float | None]
    columns: tuple[ColumnSteps, ...]
    mean_distance: dict[str, float | None]  # over columns
    beats_rows_dealt_out: bool | None
    references: dict[str, str] = REFERENCES


@dataclass(frozen=True, eq=False)
class Steps:
    """Following rows: codes before and after (S, columns), weights (S,), and how many persons."""

    before: Codes
    after: Codes
    weights: Floats
    persons: int

    @property
    def enough(self) -> bool:
        """Return whether there are persons enough to compare."""
        return self.persons >= _FEWEST_PERSONS


def look(
    synthetic: Rows, trained: Rows, held_out: Rows, *, schema: TableSchema, seed: int
) -> TrajectoryLook:
    """Return how steps of synthetic persons compare with those of held-out ones.

    Raises: ValueError if the schema declares no visits.
    """
    if schema.visits is None:
        raise ValueError("The schema declares no visits.")
    order, most = schema.index(schema.visits.order), schema.visits.most
    sources = {
        "synthetic": synthetic,
        "other_persons": trained,
        "drawn_again": held_out.resampled(seed=seed),
        "rows_dealt_out": dealt_out(trained, seed=seed),
    }
    every = {**sources, "held_out": held_out}
    steps = {name: steps_of(rows, order) for name, rows in every.items()}
    numbers = {name: _numbers_of_rows(rows, most) for name, rows in every.items()}
    gaps = {name: _gaps(one, order, schema.sizes[order]) for name, one in steps.items()}
    columns = tuple(
        _column(steps, index, column, sources=tuple(sources))
        for index, column in enumerate(schema.columns)
    )
    known = {
        name: [one for column in columns if (one := column.distance[name]) is not None]
        for name in sources
    }
    means = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    floor, made = means["rows_dealt_out"], means["synthetic"]
    return TrajectoryLook(
        order=schema.visits.order,
        persons_with_steps={name: one.persons for name, one in steps.items()},
        rows_per_person={name: tuple(shares.tolist()) for name, shares in numbers.items()},
        rows_distance={name: _apart(numbers[name], numbers["held_out"]) for name in sources},
        gaps={name: tuple(shares.tolist()) for name, shares in gaps.items()},
        gaps_distance={
            name: _apart(gaps[name], gaps["held_out"])
            if steps[name].enough and steps["held_out"].enough
            else None
            for name in sources
        },
        columns=columns,
        mean_distance=means,
        beats_rows_dealt_out=None if floor is None or made is None else made < floor,
    )


def steps_of(rows: Rows, order: int) -> Steps:
    """Return all following rows, by their code in the column `order`, equal ones as they stand."""
    places = np.lexsort((np.arange(len(rows)), rows.codes[:, order], rows.persons))
    whose = rows.persons[places]
    same = whose[1:] == whose[:-1]
    owners = whose[1:][same]
    per_person = np.bincount(owners, minlength=rows.count)
    persons = int(np.count_nonzero(per_person))
    return Steps(
        before=rows.codes[places[:-1][same]],
        after=rows.codes[places[1:][same]],
        weights=1.0 / (per_person[owners] * max(1, persons)),
        persons=persons,
    )


def dealt_out(rows: Rows, *, seed: int) -> Rows:
    """Return the same rows and the same numbers of them, each row with a person drawn at random."""
    return Rows(rows.codes[judging(seed).permutation(len(rows))], rows.persons)


def autocorrelation(steps: Steps, column: int, *, missing: int | None) -> float | None:
    """Return the correlation of a column's codes before and after a step, weighted; None if constant.

    `missing` is the code of an empty cell: such steps are left out.
    """
    before, after = steps.before[:, column], steps.after[:, column]
    known = np.ones(len(before), dtype=bool)
    if missing is not None:
        known = (before != missing) & (after != missing)
    if known.sum() < _FEWEST_PERSONS:
        return None
    both = np.stack([before[known], after[known]]).astype(np.float64)
    spread = np.cov(both, aweights=steps.weights[known])
    scale = float(np.sqrt(spread[0, 0] * spread[1, 1]))
    return float(spread[0, 1]) / scale if scale > 0 else None


def _column(
    steps: Mapping[str, Steps], index: int, column: Column, *, sources: tuple[str, ...]
) -> ColumnSteps:
    size = column.size
    cells = {
        name: (
            one.before[:, index].astype(np.int64) * size + one.after[:, index],
            one.weights,
        )
        for name, one in steps.items()
    }
    real = steps["held_out"]
    distance = {
        name: variation(cells[name], cells["held_out"], cells=size * size)
        if steps[name].enough and real.enough
        else None
        for name in sources
    }
    correlations = None
    if column.kind != "category":
        missing = size - 1 if column.missing else None
        correlations = {
            name: autocorrelation(one, index, missing=missing) if one.enough else None
            for name, one in steps.items()
        }
    return ColumnSteps(column=column.name, distance=distance, autocorrelation=correlations)


def _numbers_of_rows(rows: Rows, most: int) -> Floats:
    numbers = np.minimum(np.bincount(rows.persons, minlength=rows.count), most) - 1
    counts = np.bincount(numbers, minlength=most).astype(np.float64)
    return np.asarray(counts / max(1.0, float(counts.sum())))


def _gaps(steps: Steps, order: int, size: int) -> Floats:
    on: NDArray[np.int64] = steps.after[:, order].astype(np.int64) - steps.before[:, order]
    return np.bincount(on, weights=steps.weights, minlength=size).astype(np.float64)


def _apart(one: Floats, other: Floats) -> float:
    return float(0.5 * np.abs(one - other).sum())
