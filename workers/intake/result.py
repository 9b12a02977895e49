"""What intake hands to the ingest task."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.intake.duplicates import DuplicateReport

SourceFormat = Literal["images+csv", "dicom+csv", "npz"]


@dataclass(frozen=True, eq=False)
class IntakeResult:
    """The facts of an upload that was accepted. All counts are private and stay inside."""

    source_format: SourceFormat
    record_count: int
    person_count: int  # units: records when the unit of privacy is the record
    duplicated_person_count: int
    duplicates: DuplicateReport
    dropped: tuple[str, ...]  # kinds of identifier, never their values
    ignored_columns: tuple[str, ...]  # columns, arrays and clutter that were not used
    blobs: dict[str, str]  # file name under `out` -> SHA-256 of its bytes
    content_digests: NDArray[np.uint8]  # (records, 32), keyed; never among the blobs
