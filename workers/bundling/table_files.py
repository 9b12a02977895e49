"""Writes the rows of a table as Parquet and as CSV, one file per split each.

Texts of a CSV file that a spreadsheet would run are escaped (`service.spreadsheets`). Numbers are no
texts: a negative number starts with its minus.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from privacy.table_schema import TableSchema
from service.spreadsheets import escaped
from workers.bundling.table_rows import ROWS_AT_ONCE, SyntheticTable, arrow_schema

PARQUET, CSV = "parquet", "csv"


def parquet_name(split: str) -> str:
    """Return the path of a split's Parquet file, in the form that dataset hubs expect."""
    return f"{PARQUET}/{split}-00000-of-00001.parquet"


def csv_name(split: str) -> str:
    """Return the path of a split's CSV file."""
    return f"{CSV}/{split}.csv"


def write_parquet(root: Path, synthetic: SyntheticTable, split: str) -> None:
    """Write a split's Parquet file, a row group at a time; categories are dictionary-encoded."""
    layout = arrow_schema(synthetic.schema)
    path = root / parquet_name(split)
    path.parent.mkdir(exist_ok=True, mode=0o755)
    with pq.ParquetWriter(path, layout, compression="zstd") as target:
        for batch in synthetic.batches(split):
            target.write_batch(batch, row_group_size=ROWS_AT_ONCE)


def write_csv(root: Path, synthetic: SyntheticTable, split: str) -> None:
    """Write a split's CSV file."""
    path = root / csv_name(split)
    path.parent.mkdir(exist_ok=True, mode=0o755)
    target = CsvTable(path, synthetic.schema)
    for batch in synthetic.batches(split):
        target.add(batch)
    target.close()


class CsvTable:
    """Writes a CSV file (RFC 4180 with line feeds, UTF-8): texts quoted, numbers bare.

    `before` are columns of plain text that stand before those of the table.
    """

    def __init__(self, path: Path, schema: TableSchema, *, before: tuple[str, ...] = ()) -> None:
        names = [*before, *(escaped(column.name) for column in schema.columns)]
        with path.open("w", newline="", encoding="utf-8") as header:
            csv.writer(header, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(names)
        self._layout = pa.schema(
            [
                *(pa.field(name, pa.string()) for name in before),
                *(_plain(field) for field in arrow_schema(schema)),
            ]
        )
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
        self._stream = path.open("ab")
        self._target = pyarrow.csv.CSVWriter(self._stream, self._layout, write_options=options)

    def add(self, batch: pa.RecordBatch, *, before: Sequence[Sequence[str]] = ()) -> None:
        """Write some rows; `before` are the cells of the columns that stand before."""
        first = [pa.array(cells, pa.string()) for cells in before]
        arrays = [*first, *(_as_text(array) for array in batch.columns)]
        self._target.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._layout))

    def close(self) -> None:
        """Finish the file."""
        self._target.close()
        self._stream.close()


def _plain(field: pa.Field) -> pa.Field:
    is_text = pa.types.is_dictionary(field.type)
    return pa.field(field.name, pa.string() if is_text else field.type)


def _as_text(array: Any) -> Any:
    if not pa.types.is_dictionary(array.type):
        return array
    words = pa.array([escaped(word) for word in array.dictionary.to_pylist()], pa.string())
    return words.take(array.indices)
