"""Training records: integer images with a label and a person each; encoded by declared bounds only.

Nothing here looks at the smallest, largest or mean value of the records: the range of an image is
its declared bit depth, and the label set is the declared one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema

Float = NDArray[np.float32]
Pixels = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class TrainingRecords:
    """The training arm: images (N, H, W) integers, labels (N,), persons (N,) as index of a person.

    With `unit=record`, every record is its own person. Images may be memory-mapped.
    """

    images: NDArray[np.integer]
    labels: NDArray[np.integer]
    persons: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.images)

    def checked(self, schema: DatasetSchema) -> "TrainingRecords":
        """Return the records, or refuse what contradicts the declared schema.

        Raises: InvalidParameter naming the property, its value and what was declared.
        """
        declared_shape = (len(self.labels), schema.height, schema.width)
        if self.images.shape != declared_shape or len(self.persons) != len(self.labels):
            raise InvalidParameter(
                f"Records of shape {self.images.shape} with {len(self.labels)} labels and "
                f"{len(self.persons)} persons were refused: the declared shape is "
                f"{declared_shape}. Ingest the data again under the right schema."
            )
        if self.images.dtype != pixel_type(schema):
            raise InvalidParameter(
                f"Images of type {self.images.dtype} were refused: {schema.bit_depth} bits were "
                f"declared, which is {np.dtype(pixel_type(schema))}. Convert the images."
            )
        outside = (self.labels < 0) | (self.labels >= len(schema.labels))
        if outside.any():
            raise InvalidParameter(
                f"{int(outside.sum())} labels were refused: they index outside the "
                f"{len(schema.labels)} declared labels. Declare every label that occurs."
            )
        return self

    def by_person(self) -> "PersonIndex":
        """Return which records belong to which person."""
        return PersonIndex.of(self.persons)


@dataclass(frozen=True, eq=False)
class PersonIndex:
    """Records grouped by person: `order[starts[p]:starts[p + 1]]` are the records of person p."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, persons: NDArray[np.integer]) -> "PersonIndex":
        """Group records by the person they belong to."""
        order = np.argsort(persons, kind="stable").astype(np.int64)
        ranked = np.asarray(persons)[order]
        is_first = np.ones(len(ranked), dtype=bool)
        is_first[1:] = ranked[1:] != ranked[:-1]
        starts = np.append(np.flatnonzero(is_first), len(ranked)).astype(np.int64)
        return cls(order=order, starts=starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def records_of(self, person: int) -> NDArray[np.int64]:
        """Return the indices of one person's records."""
        return self.order[self.starts[person] : self.starts[person + 1]]


def pixel_type(schema: DatasetSchema) -> type[np.uint8] | type[np.uint16]:
    """Return the integer type of the declared bit depth."""
    return np.uint8 if schema.bit_depth == 8 else np.uint16


def encode(images: NDArray[np.integer], schema: DatasetSchema) -> Float:
    """Map integer pixels to [-0.5, 0.5] by the declared bit depth; mid grey becomes 0.

    Shapes: (N, H, W) -> (N, H, W) float32.
    """
    full_scale = np.float32(2**schema.bit_depth - 1)
    return np.asarray(images, dtype=np.float32) / full_scale - np.float32(0.5)


def decode(values: NDArray[np.floating], schema: DatasetSchema) -> Pixels:
    """Map values in [-0.5, 0.5] to integer pixels; what lies outside becomes black or white."""
    full_scale = float(2**schema.bit_depth - 1)
    pixels = np.rint((np.clip(values, -0.5, 0.5) + 0.5) * full_scale)
    return np.asarray(pixels.astype(pixel_type(schema)))
