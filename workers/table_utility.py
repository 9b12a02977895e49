"""What a synthetic table is good for, for the data owner: judged on held-out persons.

The numbers are measured on real records without noise; they go into a document and a section of the
report that owner and auditors see, and into nothing that leaves.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.evidence import Evidence
from privacy.table_schema import Codes, TableSchema
from training.utility.tables import Effort, measure_table_utility
from workers.owner_utility import FEWEST_PERSONS, HELD_OUT, STAYS_INSIDE
from workers.split import IN_TRAINING

_MOST_SECONDS = 180.0
_MOST_ROWS = 50_000
_EFFORT = Effort(most_rows=_MOST_ROWS, most_rows_to_learn=10_000, bootstraps=30)

_COPIES = 5
_MOST_ROWS_OF_A_COPY = 10_000

Persons = NDArray[np.integer] | None
Redrawn = Callable[[int, int], tuple[Codes, Persons]]  # rows, number of the copy -> a copy
Progress = Callable[[int, int], None]


class _OutOfTime(Exception):
    """The measurement would take longer than a report should wait for it."""


def measure_utility(  # noqa: PLR0913 - what is judged, and what is known about it
    evidence: Evidence,
    *,
    codes: Callable[[NDArray[np.integer]], Codes],
    synthetic: Codes,
    schema: TableSchema,
    redrawn: Redrawn,
    synthetic_persons: Persons = None,
    noise: Sequence[float] = (),
    progress: Progress | None = None,
    most_seconds: float = _MOST_SECONDS,
) -> dict[str, Any]:
    """Return the utility section as JSON-ready numbers, or `computed` false with a reason.

    `codes` returns those of rows of the evidence, by their place; `redrawn` a further synthetic table of
    so many rows, with its persons if rows have some.
    """
    about: dict[str, Any] = {"schema_version": 1, "kind": "table", "stays_inside": STAYS_INSIDE}
    trained, held_out = (_rows(evidence, arms) for arms in (IN_TRAINING, HELD_OUT))
    persons = evidence.persons
    few = len(np.unique(persons[held_out]))
    if few < FEWEST_PERSONS:
        reason = f"{few} held-out persons are too few; at least {FEWEST_PERSONS} are needed"
        return {**about, "computed": False, "reason": reason}
    end = time.monotonic() + most_seconds

    def watch(_part: str, done: int, total: int) -> None:
        if time.monotonic() > end:
            raise _OutOfTime
        if progress is not None:
            progress(done, total)

    rows = min(schema.declared_count, _MOST_ROWS_OF_A_COPY)
    try:
        found = measure_table_utility(
            codes(trained),
            codes(held_out),
            synthetic,
            schema=schema,
            trained_persons=persons[trained],
            held_out_persons=persons[held_out],
            synthetic_persons=synthetic_persons,
            epsilon=evidence.target.epsilon if evidence.target else None,
            copies=[redrawn(rows, number) for number in range(_COPIES)],
            noise=noise,
            effort=_EFFORT,
            watch=watch,
        )
    except _OutOfTime:
        reason = f"it would have taken more than {most_seconds:g} seconds"
        return {**about, "computed": False, "reason": reason}
    except InvalidParameter as error:  # too few of something to compare
        return {**about, "computed": False, "reason": str(error)}
    return {**about, "computed": True, **found.model_dump(mode="json")}


def _rows(evidence: Evidence, arms: tuple[int, ...]) -> NDArray[np.integer]:
    """Return the rows of some arms; persons with a twin in another arm are left out."""
    chosen = np.isin(evidence.arms, arms) & ~np.asarray(evidence.excluded)
    rows: NDArray[np.integer] = np.flatnonzero(chosen[evidence.persons])
    return rows
