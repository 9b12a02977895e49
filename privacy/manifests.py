"""The five documents that travel with the data; their canonical JSON and digest.

A job is a chain of these documents, each naming the digests of the ones before it. They stay
inside, except `ReleaseCertificate`, which names inside documents by salted commitment only.
"""

import hashlib
from typing import Annotated, Any, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, model_validator

from privacy.errors import InvalidParameter
from privacy.mechanisms import Mechanism, NeighbouringRelation, PrivacyTarget, UnitOfPrivacy

# By default NaN would be written as null, and two different documents would share a digest.
_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

_RESERVED_COLUMNS = frozenset({"file", "file_name", "filename", "patient_id", "split"})


class Document(BaseModel):
    """A frozen JSON document with one canonical byte form (RFC 8785)."""

    model_config = _FROZEN

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes that digests and signatures are taken over.

        Raises: InvalidParameter for a number that JSON cannot carry exactly.
        """
        try:
            return rfc8785.dumps(self.model_dump(mode="json"))
        except rfc8785.CanonicalizationError as error:
            raise InvalidParameter(
                f"The {type(self).__name__} was refused: {error}. Whole numbers must lie within "
                "2**53 of zero, and no number may be NaN or infinite."
            ) from error

    def digest(self) -> str:
        """Return the SHA-256 of the canonical bytes, as lower-case hex."""
        return hashlib.sha256(self.canonical()).hexdigest()


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


class DatasetManifest(Document):
    """One immutable version of a dataset. Counts in it are private and stay inside.

    `blobs` maps images.npy (records, height, width), labels.npy (records,) int16 index into
    schema.labels, persons.npy (records,) int32 index into the persons, person_digests.npy
    (persons, 32) uint8, duplicated_persons.npy (persons,) bool, to the SHA-256 of their bytes.
    """

    kind: Literal["dataset"] = "dataset"
    schema_version: int = 1
    dataset_id: str
    version_number: int
    declared: DatasetSchema
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
    declared: DatasetSchema
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
    label_distribution: Literal["uniform"] = "uniform"
    blobs: dict[str, str] = Field(description="images.npy, labels.npy -> SHA-256")


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
    declared: DatasetSchema
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
