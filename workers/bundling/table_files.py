"""Writes the rows of a table as Parquet and as CSV, one file per split each.

Texts of a CSV file that a spreadsheet would run are escaped (`service.spreadsheets`). Numbers are no
texts: a negative number starts with its minus.
"""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

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
    """Write a split's CSV file (RFC 4180 with line feeds, UTF-8): texts quoted, numbers bare."""
    path = root / csv_name(split)
    path.parent.mkdir(exist_ok=True, mode=0o755)
    names = [escaped(column.name) for column in synthetic.schema.columns]
    with path.open("w", newline="", encoding="utf-8") as header:
        csv.writer(header, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(names)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    layout = pa.schema([_plain(field) for field in arrow_schema(synthetic.schema)])
    with (
        path.open("ab") as stream,
        pyarrow.csv.CSVWriter(stream, layout, write_options=options) as target,
    ):
        for batch in synthetic.batches(split):
            arrays = [_as_text(array) for array in batch.columns]
            target.write_batch(pa.RecordBatch.from_arrays(arrays, schema=layout))


def _plain(field: pa.Field) -> pa.Field:
    is_text = pa.types.is_dictionary(field.type)
    return pa.field(field.name, pa.string() if is_text else field.type)


def _as_text(array: Any) -> Any:
    if not pa.types.is_dictionary(array.type):
        return array
    words = pa.array([escaped(word) for word in array.dictionary.to_pylist()], pa.string())
    return words.take(array.indices)
