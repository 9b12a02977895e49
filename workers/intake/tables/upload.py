"""Read one uploaded table from start to end: sniff its format, read its rows, write the blobs.

Every cell is looked at once, all problems of a column are counted, and the upload is refused or stored
as a whole. Not done here: the persons of another cohort, fetching the upload, storing the blobs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import TableSchema
from workers.intake import blobs
from workers.intake.archive import UPLOAD
from workers.intake.collection import check_unit_count
from workers.intake.limits import Limits
from workers.intake.persons import check_person, number_persons
from workers.intake.refusal import refused
from workers.intake.result import IntakeResult, RowDuplicates
from workers.intake.tables.cells import ColumnCells, longest_text, person_texts
from workers.intake.tables.columns import column_digests
from workers.intake.tables.csv_rows import CsvRows
from workers.intake.tables.parquet_rows import MAGIC, ParquetRows
from workers.intake.tables.rows import (
    Contents,
    Persons,
    RowWriter,
    keyed_contents,
    record_digests,
    row_contents,
    twins,
)
from workers.intake.tables.source import Batch, Source, too_many_rows

TABLE = "table.npy"
PERSON_IDS = "patient ids (kept only as keyed digests)"
FILE_NAMES = "file and folder names"
_ROWS_AT_ONCE = 100_000
_CSV = "the CSV"
_ZIP = b"PK\x03\x04"

Progress = Callable[[str, int, int], None]


def read_table_upload(
    path: Path,
    *,
    schema: TableSchema,
    tenant_key: bytes,
    out: Path,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> IntakeResult:
    """Read the table at `path`, CSV or Parquet, and write a version's blobs to `out`.

    Blobs: table.npy (rows, columns) float64, persons.npy (rows,) int32, person_digests.npy
    (persons, 32) uint8, duplicated_persons.npy (persons,) bool. `progress(stage, step, total)`
    counts rows; the total is 0 where nobody knows it.
    Raises: InputRefused naming column, count, limit and remedy; then nothing is left in `out`.
    """
    limits = limits or Limits()
    if schema.images is not None:
        raise refused(
            "it is declared with images, and is a table alone",
            file=UPLOAD,
            value="[images] in the schema",
            limit="a zip of the table and the image of each row",
            remedy="Put the table and its images into one zip.",
        )
    with _opened(path, schema, limits) as source, blobs.staged(out) as folder:
        reading = Reading(source, schema, tenant_key, folder, limits, progress or unheard)
        reading.read_rows()
        return reading.finish()


@contextmanager
def _opened(path: Path, schema: TableSchema, limits: Limits) -> Iterator[Source]:
    """Open the upload as what its first bytes say, whatever it is called."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == MAGIC:
        yield ParquetRows(path, schema=schema, limits=limits)
    elif start == _ZIP:
        raise refused(
            "it is a zip",
            file=UPLOAD,
            value="a zip",
            limit="one CSV or one Parquet file",
            remedy="Upload the file that is in it. Parquet packs a table as small as a zip does.",
        )
    else:
        _check_size(path.stat().st_size, limits.table_expanded_bytes)
        yield CsvRows(lambda: path.open("rb"), name=_CSV, schema=schema, limits=limits)


@dataclass
class Reading:
    """One table while it is read: its rows into table.npy, its persons, what was wrong with cells."""

    source: Source
    schema: TableSchema
    key: bytes
    folder: Path
    limits: Limits
    progress: Progress
    rows: int = 0
    unnamed_rows: int = 0
    first_unnamed: int = 0
    cells: list[ColumnCells] = field(init=False)
    persons: Persons = field(init=False)

    def __post_init__(self) -> None:
        characters = self.limits.cell_characters
        self.cells = [ColumnCells(column, characters) for column in self.schema.columns]
        self.persons = Persons(self.key)

    def read_rows(self) -> None:
        """Write every row; refuse the first column with cells that cannot be stored."""
        with RowWriter(self.folder / TABLE, len(self.cells)) as writer:
            for batch in self.source.batches():
                self._read(batch, writer)
                self.progress("reading rows", self.rows, self.source.expected_rows)
            writer.close()
        if self.unnamed_rows:
            raise refused(
                f"rows have nobody in the column '{self.schema.person}', first in row "
                f"{self.first_unnamed}",
                file=self.source.name,
                value=f"{self.unnamed_rows} rows",
                limit="one patient id in every row, because the unit of privacy is the person",
                remedy="Add patient ids. Declare the unit 'record' only if every row is of "
                "another person.",
            )
        for cells in self.cells:
            if (refusal := cells.refusal(self.source.name)) is not None:
                raise refusal
        if not self.rows:
            raise refused(
                "the table has no rows",
                file=self.source.name,
                value="0 rows",
                limit="one row for each record",
                remedy="Add the rows.",
            )

    def _read(self, batch: Batch, writer: RowWriter) -> None:
        first = self.rows + 1
        columns = [cells.values(batch[cells.column.name], first_row=first) for cells in self.cells]
        if self.schema.unit is UnitOfPrivacy.PERSON:
            self._name(batch, first)
        writer.append(np.stack(columns, axis=1))
        self.rows += len(columns[0])
        if self.rows > self.limits.records:
            raise too_many_rows(self.source.name, self.limits)

    def _name(self, batch: Batch, first: int) -> None:
        cells = batch[self.schema.person]
        if (longest := longest_text(cells)) > self.limits.cell_characters:
            raise refused(
                f"the column '{self.schema.person}' has a cell that is too long",
                file=self.source.name,
                value=f"{longest} characters",
                limit=f"{self.limits.cell_characters} characters",
                remedy="Shorten the patient id.",
            )
        texts = person_texts(cells)
        if None in texts:
            self.first_unnamed = self.first_unnamed or first + texts.index(None)
            self.unnamed_rows += texts.count(None)
        where = f" in the column '{self.schema.person}'"
        for text in {text for text in texts if text is not None}:
            check_person(text, file=self.source.name, where=where)
        self.persons.add([text or "" for text in texts])

    def finish(self) -> IntakeResult:
        """Write the remaining blobs.  Raises: InputRefused for too few or too many units."""
        table = np.load(self.folder / TABLE, mmap_mode="r", allow_pickle=False)
        self.progress("comparing rows", 0, 0)
        contents = row_contents(table, self.schema)
        dropped = {FILE_NAMES}
        if self.schema.unit is UnitOfPrivacy.PERSON:
            dropped.add(PERSON_IDS)
            persons, digests = self.persons.finish()
        else:
            persons, digests = number_persons(record_digests(contents, tenant_key=self.key))
        check_unit_count(len(digests), self.schema, self.limits)
        flags = twins(contents, persons)
        blobs.write_array(self.folder / blobs.PERSONS, persons)
        blobs.write_array(self.folder / blobs.PERSON_DIGESTS, digests)
        blobs.write_array(self.folder / blobs.DUPLICATED_PERSONS, flags)
        return IntakeResult(
            source_format=self.source.format,
            record_count=self.rows,
            person_count=len(digests),
            duplicated_person_count=int(flags.sum()),
            duplicates=_duplicates(contents, persons, flags),
            dropped=tuple(sorted(dropped)),
            ignored_columns=self.source.ignored_columns,
            blobs=blobs.digest_blobs(self.folder),
            content_digests=keyed_contents(contents, tenant_key=self.key),
            column_digests=column_digests(table, self.schema, tenant_key=self.key),
            columns={
                cells.column.name: counts for cells in self.cells if (counts := cells.counts())
            },
            violations=count_violations(table, self.schema),
        )


def count_violations(table: NDArray[np.float64], schema: TableSchema) -> dict[str, int]:
    """Return, for each declared constraint, how many rows break it. Private."""
    found = {constraint.name: 0 for constraint in schema.constraints}
    for start in range(0, len(table) if found else 0, _ROWS_AT_ONCE):
        codes = schema.codes_of(np.asarray(table[start : start + _ROWS_AT_ONCE]))
        for name, broken in schema.violations(codes).items():
            found[name] += int(np.count_nonzero(broken))
    return found


def _duplicates(
    contents: Contents, persons: NDArray[np.int32], flags: NDArray[np.bool_]
) -> RowDuplicates:
    keyed = np.concatenate([contents, persons.astype("<i4").view(np.uint8).reshape(-1, 4)], axis=1)
    keys = np.ascontiguousarray(keyed).view(f"V{keyed.shape[1]}").ravel()
    return RowDuplicates(
        rows=int(flags[persons].sum()),
        persons=int(flags.sum()),
        rows_repeated_within_person=len(keys) - len(np.unique(keys)),
    )


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise refused(
            "the table is too large",
            file=UPLOAD,
            value=f"{size} bytes",
            limit=f"{limit} bytes",
            remedy="Leave out the columns that are not declared, or upload it as Parquet.",
        )


def unheard(_stage: str, _step: int, _total: int) -> None:
    """Show progress to nobody."""
