"""A synthetic table as every format writes it: rows in one order, in declared splits, typed once.

Rows are stored as numbers: cells of numeric columns as they are (NaN where missing), categories as
codes. Here they become what a reader sees, once for all formats, so that these cannot differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.table_schema import OTHER, Column, TableSchema
from workers.bundling.marginals import Marginal
from workers.bundling.records import TEST, TRAIN

Values = NDArray[np.float64]

ROWS_AT_ONCE = 8192
"""Rows of a batch, and of a row group of Parquet."""


@dataclass(frozen=True, eq=False)
class SyntheticTable:
    """Rows (N, D) float64, as `privacy.table_schema` stores them; they may be memory-mapped.

    `test_share` of the rows, taken at even distances, form the split "test"; by default all of them
    are "train"; with `persons`, rising numbers of whose row each is, persons are taken whole.
    `marginals` are the noisy counts that go into the bundle beside them, if any.
    """

    values: Values
    schema: TableSchema
    test_share: float = 0.0
    marginals: tuple[Marginal, ...] = ()
    persons: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        """Refuse what no format could hold.  Raises: InvalidParameter."""
        columns = len(self.schema.columns)
        if self.values.ndim != 2 or self.values.shape[1] != columns or not len(self.values):
            raise InvalidParameter(
                f"A table of shape {self.values.shape} was refused: at least one row of the "
                f"{columns} declared columns is needed."
            )

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.values)

    @cached_property
    def is_test(self) -> NDArray[np.bool_]:
        """Return which rows belong to the split "test", (N,)."""
        numbers = np.arange(len(self)) if self.persons is None else np.asarray(self.persons)
        # The share is a decimal such as 0.2: counted in thousandths, nothing is lost in rounding.
        share = round(self.test_share * 1000)
        chosen: NDArray[np.bool_] = (numbers + 1) * share // 1000 > numbers * share // 1000
        return chosen

    @cached_property
    def splits(self) -> dict[str, int]:
        """Return how many rows each split holds; a split without rows is not one."""
        test = int(self.is_test.sum())
        counts = {TRAIN: len(self) - test, TEST: test}
        return {split: count for split, count in counts.items() if count}

    def numbers(self, split: str) -> NDArray[np.intp]:
        """Return the numbers of the rows of one split, ascending."""
        return np.flatnonzero(self.is_test == (split == TEST))

    def blocks(self) -> Iterator[Values]:
        """Yield all stored rows, a few thousand at a time."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield np.asarray(self.values[start : start + ROWS_AT_ONCE], dtype=np.float64)

    def batches(self, split: str, *, most: int = ROWS_AT_ONCE) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one split, typed, a few thousand (or `most`) at a time.

        Raises: InvalidParameter naming the column whose cell is not one that was declared.
        """
        numbers = self.numbers(split)
        layout = arrow_schema(self.schema)
        for start in range(0, len(numbers), most):
            block = np.asarray(self.values[numbers[start : start + most]], np.float64)
            arrays = [
                cells(column, block[:, index]) for index, column in enumerate(self.schema.columns)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=layout)


def levels(column: Column) -> tuple[str, ...]:
    """Return the words that a cell of a category may hold."""
    return column.levels + ((OTHER,) if column.other else ())


def arrow_schema(schema: TableSchema) -> pa.Schema:
    """Return the typed columns; unit, description, kind and role are metadata of each."""
    return pa.schema([_field(column) for column in schema.columns])


def _field(column: Column) -> pa.Field:
    kind: pa.DataType
    if column.kind == "integer":
        kind = pa.int64()
    elif column.kind == "number":
        kind = pa.float64()
    else:
        kind = pa.dictionary(pa.int16(), pa.string(), ordered=column.kind == "ordinal")
    told = {
        "kind": column.kind,
        "role": column.role,
        "unit": column.unit,
        "description": column.description,
    }
    metadata = {key: value for key, value in told.items() if value}
    return pa.field(column.name, kind, nullable=column.missing, metadata=metadata)


def cells(column: Column, values: Values) -> pa.Array:
    """Return one column's cells as typed values, null where missing. Shapes: (rows,) -> (rows,).

    Raises: InvalidParameter naming the column if a cell is none that was declared.
    """
    if column.is_numeric:
        missing = np.isnan(values)
        low, high = column.edges[0], column.edges[-1]
        is_whole = column.kind == "number" or values == np.floor(values)
        # Written so that what is infinite is refused too.
        _refuse(column, ~(missing | ((low <= values) & (values <= high) & is_whole)), values)
        filled = np.where(missing, 0.0, values) + 0.0  # no negative zero
        whole = column.kind == "integer"
        found = pa.array(filled.astype(np.int64) if whole else filled, mask=missing)
    else:
        _refuse(column, ~((values >= 0) & (values < column.size) & (values % 1 == 0)), values)
        words = levels(column)
        missing = values >= len(words)
        codes = pa.array(np.where(missing, 0, values).astype(np.int16), mask=missing)
        is_ordered = column.kind == "ordinal"
        found = pa.DictionaryArray.from_arrays(codes, pa.array(words), ordered=is_ordered)
    if missing.any() and not column.missing:
        raise InvalidParameter(
            f"The synthetic table was refused: a cell of {column.name!r} is empty, and the column "
            "was declared without missing cells."
        )
    return found


def _refuse(column: Column, outside: NDArray[np.bool_], values: Values) -> None:
    if outside.any():
        raise InvalidParameter(
            f"The synthetic table was refused: {values[outside][0]:g} in {column.name!r} is no "
            "cell that was declared. Draw the samples again under the right schema."
        )
