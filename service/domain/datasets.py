"""Cohort (owns the budget), Dataset, DatasetVersion (owns the bytes). No clock, no database."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from privacy.manifests import DatasetSchema, read_declared
from privacy.modality import Modality
from privacy.table_schema import TableSchema
from service.domain.errors import IllegalTransition, InputRefused

DeclaredSchema = DatasetSchema | TableSchema
"""What is declared public: about images, or about a table."""


class VersionState(StrEnum):
    """Where a version's bytes stand."""

    UPLOADING = "uploading"
    INGESTING = "ingesting"
    READY = "ready"
    REFUSED = "refused"
    ERASED = "erased"  # its blobs are deleted: a person in it was withdrawn


VERSION_TRANSITIONS: dict[VersionState, frozenset[VersionState]] = {
    VersionState.UPLOADING: frozenset({VersionState.INGESTING, VersionState.REFUSED}),
    VersionState.INGESTING: frozenset({VersionState.READY, VersionState.REFUSED}),
    VersionState.READY: frozenset({VersionState.ERASED}),
    VersionState.REFUSED: frozenset(),
    VersionState.ERASED: frozenset(),
}


@dataclass(eq=False)
class Cohort:
    """The set of persons behind one budget; the budget's one composition rule never changes.

    `reference_rate`, the chance to be in the reference set, is the same for every dataset of the
    cohort: with one key and two rates, a person held out of one would be trained on in another.
    """

    id: str
    tenant_id: str
    budget_epsilon: Decimal
    budget_delta: Decimal
    rule: str
    created_at: datetime
    reference_rate: float


@dataclass(eq=False)
class Dataset:
    """A lineage of versions about the same people. Everything declared in it is public."""

    id: str
    tenant_id: str
    cohort_id: str
    name: str
    purpose: str
    declared: dict[str, Any]
    created_by: str
    created_at: datetime

    @property
    def schema(self) -> DeclaredSchema:
        """Return what the data owner declared public."""
        return read_declared(self.declared)

    @property
    def modality(self) -> Modality:
        """Return what kind of records it holds."""
        return self.schema.modality

    def images(self, *, what: str) -> DatasetSchema:
        """Return what is declared of its images, for what only images can be used for.

        Raises: InputRefused, which begins with `what`, for a table.
        """
        schema = self.schema
        if isinstance(schema, TableSchema):
            raise InputRefused(
                f"{what} was refused: {self.name} is a table"
                f"{' with images' if schema.images else ''}, and this is for images alone.",
                value=schema.modality,
                limit="image",
            )
        return schema


@dataclass(eq=False)
class DatasetVersion:
    """One upload, immutable once READY. `manifest` holds private counts and stays inside."""

    id: str
    tenant_id: str
    dataset_id: str
    number: int
    created_by: str
    created_at: datetime
    state: VersionState = VersionState.UPLOADING
    raw_key: str | None = None
    raw_bytes: int = 0
    raw_erased_at: datetime | None = None
    upload_id: str | None = None
    part_bytes: int = 0
    part_count: int = 0
    manifest: dict[str, Any] = field(default_factory=dict)
    manifest_digest: str | None = None
    ingest_report: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] | None = None
    blobs_erased_at: datetime | None = None

    @property
    def prefix(self) -> str:
        """Return the folder in the work bucket under which the version's blobs lie."""
        return f"versions/{self.id}/"

    def move_to(self, state: VersionState) -> None:
        """Change the state; the only writer of `state`."""
        if state not in VERSION_TRANSITIONS[self.state]:
            onward = ", ".join(sorted(VERSION_TRANSITIONS[self.state])) or "nothing"
            raise IllegalTransition(
                f"Version {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: {onward}.",
                state=self.state.value,
            )
        self.state = state


@dataclass(eq=False)
class StoredReservation:
    """The ledger's projection for one job; the journal's rows are its truth.

    `charged` counts steps per mechanism; `revision` is what compare-and-set compares.
    """

    job_id: str
    cohort_id: str
    mechanisms: list[dict[str, Any]]
    charged: list[int]
    epsilon_reserved: Decimal
    epsilon: Decimal
    delta: Decimal
    is_open: bool
    revision: int
    created_at: datetime
