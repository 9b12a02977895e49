"""Training records of a table: coded rows with a person each, and one unit of weight per person.

Nothing here looks at how values are spread: the codes of a column are those of its declared domain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.table_schema import TableSchema
from training.records import PersonIndex

Codes = NDArray[np.int16]

# Weights are multiples of this, so that every sum of them below 2^27 is exact in float64, in any
# order: a person's weights never add up to more than 1, and no rounding depends on who is present.
_WEIGHT_GRID = 2.0**-26


@dataclass(frozen=True, eq=False)
class TableRecords:
    """The training arm of a table: codes (N, D) int16, persons (N,) as index of a person.

    With `unit=record`, every row is its own person. Codes may be memory-mapped.
    """

    codes: Codes
    persons: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Return 1 / (number of the person's rows) for each row, rounded down. PRIVATE. (N,).

        Adding or removing a person, whatever their rows, then changes a weighted marginal by at
        most 1, in L1 and in L2 norm.
        """
        people = self.by_person()
        rows = np.diff(people.starts)
        weights = np.zeros(len(self))
        weights[people.order] = np.repeat(np.floor(1.0 / rows / _WEIGHT_GRID) * _WEIGHT_GRID, rows)
        return weights

    def by_person(self) -> PersonIndex:
        """Return which rows belong to which person."""
        return PersonIndex.of(self.persons)

    def checked(self, schema: TableSchema) -> "TableRecords":
        """Return the records, or refuse what contradicts the declared schema.

        Raises: InvalidParameter naming the property, its value and what was declared.
        """
        width = len(schema.columns)
        if self.codes.ndim != 2 or self.codes.shape[1] != width:
            raise InvalidParameter(
                f"Rows of shape {self.codes.shape} were refused: the schema declares {width} "
                "columns. Ingest the table again under the right schema."
            )
        if len(self.persons) != len(self.codes):
            raise InvalidParameter(
                f"{len(self.codes)} rows with {len(self.persons)} persons were refused: every row "
                "names one person. Ingest the table again."
            )
        if self.codes.dtype != np.int16:
            raise InvalidParameter(
                f"Codes of type {self.codes.dtype} were refused: they are int16. Make them with "
                "the schema's codes_of."
            )
        if len(self.codes):
            low, high = self.codes.min(axis=0), self.codes.max(axis=0)
            outside = np.flatnonzero((low < 0) | (high >= np.asarray(schema.sizes)))
            if len(outside):
                column = schema.columns[int(outside[0])]
                raise InvalidParameter(
                    f"Codes of the column {column.name!r} were refused: they lie outside of its "
                    f"{column.size} declared levels and bins. Set other = true, or "
                    "declare what the code book lists."
                )
        return self
