"""The five documents that travel with the data; their canonical JSON and digest.

A job is a chain of these documents, each naming the digests of the ones before it. They stay
inside, except `ReleaseCertificate`, which names inside documents by salted commitment only.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from privacy.documents import Document
from privacy.mechanisms import Mechanism, NeighbouringRelation, PrivacyTarget, UnitOfPrivacy
from privacy.table_schema import TableSchema

_RESERVED_COLUMNS = frozenset({"file", "file_name", "filename", "patient_id", "split"})


class DatasetSchema(Document):
    """What the data owner declares to be public about a dataset; nothing here is read from data."""

    unit: UnitOfPrivacy = UnitOfPrivacy.PERSON
    declared_count: int = Field(
        ge=50, le=100_000_000, strict=True, description="rounded public count of units"
    )
    height: int = Field(ge=8, le=4096, strict=True, description="pixels")
    width: int = Field(ge=8, le=4096, strict=True, description="pixels")
    bit_depth: Literal[8, 16] = 8
    label: str = Field(min_length=1, max_length=64, description="name of the label column")
    labels: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        min_length=1, max_length=1000
    )

    @model_validator(mode="after")
    def _words_are_plain(self) -> Self:
        """Refuse what would read as something else in a table, on a page or in a terminal."""
        if self.label.strip().lower() in _RESERVED_COLUMNS:
            raise ValueError(
                f"the label column cannot be called {self.label!r}: that column means something "
                "else. Name the column that holds the label"
            )
        for what, text in (("label column", self.label), *(("label", t) for t in self.labels)):
            if text != text.strip() or not text.isprintable() or "|" in text or text[0] in "=+-@":
                raise ValueError(
                    f"the {what} {text!r} is not plain: use 1 to 64 printable characters, no '|', "
                    "no blank at either end, and none of = + - @ at the start"
                )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct; list each label once")
        return self

    @property
    def modality(self) -> Literal["image"]:
        """Return what kind of records is declared; not part of the document."""
        return "image"


def _modality_of(declared: object) -> str:
    """Tell a table by its columns: documents carry no tag, so that old ones keep their bytes."""
    if isinstance(declared, dict):
        return "table" if "columns" in declared else "image"
    return "table" if isinstance(declared, TableSchema) else "image"


Declared = Annotated[
    Annotated[DatasetSchema, Tag("image")] | Annotated[TableSchema, Tag("table")],
    Discriminator(_modality_of),
]
"""What an owner declares public: about images, or about a table. JSON of either, without a tag."""

_DECLARED: TypeAdapter[DatasetSchema | TableSchema] = TypeAdapter(Declared)


def read_declared(document: object) -> DatasetSchema | TableSchema:
    """Return what a stored JSON object declares.  Raises: pydantic.ValidationError."""
    return _DECLARED.validate_python(document)


class DatasetManifest(Document):
    """One immutable version of a dataset. Counts in it are private and stay inside.

    `blobs` maps images.npy (records, height, width), labels.npy (records,) int16 index into
    schema.labels, persons.npy (records,) int32 index into the persons, person_digests.npy
    (persons, 32) uint8, duplicated_persons.npy (persons,) bool, to the SHA-256 of their bytes. A
    table has table.npy (records, columns) float64 in place of images and labels: numbers within the
    declared bounds, NaN where missing, and categories as codes (`privacy.table_schema`).
    """

    kind: Literal["dataset"] = "dataset"
    schema_version: int = 1
    dataset_id: str
    version_number: int
    declared: Declared
    neighbouring_relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    source_format: str
    record_count: int
    person_count: int
    duplicated_person_count: int
    dropped: tuple[str, ...] = Field(description="kinds of identifier that ingest dropped")
    blobs: dict[str, str]


class GeneratorManifest(Document):
    """A fitted generator: what it was fitted on, how, and every mechanism that was charged."""

    kind: Literal["generator"] = "generator"
    schema_version: int = 1
    job_id: str
    dataset: str = Field(description="digest of the DatasetManifest")
    declared: Declared
    generator: str
    config: dict[str, Any]
    target: PrivacyTarget
    mechanisms: tuple[Mechanism, ...]
    weights: str = Field(description="SHA-256 of the safetensors file")
    versions: dict[str, str]
    device: str


class SamplesManifest(Document):
    """A synthetic set drawn from one generator; free under DP (post-processing)."""

    kind: Literal["samples"] = "samples"
    schema_version: int = 1
    generator: str = Field(description="digest of the GeneratorManifest")
    count: int
    seed: int
    label_distribution: Literal["uniform", "drawn"] = Field(
        default="uniform", description="drawn: with the rest of the row, by charged mechanisms"
    )
    blobs: dict[str, str] = Field(description="images.npy, labels.npy, or table.npy -> SHA-256")


class ReleaseCertificate(Document):
    """The signed summary that travels with a release. Holds nothing measured on real records."""

    kind: Literal["certificate"] = "certificate"
    schema_version: int = 1
    release_id: str
    name: str
    version: str
    publisher: str
    published_at: str
    unit: UnitOfPrivacy
    neighbouring_relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    declared: Declared
    generator: str
    epsilon: float
    delta: float
    mechanisms: tuple[Mechanism, ...]
    cohort_epsilon: float = Field(description="cumulative epsilon of the cohort at publication")
    cohort_delta: float
    composition: str
    candidates_trained: int
    audits_attempted: int
    tier: str
    policy_version: str
    policy_digest: str
    verdict: str
    verdicts: dict[str, str]
    thresholds: dict[str, float | str]
    approvers_count: int
    image_count: int
    labels: dict[str, int] = Field(description="synthetic images per label")
    commitments: dict[str, str] = Field(description="inside document -> SHA-256(secret || bytes)")
    statements: tuple[str, ...]
    signed_by: str = Field(description="SHA-256 fingerprint of the raw Ed25519 public key")
    layout: int = Field(
        default=1, ge=1, le=2, description="2: several formats, and an in-toto statement beside"
    )
    formats: tuple[str, ...] = Field(default=(), description="formats of the same images")
    splits: dict[str, int] = Field(default={}, description="synthetic images per declared split")
