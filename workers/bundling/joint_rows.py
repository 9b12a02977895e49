"""Synthetic rows with an image each as every format writes them: in one order, in declared splits.

The row decides the split; its image goes with it and has the row's number as its name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.image_parts import image_labels, image_schema
from privacy.manifests import DatasetSchema
from privacy.table_schema import TableSchema
from workers.bundling.records import Record
from workers.bundling.table_rows import SyntheticTable, Values

FOLDER = "images"
"""The folder of a split that holds its pictures."""
_ROWS = 256
"""Of a batch: few enough that a reader who wants one image does not fetch a hundred megabytes."""


class Batch(NamedTuple):
    """Some typed rows of a split, and the image of each."""

    rows: pa.RecordBatch
    pictures: list[Record]


@dataclass(frozen=True, eq=False)
class SyntheticJoint:
    """Rows (N, D) float64 with images (N, height, width) uint8 or uint16; both may be mapped."""

    values: Values
    images: NDArray[np.integer]
    schema: TableSchema
    test_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no format could hold.  Raises: InvalidParameter."""
        declared = self.declared
        expected = (len(self.values), declared.height, declared.width)
        dtype = np.uint8 if declared.bit_depth == 8 else np.uint16
        if self.images.shape != expected or self.images.dtype != dtype:
            raise InvalidParameter(
                f"Images of shape {self.images.shape} and type {self.images.dtype} were refused: "
                f"{len(self.values)} rows with images of {np.dtype(dtype)}, {expected[1:]} pixels "
                "each, were declared. Draw the samples again."
            )
        _ = self.table

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.values)

    @cached_property
    def table(self) -> SyntheticTable:
        """Return the rows alone."""
        return SyntheticTable(self.values, self.schema, test_share=self.test_share)

    @cached_property
    def declared(self) -> DatasetSchema:
        """Return what is declared of the images, with the cells of rows as labels."""
        return image_schema(self.schema)

    @cached_property
    def cells(self) -> NDArray[np.int16]:
        """Return the cell that each image was drawn for, as index of `declared.labels`; (N,)."""
        return image_labels(self.schema, self.schema.codes_of(np.asarray(self.values)))

    @property
    def splits(self) -> dict[str, int]:
        """Return how many rows each split holds; a split without rows is not one."""
        return self.table.splits

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield the rows of one split with their images, a few hundred at a time.

        Raises: InvalidParameter naming the column whose cell is not one that was declared.
        """
        numbers = self.table.numbers(split)
        start = 0
        for rows in self.table.batches(split, most=_ROWS):
            mine = numbers[start : start + rows.num_rows]
            start += rows.num_rows
            pictures = [
                Record(int(n), split, int(self.cells[n]), FOLDER, self.images[n]) for n in mine
            ]
            yield Batch(rows, pictures)
