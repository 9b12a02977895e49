"""Read a Parquet file that may be hostile, in bounded memory, only the declared columns.

The directory at its end is judged before a page is unpacked: rows, columns, kinds, and how much
larger the pages say they become. Text stays coded by dictionary, so that one long word for a
million rows is one word.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.result import SourceFormat
from workers.intake.tables.source import Batch, choose_columns, too_many_rows

MAGIC = b"PAR1"
_CELLS_PER_BATCH = 2_000_000
_MOST_ROWS_PER_BATCH = 65_536
# Bytes and entries of the directory, which is parsed before anything about it is known.
_DIRECTORY_BYTES = 64 * 1024 * 1024
_DIRECTORY_ENTRIES = 1_000_000
_SCHEMA_DEPTH = 100


class ParquetRows:
    """A Parquet file whose directory was judged."""

    name = "the Parquet file"
    format: SourceFormat = "parquet"

    def __init__(self, path: Path, *, schema: TableSchema, limits: Limits) -> None:
        """Judge the directory.  Raises: InputRefused."""
        self._path = path
        self._limits = limits
        with self._open([]) as file:
            try:
                arrow, metadata = file.schema_arrow, file.metadata
            except (pa.ArrowException, OSError) as error:
                raise _broken(type(error).__name__) from None
            self.expected_rows = int(metadata.num_rows)
            if self.expected_rows > limits.records:
                raise too_many_rows(self.name, limits)
            _check_expansion(metadata, limits)
            chosen = choose_columns(arrow.names, file=self.name, schema=schema, limits=limits)
        self._titles = {title: arrow.names[place] for title, place in chosen.places.items()}
        self.ignored_columns = chosen.ignored
        for title, name in self._titles.items():
            _check_kind(title, arrow.field(name).type)
        self._texts = [name for name in self._titles.values() if _is_text(arrow.field(name).type)]

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order.  Raises: InputRefused for a file that contradicts itself."""
        rows = max(1, min(_MOST_ROWS_PER_BATCH, _CELLS_PER_BATCH // len(self._titles)))
        names = list(self._titles.values())
        with self._open(self._texts) as file:
            try:
                for batch in file.iter_batches(batch_size=rows, columns=names, use_threads=False):
                    if sorted(batch.schema.names) != sorted(names):
                        raise _broken("columns within columns")
                    for name in self._texts:
                        # A damaged page may name a word that its dictionary does not have.
                        batch.column(name).validate(full=True)
                    yield {title: batch.column(name) for title, name in self._titles.items()}
            except pa.ArrowMemoryError:
                raise
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise _broken(type(error).__name__) from None

    def _open(self, texts: list[str]) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(
                self._path,
                read_dictionary=texts,
                pre_buffer=False,
                buffer_size=1 << 20,
                thrift_string_size_limit=_DIRECTORY_BYTES,
                thrift_container_size_limit=_DIRECTORY_ENTRIES,
                schema_depth_limit=_SCHEMA_DEPTH,
                arrow_extensions_enabled=False,
            )
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _broken(type(error).__name__) from None


def _check_expansion(metadata: pq.FileMetaData, limits: Limits) -> None:
    """Refuse what becomes much more than it is; both sizes are claims, and pages keep to them."""
    packed = unpacked = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            packed += max(0, column.total_compressed_size)
            unpacked += max(0, column.total_uncompressed_size)
    allowed = max(limits.ratio_free_bytes, packed * limits.expansion_ratio)
    if unpacked > min(allowed, limits.table_expanded_bytes):
        raise refused(
            "it becomes too large when it is unpacked",
            file=ParquetRows.name,
            value=f"{unpacked} bytes",
            limit=f"{min(allowed, limits.table_expanded_bytes)} bytes",
            remedy="Write it again, only with the declared columns.",
        )


def _check_kind(title: str, kind: pa.DataType) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    fits = (
        pa.types.is_integer(value)
        or pa.types.is_floating(value)
        or pa.types.is_boolean(value)
        or pa.types.is_decimal(value)
        or pa.types.is_null(value)
        or _is_text(value)
    )
    if not fits:
        raise refused(
            f"the column '{title}' holds neither numbers nor text",
            file=ParquetRows.name,
            value=str(kind),
            limit="whole numbers, real numbers, true and false, or text",
            remedy="Convert it; of dates, release the days since an event, such as the admission.",
        )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _broken(reason: str) -> InputRefused:
    return refused(
        "it cannot be read as Parquet",
        file=ParquetRows.name,
        value=reason,
        limit="a plain Parquet file, not encrypted",
        remedy="Write it again, for example with pandas or pyarrow.",
    )
