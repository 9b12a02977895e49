"""What intake hands to the ingest task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.intake.duplicates import DuplicateReport

SourceFormat = Literal[
    "images+csv", "dicom+csv", "npz", "csv", "parquet",
    "csv+images", "csv+dicom", "parquet+images", "parquet+dicom",
]  # fmt: skip


@dataclass(frozen=True)
class RowDuplicates:
    """What the owner of a table is told. Persons are twins if all their rows are equal."""

    rows: int  # of persons who have exactly the rows of another person
    persons: int
    rows_repeated_within_person: int  # harmless for privacy, but often a mistake


@dataclass(frozen=True)
class JointDuplicates:
    """What the owner of images with their table is told: of rows and of images, each by itself."""

    rows: int
    persons: int  # as tables count them: all their rows are another person's
    rows_repeated_within_person: int
    images: int  # images whose pixels occur with more than one person
    persons_with_shared_images: int
    images_repeated_within_person: int


@dataclass(frozen=True, eq=False)
class IntakeResult:
    """The facts of an upload that was accepted. All counts are private and stay inside."""

    source_format: SourceFormat
    record_count: int
    person_count: int  # units: records when the unit of privacy is the record
    duplicated_person_count: int
    duplicates: DuplicateReport | RowDuplicates | JointDuplicates
    dropped: tuple[str, ...]  # kinds of identifier, never their values
    ignored_columns: tuple[str, ...]  # columns, arrays and clutter that were not used
    blobs: dict[str, str]  # file name under `out` -> SHA-256 of its bytes
    content_digests: NDArray[np.uint8]  # (records, 32), keyed; never among the blobs
    # Of images with their table: of the rows alone (records, 32), keyed; `content_digests` are images'.
    row_digests: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 32), np.uint8))
    # Of a table: of stretches of its columns (n, 32), keyed; never among the blobs.
    column_digests: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 32), np.uint8))
    # Of a table: column -> what happened to how many of its cells; constraint -> rows that break it.
    columns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
