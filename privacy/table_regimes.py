"""Regimes of tables: are there enough persons for the columns declared? Sentences, beforehand.

The measure is the noise on the distribution of one column, had the whole run measured nothing but
each column once: a Gaussian of

    sigma = sqrt(columns / (2 rho)),  rho = epsilon² / (4 (ln(1/delta) + epsilon))

on every cell of a column's counts, which moves a distribution over k codes by about

    k * 0.4 * sigma / units

in total variation (0.4 is half the mean of |N(0, 1)|). Pairs of columns have k1 * k2 cells and less
of the budget each, so where single columns are noisy, nothing beyond them is learnt. Everything is
computed from declared numbers; delta is taken as 1e-5, on which the measure hardly depends.
"""

from collections.abc import Iterator
from math import log, sqrt

from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import Column, TableSchema

NOISY_COLUMN = 0.05
"""Expected total variation of one column's noise above which its rare codes are mostly noise."""
NOISY_PAIR = 0.5
"""The same for a pair of columns of the middling size: above it, columns come out independent."""
_DELTA = 1e-5
_HALF_MEAN = 0.4
_NAMED = 3


def column_noise(size: int, *, columns: int, units: int, epsilon: float) -> float:
    """Return the expected total variation of the noise on a distribution over `size` codes."""
    rho = epsilon**2 / (4 * (log(1 / _DELTA) + epsilon))
    return size * _HALF_MEAN * sqrt(columns / (2 * rho)) / units


def about_columns(schema: TableSchema, *, units: int, epsilon: float) -> Iterator[str]:
    """Yield what a data owner should know before paying: too fine columns, too few persons."""
    words = "persons" if schema.unit is UnitOfPrivacy.PERSON else "rows"
    count = len(schema.columns)
    amount = f"{units:,} {words} × epsilon {epsilon:.3g} over {count} columns"

    def noise(size: int) -> float:
        return column_noise(size, columns=count, units=units, epsilon=epsilon)

    fine = sorted(
        (column for column in schema.columns if noise(column.size) > NOISY_COLUMN),
        key=lambda column: -column.size,
    )
    if fine:
        yield (
            f"Too little for so fine columns: {amount}. The noise moves the distribution of "
            f"{_listed(fine)} by {100 * noise(fine[0].size):.0f} % or so, so rare codes are mostly "
            f"noise. Declare wider bins or fewer levels, add {words}, or ask for a larger epsilon."
        )
    middling = sorted(schema.sizes)[count // 2]
    if count > 1 and noise(middling**2) > NOISY_PAIR:
        remedy = (
            "Compare the result with independent_columns, which learns each column by itself; where "
            "it is as good, nothing more was learnt."
            if schema.images is None
            else "Rows may be no better than independent columns: lower row_noise_ratio, declare "
            "coarser bins or fewer columns, or ask for a larger epsilon."
        )
        yield f"Little to learn of how columns hang together: {amount}. {remedy}"


def _listed(columns: list[Column]) -> str:
    named = [f"{column.name!r} ({column.size} codes)" for column in columns[:_NAMED]]
    more = len(columns) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
