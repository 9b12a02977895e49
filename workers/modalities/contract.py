"""What differs between kinds of records in a worker; a module for each provides it.

Jobs, leases, plans, arms, charges and documents are the same for all. `workers.modalities.images`,
`workers.modalities.tables` and `workers.modalities.joint` are modules of this form.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetManifest, DatasetSchema, SamplesManifest
from privacy.report import AuditReport
from privacy.table_schema import TableSchema
from training.audit_twin import Canaries
from training.joint_records import Records
from workers.intake.result import IntakeResult

Declared = DatasetSchema | TableSchema
Arrays = Mapping[str, NDArray[Any]]
Progress = Callable[[int, int], None]
IntakeProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class StoredDataset(ABC):
    """A version's arrays, mapped from disk; shapes as in `privacy.manifests.DatasetManifest`."""

    manifest: DatasetManifest
    cohort_id: str
    persons: NDArray[np.integer]
    person_digests: NDArray[np.uint8]
    duplicated_persons: NDArray[np.bool_]

    @property
    @abstractmethod
    def schema(self) -> Declared:
        """Return what the data owner declared public."""

    @property
    @abstractmethod
    def labels(self) -> NDArray[np.integer]:
        """Return the label of every record, as index of `label_names`; shape (records,)."""

    @property
    @abstractmethod
    def label_names(self) -> tuple[str, ...]:
        """Return the names of the labels, in order."""

    @abstractmethod
    def evidence_records(self, scratch: Path) -> NDArray[np.generic]:
        """Return every record as audits look at it; a copy, if one is needed, goes to `scratch`."""

    @abstractmethod
    def training_records(
        self, rows: NDArray[np.integer], *, persons: NDArray[np.int32], to: Path
    ) -> Records:
        """Copy the chosen records for a generator, `persons` being their own; pixels go to `to`."""

    @abstractmethod
    def asked(self, rows: NDArray[np.integer], *, to: Path) -> tuple[NDArray[Any], ...]:
        """Return what a generator's `score` takes for the chosen records; pixels go to `to`."""

    @abstractmethod
    def gradients(
        self, fitted: Any, rows: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return what the generator's gradient is at the chosen records, (rows, F); F may be 0."""

    @abstractmethod
    def write_records(self, rows: NDArray[np.integer], *, out: Path) -> None:
        """Write the blobs that hold the chosen records, and nobody else's, into the folder `out`."""


@dataclass(frozen=True, eq=False)
class StoredSamples(ABC):
    """A synthetic set, mapped from disk."""

    manifest: SamplesManifest

    def __len__(self) -> int:
        return len(self.records)

    @property
    @abstractmethod
    def records(self) -> NDArray[np.generic]:
        """Return the synthetic records as audits look at them."""

    @property
    @abstractmethod
    def labels(self) -> NDArray[np.integer]:
        """Return the label of every record, as index of the dataset's `label_names`."""

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """Return everything that has an entry for each record."""
        return self.records, self.labels

    @abstractmethod
    def label_counts(self) -> dict[str, int]:
        """Return how many synthetic records have each label; empty where there are no labels."""

    @abstractmethod
    def synthetic_set(self, *, test_share: float) -> Any:
        """Return the records in the splits that were declared, as bundles are written from."""

    @abstractmethod
    def preview(self, synthetic: Any) -> bytes:
        """Return the picture that a release's page shows, as PNG."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A synthetic set before it is stored: its blobs, and files to look at (name -> bytes)."""

    blobs: dict[str, NDArray[Any]]
    count: int
    label_distribution: Literal["uniform", "drawn"]
    shown: dict[str, bytes] = field(default_factory=dict)


class Modality(Protocol):
    """A kind of records: how it is read, stored, drawn and looked at."""

    def read_upload(
        self,
        path: Path,
        *,
        schema: Any,
        tenant_key: bytes,
        out: Path,
        progress: IntakeProgress | None = None,
    ) -> IntakeResult:
        """Read an upload into the blobs of a version.  Raises: InputRefused."""

    def facts(self, read: IntakeResult, folder: Path, *, schema: Any) -> dict[str, Any]:
        """Return what the owner is told beside counts of records and persons. Private."""

    def dataset(
        self, manifest: DatasetManifest, *, cohort_id: str, arrays: Arrays
    ) -> StoredDataset:
        """Return a stored version."""

    def samples(self, manifest: SamplesManifest, *, schema: Any, arrays: Arrays) -> StoredSamples:
        """Return a stored synthetic set."""

    def draw(self, fitted: Any, count: int, *, schema: Any, seed: int, progress: Progress) -> Drawn:
        """Draw a synthetic set, the same for the same seed."""

    def utility(
        self,
        evidence: Any,
        *,
        stored: Any,
        drawn: Any,
        fitted: Any,
        progress: Progress | None,
    ) -> dict[str, Any]:
        """Return the utility section of the owner's report, as JSON-ready numbers."""

    def pairs(self, report: AuditReport, evidence: Any, *, schema: Any) -> Sequence[Any]:
        """Return the suspicious pairs of an audit, dataclasses of what JSON knows, for evidence."""

    def canaries(self, count: int, *, schema: Any, rng: np.random.Generator) -> Canaries:
        """Return made-up records for an audit twin."""
