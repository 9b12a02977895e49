"""Read the formats of a bundle of rows with images, and compare them row by row and image by image.

An image stands in its row as a digest of its size, depth and pixels, so that a row with another image
differs like one with another cell. See `service.table_formats`.
"""

# ruff: noqa: PLC0415 - a library is imported when its format is read, and may be absent

import hashlib
from collections.abc import Sequence
from typing import Any

from privacy.table_schema import TableSchema
from service.bundle_files import BundleFiles, FormatCheck, Unlike
from service.bundle_pngs import decode_png
from service.table_formats import (
    Batches,
    Form,
    Problems,
    arrow_type,
    check_names,
    check_types,
    csv_batches,
)
from service.table_formats import compare_split as compare_tables

NEEDS: dict[str, tuple[str, ...]] = {
    "parquet": ("pyarrow", "PIL"),
    "imagefolder": ("pyarrow", "PIL"),
}
IMAGE, FILE_NAME = "image", "file_name"
_ROWS = 256


def compare_split(
    bundle: BundleFiles, split: str, checks: list[FormatCheck], problems: Problems
) -> None:
    """Walk through all formats of a split at once; a format that fails is left out from there."""
    compare_tables(bundle, split, checks, problems, forms=_FORMS)


def _read_parquet(bundle: BundleFiles, schema: TableSchema, file: str) -> Batches:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.ParquetFile(bundle.on_disk(file))
    declared = [column.name for column in schema.columns]
    check_names(source.schema_arrow.names, [IMAGE, *declared], file)
    layout = pa.schema([(column.name, arrow_type(column)) for column in schema.columns])
    for batch in source.iter_batches(batch_size=_ROWS):
        check_types(batch, schema, file)
        pictures = [row["bytes"] for row in batch[IMAGE].to_pylist()]
        seen = [_digest(content, schema, file=file) for content in pictures]
        yield _with_images(batch.select(declared).cast(layout), seen)


def _read_image_folder(bundle: BundleFiles, schema: TableSchema, file: str) -> Batches:
    folder = file.rpartition("/")[0]
    for batch in csv_batches(bundle, schema, file, before=(FILE_NAME,)):
        paths = [f"{folder}/{name}" for name in batch[FILE_NAME].to_pylist()]
        seen = [_digest(bundle.read_once(path), schema, file=path) for path in paths]
        yield _with_images(batch.drop_columns([FILE_NAME]), seen)


def _with_images(rows: Any, seen: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays(
        [*rows.columns, pa.array(seen, pa.string())], names=[*rows.schema.names, IMAGE]
    )


def _digest(content: bytes, schema: TableSchema, *, file: str) -> str:
    """Return a digest of an image as what is compared.  Raises: Unlike if it is not as declared."""
    part = schema.images
    if part is None:
        raise Unlike("certificate.json", "declares no images")
    pixels = decode_png(
        content, height=part.height, width=part.width, bit_depth=part.bit_depth, file=file
    )
    return hashlib.sha256(pixels.tobytes()).hexdigest()


_FORMS = {
    "parquet": Form("parquet/{split}-00000-of-00001.parquet", _read_parquet),
    "imagefolder": Form("imagefolder/{split}/metadata.csv", _read_image_folder),
}
