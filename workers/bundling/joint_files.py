"""Writes rows with images: Parquet with both, and PNG files with their rows in metadata.csv.

Each image is encoded once and handed to all formats, so that they cannot differ. In Parquet the image
is a struct of PNG bytes and path, and the file's metadata tells `datasets` that it is an Image.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.table_schema import TableSchema
from workers.bundling.joint_rows import Batch, SyntheticJoint
from workers.bundling.table_files import CsvTable, parquet_name
from workers.bundling.table_rows import arrow_schema

PARQUET, IMAGE_FOLDER = "parquet", "imagefolder"
IMAGE, FILE_NAME = "image", "file_name"
_VALUES = {"integer": "int64", "number": "float64"}


class Writer(Protocol):
    """What writes one format of one split."""

    def add(self, batch: Batch) -> None:
        """Write some rows with their images."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *error: object) -> None:
        """Finish the files."""


def metadata_name(split: str) -> str:
    """Return the path of the table beside a split's PNG files."""
    return f"{IMAGE_FOLDER}/{split}/metadata.csv"


def joint_schema(schema: TableSchema) -> pa.Schema:
    """Return the columns of the Parquet files: the image, then the row's cells, with their metadata."""
    features: dict[str, Any] = {IMAGE: {"_type": "Image"}}
    for column in schema.columns:
        kind = _VALUES.get(column.kind, "string")
        features[column.name] = {"dtype": kind, "_type": "Value"}
    # A field that may not be null would not be the one that `datasets` knows as an Image.
    image = pa.field(IMAGE, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    told = {"huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False)}
    return pa.schema([image, *arrow_schema(schema)]).with_metadata(told)


class ParquetRows:
    """Writes parquet/<split>-00000-of-00001.parquet, a batch as a row group."""

    def __init__(self, root: Path, synthetic: SyntheticJoint, split: str) -> None:
        path = root / parquet_name(split)
        path.parent.mkdir(exist_ok=True, mode=0o755)
        self._layout = joint_schema(synthetic.schema)
        self._target = pq.ParquetWriter(path, self._layout, compression="zstd")

    def add(self, batch: Batch) -> None:
        """Write some rows with their images."""
        images = pa.array(
            [{"bytes": one.png, "path": f"{one.stem}.png"} for one in batch.pictures],
            self._layout.field(IMAGE).type,
        )
        columns = [images, *batch.rows.columns]
        self._target.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._layout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._target.close()


class ImageFolder:
    """Writes imagefolder/<split>/images/NNNNNN.png, and imagefolder/<split>/metadata.csv."""

    def __init__(self, root: Path, synthetic: SyntheticJoint, split: str) -> None:
        self._folder = root / IMAGE_FOLDER / split
        self._folder.mkdir(parents=True, mode=0o755)
        self._table = CsvTable(root / metadata_name(split), synthetic.schema, before=(FILE_NAME,))

    def add(self, batch: Batch) -> None:
        """Write some images and their rows."""
        names = [f"{one.stem}.png" for one in batch.pictures]
        for name, picture in zip(names, batch.pictures, strict=True):
            path = self._folder / name
            path.parent.mkdir(exist_ok=True, mode=0o755)
            path.write_bytes(picture.png)
        self._table.add(batch.rows, before=[names])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._table.close()


WRITERS: dict[str, Callable[[Path, SyntheticJoint, str], Writer]] = {
    PARQUET: ParquetRows,
    IMAGE_FOLDER: ImageFolder,
}
