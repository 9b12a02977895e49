"""Measure what a synthetic table is good for. `measure_table_utility` is the door."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.table_schema import TableSchema
from training.utility.tables import copies as copying
from training.utility.tables import trajectories as following
from training.utility.tables.distances import MOST_COMBINATIONS, WAYS, Distance, compare
from training.utility.tables.distinguishing import told_apart
from training.utility.tables.document import Constraint, Subgroup, TableUtility
from training.utility.tables.learning import LEARNERS, Learner, Prediction, predictions
from training.utility.tables.material import Rows
from training.utility.tables.survival import look

_T = TypeVar("_T")
Watch = Callable[[str, int, int], None]  # what is measured, parts done, parts in all
Copy = tuple[NDArray[np.integer], NDArray[np.integer] | None]  # codes, whose rows they are
FEWEST_PERSONS = 20
_FEWEST_OF_GROUP = 30
_MOST_GROUPS = 40
_PARTS = 5
_STEPS = 8


@dataclass(frozen=True)
class Effort:
    """How much is measured: rows of each table, combinations of columns, resamples, learners."""

    most_rows: int = 200_000
    most_rows_to_learn: int = 20_000
    most_combinations: int = MOST_COMBINATIONS
    ways: tuple[int, ...] = WAYS
    bootstraps: int = 100
    learners: tuple[Learner, ...] = LEARNERS


FULL_EFFORT = Effort()


@dataclass(frozen=True, eq=False)
class _Tables:
    trained: Rows
    held_out: Rows
    synthetic: Rows
    schema: TableSchema
    effort: Effort
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(column.name for column in self.schema.columns)


def measure_table_utility(  # noqa: PLR0913 - three tables, and what is known about them
    trained: NDArray[np.integer],
    held_out: NDArray[np.integer],
    synthetic: NDArray[np.integer],
    *,
    schema: TableSchema,
    trained_persons: NDArray[np.integer] | None = None,
    held_out_persons: NDArray[np.integer] | None = None,
    synthetic_persons: NDArray[np.integer] | None = None,
    epsilon: float | None = None,
    copies: Sequence[Copy] = (),
    noise: Sequence[float] = (),
    effort: Effort = FULL_EFFORT,
    seed: int = 0,
    watch: Watch | None = None,
) -> TableUtility:
    """Return the utility report of a synthetic table.

    `trained`, `held_out` and `synthetic` are codes (rows, columns) by the schema; persons (rows,) say
    whose a row is, and nobody may be on both sides. `copies` are further synthetic tables
    of the same generator, with their persons if they have some; without any, the one table is divided. `noise` (columns,) is the variance
    that privacy adds to a share, where it is known. `watch` may raise, to stop.
    Raises: InvalidParameter for rows that do not fit the schema, or too few persons.
    """
    both = (
        Rows.of(trained, trained_persons, schema=schema),
        Rows.of(held_out, held_out_persons, schema=schema),
    )
    made = Rows.of(synthetic, synthetic_persons, schema=schema)
    _check_sides(trained_persons, held_out_persons)
    _check_sizes(*both, made)
    first, second = (rows.at_most(effort.most_rows, seed=seed) for rows in both)
    given = _Tables(first, second, made.at_most(effort.most_rows, seed=seed), schema, effort, seed)
    told = _Told(watch)
    to_held_out = told("distances", lambda: _distances(given, to=second, other=first))
    to_trained = told("distances", lambda: _distances(given, to=first, other=second))
    predicted = told("predictions", lambda: _predictions(given))
    survival = None
    if schema.survival is not None:
        sources = {"synthetic": _taught(given.synthetic, given), "real": _taught(first, given)}
        survival = told("survival", lambda: look(sources, second, schema=schema))
    visits = None
    if schema.visits is not None:
        visits = told(
            "trajectories",
            lambda: following.look(given.synthetic, first, second, schema=schema, seed=seed),
        )
    apart = told("telling apart", lambda: told_apart(given.synthetic, second, schema=schema))
    apart_real = told("telling apart", lambda: told_apart(first, second, schema=schema))
    groups = told("subgroups", lambda: _subgroups(given))
    tables = [Rows.of(codes, whose, schema=schema) for codes, whose in copies]
    tables = tables or copying.parts(made, _PARTS)
    persons = both[0].count
    covered = copying.coverage(
        tables, first, second, schema=schema, persons=persons, epsilon=epsilon, noise=noise
    )
    broken, any_broken = _violations(given)
    beats = _beats(to_held_out)
    return TableUtility(
        held_out_persons=both[1].count,
        held_out_rows=len(both[1]),
        trained_persons=both[0].count,
        synthetic_rows=len(made),
        epsilon=epsilon,
        to_held_out=to_held_out,
        to_trained=to_trained,
        beats_independent_columns=beats,
        predictions=tuple(predicted),
        predictions_reason=None if predicted else "the schema declares no target",
        survival=survival,
        survival_reason=None if survival else "the schema declares no time and event",
        trajectories=visits,
        trajectories_reason=None if visits else "the schema declares no visits",
        told_apart=apart,
        told_apart_real=apart_real,
        constraints=broken,
        any_constraint_broken=any_broken,
        subgroups=groups,
        subgroups_reason=None if groups else "the schema declares no quasi-identifier with groups",
        coverage=covered,
        estimates=copying.estimates(tables, second, schema=schema, persons=persons, noise=noise),
        warnings=_warnings(beats, covered.warning, visits),
    )


class _Told:
    """Runs one part after another and says which."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._done = 0

    def __call__(self, name: str, part: Callable[[], _T]) -> _T:
        """Run a part."""
        if self._watch is not None:
            self._watch(name, self._done, _STEPS)
        self._done += 1
        return part()


def _check_sides(trained: NDArray[np.integer] | None, held_out: NDArray[np.integer] | None) -> None:
    if trained is None or held_out is None:
        return
    both = np.intersect1d(trained, held_out)
    if len(both):
        raise InvalidParameter(
            f"Measuring utility was refused: {len(both)} persons are trained on and held out at once. "
            "Divide persons, not rows."
        )


def _check_sizes(trained: Rows, held_out: Rows, synthetic: Rows) -> None:
    named = {"trained-on": trained, "held-out": held_out, "synthetic": synthetic}
    for name, rows in named.items():
        if rows.count < FEWEST_PERSONS:
            what = "rows" if name == "synthetic" else "persons"
            raise InvalidParameter(
                f"Measuring utility was refused: {rows.count} {name} {what} are too few. At least "
                f"{FEWEST_PERSONS} are needed."
            )


def _distances(given: _Tables, *, to: Rows, other: Rows) -> dict[str, tuple[Distance, ...]]:
    """Return the distances of the synthetic table and of three references from real persons."""
    others = {
        "synthetic": given.synthetic,
        "other_persons": other,
        "drawn_again": to.resampled(seed=given.seed),
        # Drawn from the trained on: a floor that knows no more than a generator does.
        "independent_columns": given.trained.shuffled_apart(
            count=len(given.synthetic), seed=given.seed
        ),
    }
    return compare(
        to,
        others,
        names=given.names,
        sizes=given.schema.sizes,
        ways=given.effort.ways,
        most=given.effort.most_combinations,
    )


def _beats(found: dict[str, tuple[Distance, ...]]) -> bool | None:
    """Return whether pairs of columns are nearer to the real ones than independent columns are."""
    pairs = {name: one.mean for name, all_ways in found.items() for one in all_ways if one.way == 2}
    return pairs["synthetic"] < pairs["independent_columns"] if pairs else None


def _taught(rows: Rows, given: _Tables) -> Rows:
    return rows.at_most(given.effort.most_rows_to_learn, seed=given.seed)


def _predictions(given: _Tables) -> list[Prediction]:
    return predictions(
        {"synthetic": _taught(given.synthetic, given), "real": _taught(given.trained, given)},
        given.held_out,
        schema=given.schema,
        learners=given.effort.learners,
        seed=given.seed,
        bootstraps=given.effort.bootstraps,
    )


def _violations(given: _Tables) -> tuple[tuple[Constraint, ...], float]:
    """Return how often each constraint is broken, and how often a synthetic row breaks any."""
    made = given.schema.violations(given.synthetic.codes)
    real = given.schema.violations(given.held_out.codes)
    found = tuple(
        Constraint(
            name=name,
            synthetic=float(made[name] @ given.synthetic.weights),
            held_out=float(real[name] @ given.held_out.weights),
        )
        for name in made
    )
    any_broken = np.zeros(len(given.synthetic), dtype=bool)
    for broken in made.values():
        any_broken |= broken
    return found, float(any_broken.mean())


def _subgroups(given: _Tables) -> tuple[Subgroup, ...]:
    """Compare within each level of each quasi-identifier."""
    found: list[Subgroup] = []
    for index in given.schema.quasi_identifiers:
        column = given.schema.columns[index]
        for code, level in enumerate(column.names[:_MOST_GROUPS]):
            inside = [
                rows.take(rows.codes[:, index] == code)
                for rows in (given.synthetic, given.held_out, given.trained)
            ]
            distances, reason = _within(given, *inside)
            group = Subgroup(
                column=column.name,
                level=level,
                held_out_persons=inside[1].count,
                share_synthetic=_share(given.synthetic, index, code),
                share_held_out=_share(given.held_out, index, code),
                distance=distances[0],
                distance_of_real=distances[1],
                reason=reason,
            )
            found.append(group)
    return tuple(found)


def _within(
    given: _Tables, made: Rows, held_out: Rows, trained: Rows
) -> tuple[tuple[float | None, float | None], str | None]:
    """Return the mean 2-way distances of synthetic and of trained-on rows from held-out ones."""
    if min(made.count, held_out.count, trained.count) < _FEWEST_OF_GROUP:
        return (None, None), f"fewer than {_FEWEST_OF_GROUP} persons or synthetic rows"
    found = compare(
        held_out,
        {"synthetic": made, "trained": trained},
        names=given.names,
        sizes=given.schema.sizes,
        ways=(2,),
        most=given.effort.most_combinations,
    )
    if not found["synthetic"]:
        return (None, None), "the table has one column"
    return (found["synthetic"][0].mean, found["trained"][0].mean), None


def _share(rows: Rows, column: int, code: int) -> float:
    return float((rows.codes[:, column] == code) @ rows.weights)


def _warnings(
    beats: bool | None,  # noqa: FBT001
    on_p_values: str | None,
    visits: following.TrajectoryLook | None,
) -> tuple[str, ...]:
    found = []
    if beats is False:
        found.append(
            "The table is no nearer to real persons, for pairs of columns, than columns drawn "
            "independently of each other: relations between columns in it mean nothing."
        )
    if visits is not None and visits.beats_rows_dealt_out is False:
        found.append(
            "Visits follow each other no more like those of real persons than rows dealt out to persons "
            "at random: trajectories in this table mean nothing."
        )
    if visits is not None and visits.beats_rows_dealt_out is None:
        found.append(
            "Too few persons have two rows or more, synthetic or held out, to compare trajectories."
        )
    return (*found, *([on_p_values] if on_p_values else []))
