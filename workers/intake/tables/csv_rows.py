"""Read a CSV in bounded memory: UTF-8, comma-separated, one header, rows of equal length.

Text is text: a formula is a cell like any other, and no declared level can start like one. Only
declared columns are kept.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv

from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.result import SourceFormat
from workers.intake.tables.source import Batch, choose_columns

_BLOCK_BYTES = 4 * 1024 * 1024
_HEADER_BYTES = 256 * 1024

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


class CsvRows:
    """A CSV whose header was read. `open_file` opens the bytes, from their start, each time."""

    format: SourceFormat = "csv"
    expected_rows = 0

    def __init__(
        self, open_file: Opener, *, name: str, schema: TableSchema, limits: Limits
    ) -> None:
        """Read the header.  Raises: InputRefused."""
        self.name = name
        self._open = open_file
        with open_file() as stream:
            self._titles = _read_header(stream, name)
        self._chosen = choose_columns(self._titles, file=name, schema=schema, limits=limits)
        self.ignored_columns = self._chosen.ignored

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order, as text.  Raises: InputRefused naming the row."""
        invalid: list[pacsv.InvalidRow] = []

        def note(row: pacsv.InvalidRow) -> str:
            invalid.append(row)
            return "error"

        # By place, so that a title may be anything.
        names = [str(place) for place in range(len(self._titles))]
        used = {title: str(place) for title, place in self._chosen.places.items()}
        with self._open() as stream, _Checked(stream, self.name) as checked:
            try:
                reader = pacsv.open_csv(
                    pa.PythonFile(checked, mode="r"),
                    pacsv.ReadOptions(
                        use_threads=False,
                        block_size=_BLOCK_BYTES,
                        column_names=names,
                        skip_rows_after_names=1,
                    ),
                    pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
                    pacsv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        include_columns=list(used.values()),
                        strings_can_be_null=False,
                    ),
                )
                for batch in reader:
                    yield {title: batch.column(name) for title, name in used.items()}
            except pa.ArrowInvalid:  # its text holds the row
                raise checked.refusal or self._unreadable(invalid) from None
            except InputRefused:
                raise
            if checked.refusal is not None:
                raise checked.refusal

    def _unreadable(self, invalid: list[pacsv.InvalidRow]) -> InputRefused:
        if invalid:
            return refused(
                "a row has another number of cells than the header",
                file=self.name,
                value=f"{invalid[0].actual_columns} cells"
                + (f" in row {invalid[0].number - 1}" if invalid[0].number else ""),
                limit=f"{len(self._titles)} cells",
                remedy="Quote cells that contain commas.",
            )
        return refused(
            "the CSV cannot be parsed",
            file=self.name,
            value="a quote that never ends, or a row that is too long",
            limit=f"comma-separated values, quotes doubled, rows below {_BLOCK_BYTES} bytes",
            remedy="Save it again from a spreadsheet or with a CSV library.",
        )


class _Checked(io.RawIOBase):
    """A stream of bytes that stops where they are no plain UTF-8 text."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._offset = 0
        self.refusal: InputRefused | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none, and a refusal to be raised, where they are no text."""
        content = self._stream.read(size)
        if b"\0" in content:
            self.refusal = _not_text(self._name, self._offset + content.index(b"\0"))
        try:
            self._decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            self.refusal = _not_text(self._name, self._offset + error.start)
        self._offset += len(content)
        return content if self.refusal is None else b""


def _not_text(name: str, byte: int) -> InputRefused:
    return refused(
        "the CSV is not plain UTF-8 text",
        file=name,
        value=f"byte {byte}",
        limit="UTF-8 without NUL characters, with or without byte order mark",
        remedy="Save it as 'CSV UTF-8'.",
    )


def _read_header(stream: IO[bytes], name: str) -> list[str]:
    start = stream.read(_HEADER_BYTES)
    # The last character may be cut in two.
    text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode(start)
    if "\0" in text:
        raise _not_text(name, start.index(b"\0"))
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except csv.Error:
        header = []
    if not any(title.strip() for title in header):
        raise refused(
            "the CSV has no header",
            file=name,
            value="an empty or unreadable first line",
            limit=f"the names of the columns, in the first {_HEADER_BYTES} bytes",
            remedy="Write the names of the columns into the first line.",
        )
    return header
