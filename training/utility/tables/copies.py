"""Means and their intervals from several synthetic copies of one table.

Copies are free: all are drawn from one fitted generator. The variance of a mean of m copies is that of
the estimate from as many persons as were trained on, plus what is left of the difference between copies (b / m, as in the
rule for partially synthetic data, Reiter 2003, Survey Methodology 29:181), plus, where it is known, the
variance of the privacy noise. A single fit cannot show the last part or the model's own error by comparing
its copies, so the report counts how often such intervals hold the value of held-out persons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from privacy.table_schema import TableSchema
from training.utility.tables.material import Floats, Rows, judging

CAREFUL_EPSILON = 1.0
ON_P_VALUES = (
    "P-values from this table mean little: at ε of 1 and below, tests on private synthetic tables find "
    "differences that are none far more often than they claim (Perez et al. 2024, arXiv:2403.13612). "
    "Confirm every finding on the real records."
)
TOO_NARROW = (
    "Intervals hold sampling, the drawing of copies and, where it is known, the privacy noise of one column; they "
    "leave out the error of the model, and are too narrow by as much as their coverage of held-out persons "
    "falls short."
)
_CONFIDENCE = 0.95
_MOST_LEVELS = 30


class Combined(NamedTuple):
    """An estimate from several copies, its variance, and its 95 % interval."""

    estimate: float
    variance: float
    low: float
    high: float


class Coverage(BaseModel):
    """How often intervals from synthetic copies agree with held-out persons, beside real ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    copies: int
    statistics: int
    synthetic: float | None
    real: float | None
    nominal: float = _CONFIDENCE
    note: str = TOO_NARROW
    warning: str | None


class Estimate(BaseModel):
    """The share of one level, estimated from the copies, beside that of held-out persons."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    column: str
    level: str
    copies: int
    share: float
    low: float
    high: float
    held_out: float


def combine(
    estimates: Sequence[float], variances: Sequence[float], *, noise_variance: float = 0.0
) -> Combined:
    """Return mean and interval over copies.

    `variances`: of each copy's estimate as if it were as many real persons as were trained on.
    """
    m = len(estimates)
    middle, within = float(np.mean(estimates)), float(np.mean(variances))
    between = float(np.var(estimates, ddof=1)) if m > 1 else 0.0
    total = within + between / m + noise_variance
    if between > 0:
        freedom = (m - 1) * (1 + (within + noise_variance) / (between / m)) ** 2
        reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, freedom))
    else:
        reach = float(stats.norm.ppf((1 + _CONFIDENCE) / 2))
    half = reach * total**0.5
    return Combined(middle, total, middle - half, middle + half)


def coverage(
    copies: Sequence[Rows],
    trained: Rows,
    held_out: Rows,
    *,
    schema: TableSchema,
    persons: int,
    epsilon: float | None,
    noise: Sequence[float] = (),
) -> Coverage:
    """Return how often the share of a level lies within reach of the same share of held-out persons.

    A synthetic (or real) interval and the held-out share agree if their difference is within the reach
    of both errors. Levels that fewer than ten held-out persons have are left out. `persons`: how many
    were trained on. `noise`: the variance that privacy adds to a share of each column, where it is known.
    """
    known = noise or (0.0,) * len(schema.columns)
    agree = {"synthetic": 0, "real": 0}
    counted = 0
    for index, column in enumerate(schema.columns):
        wanted = _shares(held_out, index, column.size)
        taught = _shares(trained, index, column.size)
        drawn = [_shares(copy, index, column.size) for copy in copies]
        for code in np.flatnonzero(wanted * held_out.count >= 10):
            error = float(wanted[code] * (1 - wanted[code]) / held_out.count)
            counted += 1
            for name, estimates, count, added in (
                ("synthetic", [float(share[code]) for share in drawn], persons, known[index]),
                ("real", [float(taught[code])], trained.count, 0.0),
            ):
                found = _of_shares(estimates, persons=count, noise_variance=error + added)
                agree[name] += found.low <= wanted[code] <= found.high
    return Coverage(
        copies=len(copies),
        statistics=counted,
        synthetic=agree["synthetic"] / counted if counted and copies else None,
        real=agree["real"] / counted if counted else None,
        warning=ON_P_VALUES if epsilon is not None and epsilon <= CAREFUL_EPSILON else None,
    )


def estimates(
    copies: Sequence[Rows],
    held_out: Rows,
    *,
    schema: TableSchema,
    persons: int,
    noise: Sequence[float] = (),
) -> tuple[Estimate, ...]:
    """Return the share of each level of targets and quasi-identifiers, with its 95 % interval.

    Shares are cut at 0 and 1. `persons` and `noise` as in `coverage`; the first levels of a long list are taken.
    """
    known = noise or (0.0,) * len(schema.columns)
    found = []
    for index in sorted((*schema.targets, *schema.quasi_identifiers)) if copies else ():
        column = schema.columns[index]
        drawn = [_shares(copy, index, column.size) for copy in copies]
        wanted = _shares(held_out, index, column.size)
        for code, level in enumerate(column.names[:_MOST_LEVELS]):
            shares = [float(share[code]) for share in drawn]
            one = _of_shares(shares, persons=persons, noise_variance=known[index])
            found.append(
                Estimate(
                    column=column.name,
                    level=level,
                    copies=len(copies),
                    share=one.estimate,
                    low=max(0.0, one.low),
                    high=min(1.0, one.high),
                    held_out=float(wanted[code]),
                )
            )
    return tuple(found)


def _of_shares(shares: Sequence[float], *, persons: int, noise_variance: float) -> Combined:
    spread = [p * (1 - p) / persons for p in shares]
    return combine(shares, spread, noise_variance=noise_variance)


def parts(rows: Rows, count: int, *, seed: int = 0) -> list[Rows]:
    """Return the rows of one synthetic table divided into so many copies of equal size."""
    order = judging(seed).permutation(len(rows))
    return [rows.take(np.sort(part)) for part in np.array_split(order, count) if len(part)]


def _shares(rows: Rows, column: int, size: int) -> Floats:
    shares = np.bincount(rows.codes[:, column], weights=rows.weights, minlength=size)
    return shares.astype(np.float64)
