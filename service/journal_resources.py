"""The JSON of the journal's signed head and proofs; the documents are those that the command makes."""

from typing import Literal

from pydantic import Field

from service.resources import Resource

Digest = str
Path = list[Digest]


class JournalHead(Resource):
    """How many rows the journal had at a time, and their root, signed with the service's key."""

    kind: Literal["kaima-journal-head"] = "kaima-journal-head"
    schema_version: int
    size: int
    root: Digest
    last_digest: Digest
    signed_at: str
    key_id: Digest
    signature: str


class InclusionProof(Resource):
    """One row is under a signed head. `row` is null where its content stays with the service."""

    kind: Literal["kaima-journal-inclusion"] = "kaima-journal-inclusion"
    schema_version: int
    seq: int
    row: str | None = Field(description="canonical JSON; its SHA-256 is `digest`")
    digest: Digest
    path: Path
    head: JournalHead


class OlderHead(Resource):
    """The size that was asked for; put the whole head there that you kept, to check the proof."""

    size: int


class ConsistencyProof(Resource):
    """The rows of an older head begin, unchanged, those of the newest one."""

    kind: Literal["kaima-journal-consistency"] = "kaima-journal-consistency"
    schema_version: int
    path: Path
    old: OlderHead
    new: JournalHead
