"""Training records of rows with an image each: a table and its images, in the same order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.image_parts import image_labels, image_schema
from privacy.table_schema import Codes, TableSchema
from training.records import TrainingRecords
from training.table_records import TableRecords


@dataclass(frozen=True, eq=False)
class JointRecords:
    """The training arm: row i of the table and image i are one record of one person.

    The label of an image is the cell of its row (`privacy.image_parts`). Images may be
    memory-mapped.
    """

    table: TableRecords
    images: TrainingRecords

    @classmethod
    def of(
        cls,
        codes: Codes,
        images: NDArray[np.integer],
        persons: NDArray[np.integer],
        *,
        schema: TableSchema,
    ) -> "JointRecords":
        """Join rows (N, D) and their images (N, H, W), which have the same persons (N,)."""
        labels = image_labels(schema, codes)
        return cls(
            TableRecords(codes=codes, persons=persons),
            TrainingRecords(images=images, labels=labels, persons=persons),
        )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def persons(self) -> NDArray[np.integer]:
        """Return whose each record is, as index of a person (N,)."""
        return self.table.persons

    def checked(self, schema: TableSchema) -> "JointRecords":
        """Return the records, or refuse what contradicts the declared schema or itself.

        Raises: InvalidParameter naming the property, its value and what was declared.
        """
        self.table.checked(schema)
        self.images.checked(image_schema(schema))
        if len(self.table) != len(self.images):
            raise InvalidParameter(
                f"{len(self.table)} rows with {len(self.images)} images were refused: every row "
                "has one image. Ingest the data again."
            )
        if not np.array_equal(self.table.persons, self.images.persons):
            raise InvalidParameter(
                "Rows and images of different persons were refused: a row and its image are one "
                "person's. Ingest the data again."
            )
        if not np.array_equal(self.images.labels, image_labels(schema, self.table.codes)):
            raise InvalidParameter(
                "Images in other cells than their rows were refused: an image is drawn for what "
                "its row holds. Ingest the data again."
            )
        return self


Records = TrainingRecords | TableRecords | JointRecords
"""What a training arm may be."""
