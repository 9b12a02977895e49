"""Pairs of rows with images that look alike, for the page and for the evidence: cells and pictures."""

from dataclasses import dataclass
from typing import Any, Literal

from privacy.evidence import JointEvidence
from privacy.parts import IMAGES, TABLE
from privacy.report import AuditReport
from privacy.table_schema import TableSchema
from workers.report.pictures import data_uri, listed_pairs, white_level
from workers.report.rows import Cell, cells_of_pair

Part = Literal["rows", "images"]
_LISTED: dict[str, Part] = {TABLE: "rows", IMAGES: "images"}


@dataclass(frozen=True)
class JointPair:
    """A suspicious sample beside its nearest trained-on and held-out records, each with its image.

    `part` says in what they are near; cells and pictures are of the same three records.
    """

    part: Part
    cells: tuple[Cell, ...]
    synthetic: str
    trained: str
    held_out: str
    ratio: float
    flagged: bool
    train_distance: float
    held_out_distance: float


def suspicious(
    report: AuditReport, evidence: JointEvidence, *, schema: TableSchema
) -> tuple[JointPair, ...]:
    """Return the pairs that either part's near-copy audit listed, those of the rows first."""
    return tuple(
        _pair(found, part, evidence, schema)
        for prefix, part in _LISTED.items()
        for found in listed_pairs(report, part=prefix)
    )


def _pair(
    found: dict[str, Any], part: Part, evidence: JointEvidence, schema: TableSchema
) -> JointPair:
    images = evidence.images
    top = white_level(images)
    return JointPair(
        part=part,
        cells=cells_of_pair(found, evidence.table, schema),
        synthetic=data_uri(images.samples[found["sample"]], top=top),
        trained=data_uri(images.records[found["train_record"]], top=top),
        held_out=data_uri(images.records[found["held_out_record"]], top=top),
        ratio=found["ratio"],
        flagged=found["flagged"],
        train_distance=found["train_distance"],
        held_out_distance=found["held_out_distance"],
    )
