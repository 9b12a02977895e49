"""Survival in synthetic and real tables: the curves of Kaplan and Meier, and who is at greater risk.

Times are the bins that the schema declares: what a table of codes knows. Cox's model is fitted by
penalised partial likelihood with Breslow's ties (doi:10.1111/j.2517-6161.1972.tb00899.x); the C-index
is Harrell's (doi:10.1001/jama.1982.03320430047030), with equal risks counted half.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize

from privacy.table_schema import TableSchema
from training.utility.tables.learning import Score, design, telling
from training.utility.tables.material import Floats, Rows

_PENALTY = 1.0
_MOST_JUDGED = 4000
_FEWEST_EVENTS = 10


class SurvivalLook(BaseModel):
    """Kaplan-Meier curves per source and their distance from held-out persons; C-index per source."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    time: str
    event: str
    happened: tuple[str, ...]
    upper_edges: tuple[float, ...]
    curves: dict[str, tuple[float, ...]]  # share alive after each bin; held_out among them
    mean_difference: dict[str, float]  # of curves, over the declared time
    largest_difference: dict[str, float]
    concordance: dict[str, Score]
    held_out_events: int


def look(sources: Mapping[str, Rows], held_out: Rows, *, schema: TableSchema) -> SurvivalLook:
    """Return how survival of each source compares with held-out persons.

    Raises: ValueError if the schema declares no survival.
    """
    declared = schema.survival
    if declared is None:
        raise ValueError("The schema declares no time and event.")
    column = schema.column(declared.time)
    edges = np.asarray(column.edges)
    shown = {**sources, "held_out": held_out}
    curves = {name: _curve_of(rows, schema) for name, rows in shown.items()}
    widths = np.diff(edges) / (edges[-1] - edges[0])
    apart = {name: np.abs(curves[name] - curves["held_out"]) for name in sources}
    return SurvivalLook(
        time=declared.time,
        event=declared.event,
        happened=declared.happened,
        upper_edges=tuple(edges[1:].tolist()),
        curves={name: tuple(curve.tolist()) for name, curve in curves.items()},
        mean_difference={name: float((widths * one).sum()) for name, one in apart.items()},
        largest_difference={name: float(one.max()) for name, one in apart.items()},
        concordance={name: _judged(rows, held_out, schema) for name, rows in sources.items()},
        held_out_events=int(outcomes(held_out, schema)[1].sum()),
    )


def outcomes(rows: Rows, schema: TableSchema) -> tuple[NDArray[np.int64], NDArray[np.bool_], Rows]:
    """Return bins of time, whether the event happened, and the rows that have both."""
    declared = schema.survival
    if declared is None:
        raise ValueError("The schema declares no time and event.")
    time, event = schema.index(declared.time), schema.index(declared.event)
    is_known = np.ones(len(rows), dtype=bool)
    for index in (time, event):
        if schema.columns[index].missing:
            is_known &= rows.codes[:, index] != schema.columns[index].size - 1
    known = rows if is_known.all() else rows.take(is_known)
    happened = schema.columns[event].codes_named(declared.happened)
    return known.codes[:, time].astype(np.int64), np.isin(known.codes[:, event], happened), known


def kaplan_meier(
    times: NDArray[np.int64], events: NDArray[np.bool_], weights: Floats, *, bins: int
) -> Floats:
    """Return the share without the event after each bin. Shapes: (N,) each -> (bins,)."""
    ended = np.bincount(times, weights=weights * events, minlength=bins)
    at_risk = np.bincount(times, weights=weights, minlength=bins)[::-1].cumsum()[::-1]
    hazard = np.divide(ended, at_risk, out=np.zeros(bins), where=at_risk > 0)
    return np.asarray(np.cumprod(1 - hazard))


def concordance(times: NDArray[np.int64], events: NDArray[np.bool_], risk: Floats) -> float | None:
    """Return the share of comparable pairs in which who had the event first had the higher risk."""
    right = pairs = 0.0
    for index in np.flatnonzero(events):
        later = times > times[index]
        pairs += int(later.sum())
        others = risk[later]
        right += float((others < risk[index]).sum() + 0.5 * (others == risk[index]).sum())
    return right / pairs if pairs else None


def cox(features: Floats, times: NDArray[np.int64], events: NDArray[np.bool_]) -> Floats:
    """Return the coefficients of Cox's model. Shapes: (N, F), (N,), (N,) -> (F,).

    All who end in one bin of time share its risk set, censored ones among them.
    """
    bins = int(times.max()) + 1
    deaths = np.bincount(times[events], minlength=bins).astype(np.float64)
    summed = np.asarray(features[events].sum(axis=0)).reshape(-1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = features @ weights
        shift = score.max()
        each = np.exp(score - shift)
        at_risk = np.bincount(times, weights=each, minlength=bins)[::-1].cumsum()[::-1]
        pull = np.cumsum(np.divide(deaths, at_risk, out=np.zeros(bins), where=at_risk > 0))
        logs = np.log(np.where(at_risk > 0, at_risk, 1.0)) + shift
        value = deaths @ logs - summed @ weights + 0.5 * _PENALTY * weights @ weights
        slope = features.T @ (each * pull[times]) - summed + _PENALTY * weights
        return float(value), slope

    start = np.zeros(features.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x)


def _curve_of(rows: Rows, schema: TableSchema) -> Floats:
    times, events, known = outcomes(rows, schema)
    declared = schema.survival
    column = schema.column(declared.time) if declared else schema.columns[0]
    return kaplan_meier(times, events, known.weights, bins=len(column.edges) - 1)


def _judged(taught_on: Rows, held_out: Rows, schema: TableSchema) -> Score:
    """Return the C-index on held-out persons of Cox's model taught on other rows."""
    declared = schema.survival
    out = telling(schema, schema.index(declared.event) if declared else 0)
    features = tuple(index for index in range(len(schema.columns)) if index not in out)
    times, events, known = outcomes(taught_on, schema)
    true_times, true_events, judged = outcomes(held_out.at_most(_MOST_JUDGED, seed=0), schema)
    if not features or min(events.sum(), true_events.sum()) < _FEWEST_EVENTS:
        return Score(value=None, reason=f"fewer than {_FEWEST_EVENTS} events, or no other column")
    weights = cox(design(known.codes, schema, features), times, events)
    found = concordance(true_times, true_events, design(judged.codes, schema, features) @ weights)
    return Score(value=found, reason=None if found is not None else "no two can be compared")
