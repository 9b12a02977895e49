"""Rows of a table for the page: cells as words, and pairs of rows that look alike."""

from dataclasses import dataclass
from typing import Any

from privacy.evidence import Evidence
from privacy.report import AuditReport
from privacy.table_schema import TableSchema
from privacy.table_values import words_of
from workers.report.pictures import data_uri, listed_pairs, white_level

MOST_ROWS = 12


@dataclass(frozen=True)
class Cell:
    """One column of a pair: what stands there in the synthetic row and in the two real ones."""

    column: str
    synthetic: str
    trained: str
    held_out: str


@dataclass(frozen=True)
class RowPair:
    """A suspicious synthetic row beside its nearest trained-on and held-out rows."""

    cells: tuple[Cell, ...]
    ratio: float
    flagged: bool
    train_distance: float
    held_out_distance: float


@dataclass(frozen=True)
class SampleRows:
    """Some synthetic rows in words: columns, a tuple of cells for each row, and its image if any."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    pictures: tuple[str, ...] = ()


def suspicious_rows(
    report: AuditReport, evidence: Evidence, *, schema: TableSchema
) -> tuple[RowPair, ...]:
    """Return the pairs that the near-copy audit listed, as words."""
    return tuple(
        RowPair(
            cells=cells_of_pair(pair, evidence, schema),
            ratio=pair["ratio"],
            flagged=pair["flagged"],
            train_distance=pair["train_distance"],
            held_out_distance=pair["held_out_distance"],
        )
        for pair in listed_pairs(report)
    )


def sample_rows(
    evidence: Evidence, *, schema: TableSchema, images: Evidence | None = None
) -> SampleRows:
    """Return the first synthetic rows, with their images if given: nobody has chosen them by looks."""
    made = () if images is None else images.samples[:MOST_ROWS]
    top = 0.0 if images is None else white_level(images)
    return SampleRows(
        columns=tuple(column.name for column in schema.columns),
        rows=tuple(words_of(row, schema) for row in evidence.samples[:MOST_ROWS]),
        pictures=tuple(data_uri(image, top=top) for image in made),
    )


def cells_of_pair(
    pair: dict[str, Any], evidence: Evidence, schema: TableSchema
) -> tuple[Cell, ...]:
    """Return what stands in each column of the three rows of a listed pair."""
    made = words_of(evidence.samples[pair["sample"]], schema)
    trained = words_of(evidence.records[pair["train_record"]], schema)
    held_out = words_of(evidence.records[pair["held_out_record"]], schema)
    names = (column.name for column in schema.columns)
    return tuple(Cell(*words) for words in zip(names, made, trained, held_out, strict=True))
