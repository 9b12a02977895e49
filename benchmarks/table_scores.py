"""What the table benchmark says of one synthetic table, and the means over its seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table_sets import TableSet
from training.utility.intervals import over_seeds
from training.utility.tables import Effort, TableUtility, measure_table_utility
from training.utility.tables.distances import Distance

REFERENCES = ("other_persons", "drawn_again", "independent_columns")
_SUMMARISED = (
    "tvd_1",
    "tvd_2",
    "tvd_3",
    "c2st_auc",
    "any_violation",
    "cpu_seconds",
    "seconds",
    "peak_bytes",
)


def score(
    synthetic: NDArray[np.integer],
    train: TableSet,
    test: TableSet,
    *,
    epsilon: float,
    effort: Effort,
    persons: NDArray[np.integer] | None = None,
) -> TableUtility:
    """Judge a synthetic table; every method is judged by this alone. `persons`: whose rows are."""
    return measure_table_utility(
        train.codes,
        test.codes,
        synthetic,
        schema=train.schema,
        trained_persons=train.persons,
        # Persons of either part are counted from 0: the parts share nobody by construction.
        held_out_persons=test.persons + len(train.codes),
        synthetic_persons=persons,
        epsilon=epsilon,
        effort=effort,
    )


def as_row(found: TableUtility) -> dict[str, Any]:
    """Return the scores of one synthetic table; distances are from the rows that were trained on."""
    return {
        **_distances(found.to_trained["synthetic"], "tvd"),
        **_distances(found.to_held_out["synthetic"], "tvd_to_held_out"),
        "tstr": _predictions(found, "synthetic"),
        "c2st_auc": found.told_apart.value,
        "c2st_reason": found.told_apart.reason,
        "violations": {one.name: one.synthetic for one in found.constraints},
        "any_violation": found.any_constraint_broken,
        "survival": _survival(found, "synthetic"),
        "survival_reason": found.survival_reason,
        "coverage_of_held_out": found.coverage.synthetic,
        "beats_independent_columns": found.beats_independent_columns,
        "largest_subgroup_distance": _largest(found),
        "visits": _visits(found, "synthetic"),
    }


def real_lines(found: TableUtility) -> dict[str, Any]:
    """Return what real rows score, and the reference lines of the distances."""
    return {
        "tvd": {name: _distances(found.to_trained[name], "tvd") for name in REFERENCES},
        "tvd_to_held_out": {
            name: _distances(found.to_held_out[name], "tvd") for name in REFERENCES
        },
        "trtr": _predictions(found, "real"),
        "c2st_auc": found.told_apart_real.value,
        "survival": _survival(found, "real"),
        "visits": {
            name: _visits(found, name)
            for name in (found.trajectories.mean_distance if found.trajectories else ())
        },
        "coverage_of_held_out": found.coverage.real,
    }


def summarised(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and interval over seeds of every number, for one method."""
    table = {name: over_seeds([row.get(name) for row in rows]).as_json() for name in _SUMMARISED}
    for target, learners in rows[0]["tstr"].items():
        for learner, scores in learners.items():
            for metric in scores:
                values = [row["tstr"][target][learner][metric]["value"] for row in rows]
                table[f"tstr.{target}.{learner}.{metric}"] = over_seeds(values).as_json()
    return table


def _distances(found: Sequence[Distance], prefix: str) -> dict[str, float]:
    means = {f"{prefix}_{one.way}": one.mean for one in found}
    return means | {f"{prefix}_{one.way}_max": one.max for one in found}


def _predictions(found: TableUtility, source: str) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for one in found.predictions:
        scores = {name: value.model_dump() for name, value in one.scores[source].items()}
        table.setdefault(one.target, {})[one.learner] = scores
    return table


def _survival(found: TableUtility, source: str) -> dict[str, Any] | None:
    if found.survival is None:
        return None
    return {
        "curve_difference": found.survival.mean_difference[source],
        "largest_curve_difference": found.survival.largest_difference[source],
        "c_index": found.survival.concordance[source].value,
    }


def _visits(found: TableUtility, source: str) -> dict[str, Any] | None:
    """Return how visits of one source differ from those of held-out persons, where any are declared."""
    visits = found.trajectories
    if visits is None:
        return None
    told = [column.autocorrelation or {} for column in visits.columns]
    both = [(one.get(source), one.get("held_out")) for one in told]
    errors = [abs(a - b) for a, b in both if a is not None and b is not None]
    return {
        "rows_of_a_person": visits.rows_distance[source],
        "steps": visits.gaps_distance[source],
        "row_after_row": visits.mean_distance[source],
        "columns": {column.column: column.distance[source] for column in visits.columns},
        "autocorrelation_error": sum(errors) / len(errors) if errors else None,
    }


def _largest(found: TableUtility) -> dict[str, Any] | None:
    known = [one for one in found.subgroups if one.distance is not None]
    if not known:
        return None
    return max(known, key=lambda one: one.distance or 0.0).model_dump()
