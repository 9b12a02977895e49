"""Writes one Parquet file per split, with the PNG of each image inside it.

The schema carries the metadata by which the `datasets` library turns the columns into an Image and
a ClassLabel. Other readers find a struct of PNG bytes and path, and an integer.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.manifests import DatasetSchema
from workers.bundling.records import Record, SyntheticSet

NAME = "parquet"
COLUMNS = ("image", "label")
# Few enough that a reader who wants one image does not fetch a hundred megabytes.
_ROWS = 256


def file_name(split: str) -> str:
    """Return the name of a split's file, in the form that dataset hubs expect."""
    return f"{split}-00000-of-00001.parquet"


def arrow_schema(schema: DatasetSchema) -> pa.Schema:
    """Return the columns of the files, with what `datasets` must know about them."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(schema.labels), "_type": "ClassLabel"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = pa.schema([("image", image), ("label", pa.int64())])
    return columns.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


class ParquetWriter:
    """Writes parquet/<split>-00000-of-00001.parquet, a row group at a time."""

    def __init__(self, root: Path, synthetic: SyntheticSet) -> None:
        folder = root / NAME
        folder.mkdir(mode=0o755)
        self._schema = arrow_schema(synthetic.schema)
        self._pending: dict[str, list[Record]] = {split: [] for split in synthetic.splits}
        self._files = {
            # PNG bytes are compressed already.
            split: pq.ParquetWriter(folder / file_name(split), self._schema, compression="none")
            for split in synthetic.splits
        }

    def add(self, record: Record) -> None:
        """Write one image, once its row group is full."""
        pending = self._pending[record.split]
        pending.append(record)
        if len(pending) == _ROWS:
            self._flush(record.split)

    def close(self) -> None:
        """Write what is left and finish the files."""
        for split, target in self._files.items():
            self._flush(split)
            target.close()

    def _flush(self, split: str) -> None:
        rows = self._pending[split]
        if not rows:
            return
        images = [{"bytes": row.png, "path": f"{row.stem}.png"} for row in rows]
        columns = {"image": images, "label": [row.label for row in rows]}
        self._files[split].write_table(pa.table(columns, schema=self._schema))
        rows.clear()
