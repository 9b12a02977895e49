"""Codes of a table -> values: a number within its bin, a category as its code.

Post-processing of what a mechanism made: it costs nothing. What is inside a bin is not known, so that a
number is drawn evenly from those that can be written there with the declared decimals. Its code is
the code it was drawn for.
"""

import numpy as np
from numpy.typing import NDArray

from privacy.table_schema import MISSING, Codes, Column, TableSchema, Values

_GRID_SLACK = 1e-9
"""Of a step: an edge such as 0.3 is on the grid of tenths, although 0.3 * 10 is not 3."""


def values_of(codes: Codes, schema: TableSchema, rng: np.random.Generator) -> Values:
    """Return stored values for codes. Shapes: (rows, columns) -> (rows, columns) float64."""
    values = np.empty(codes.shape, dtype=np.float64)
    for index, column in enumerate(schema.columns):
        values[:, index] = column_values(codes[:, index], column, rng)
    return values


def column_values(codes: Codes, column: Column, rng: np.random.Generator) -> Values:
    """Return the values of one column: numbers, NaN where missing; codes of a category."""
    if not column.is_numeric:
        return codes.astype(np.float64)
    edges = np.asarray(column.edges)
    bins = len(edges) - 1
    places = np.clip(codes, 0, bins - 1)
    low, top = _drawable(column)
    # The lower edge where no written number lies in a bin.
    steps = np.floor(rng.random(len(codes)) * (top - low + 1)[places])
    scale = 10.0 ** (0 if column.kind == "integer" else column.decimals)
    drawn: NDArray[np.float64] = (low[places] + steps) / scale
    drawn = np.where((top >= low)[places], drawn, edges[places])
    upper = np.append(np.nextafter(edges[1:-1], -np.inf), edges[-1])
    drawn = np.clip(drawn, edges[places], upper[places])
    return np.where(codes >= bins, np.nan, drawn)


def _drawable(column: Column) -> tuple[Values, Values]:
    """Return the first and last grid step in every bin: the upper edge belongs to the last only."""
    edges = np.asarray(column.edges)
    scale = 10.0 ** (0 if column.kind == "integer" else column.decimals)
    first = np.ceil(edges * scale - _GRID_SLACK)
    last = np.append(first[1:-1] - 1, np.floor(edges[-1] * scale + _GRID_SLACK))
    return first[:-1], last


def comparable(values: Values, schema: TableSchema) -> Values:
    """Return rows without gaps, as audits compare them. Shapes: (rows, columns) -> the same.

    A missing number becomes one that does not occur: a mean bin below the lower bound. Two missing
    cells are then alike, and a missing one is about as far from a low one as bins are from each other.
    """
    found = np.array(values, dtype=np.float64)
    for index, column in enumerate(schema.columns):
        if column.is_numeric and column.missing:
            gaps = np.isnan(found[:, index])
            found[gaps, index] = _stand_in(column)
    return found


def words_of(row: Values, schema: TableSchema) -> tuple[str, ...]:
    """Return the cells of one stored or comparable row as a reader sees them, (columns,)."""
    return tuple(
        _word(column, float(cell)) for column, cell in zip(schema.columns, row, strict=True)
    )


def _stand_in(column: Column) -> float:
    low, high = column.edges[0], column.edges[-1]
    return low - (high - low) / (len(column.edges) - 1)


def _word(column: Column, cell: float) -> str:
    if not column.is_numeric:
        return column.names[int(cell)]
    if np.isnan(cell) or (column.missing and cell < column.edges[0]):
        return MISSING
    return f"{cell:.0f}" if column.kind == "integer" else f"{cell:.{column.decimals}f}"
