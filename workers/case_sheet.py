"""Images and their cells for a contact sheet, of an upload or a bundle of rows with an image each."""

import io
import secrets
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from privacy.image_parts import image_labels
from privacy.table_schema import Codes, Column, TableSchema
from workers.intake.joint import read_joint_upload

ROWS = "parquet/train-00000-of-00001.parquet"
_IMAGE = "image"
_MOST_ROWS = 5000
"""Of a bundle: a sheet shows a few images of each cell."""

Cases = tuple[NDArray[np.generic], NDArray[np.int16]]
"""Images (n, height, width) and their cells (n,), as index of the labels of `image_schema`."""


def read_upload_cases(upload: Path, schema: TableSchema) -> Cases:
    """Read an upload as intake does; the blobs live in a private folder while they are read.

    Raises: InputRefused.
    """
    with tempfile.TemporaryDirectory() as folder:
        # A throw-away key: the digests of persons are not used here.
        read_joint_upload(
            upload, schema=schema, tenant_key=secrets.token_bytes(32), out=Path(folder)
        )
        images = np.load(Path(folder) / "images.npy", allow_pickle=False)
        table = np.load(Path(folder) / "table.npy", allow_pickle=False)
    return images, image_labels(schema, schema.codes_of(table))


def read_bundle_cases(bundle: Path, schema: TableSchema) -> Cases:
    """Read the first synthetic rows of a bundle, a folder or a zip, with their images."""
    rows = pq.read_table(io.BytesIO(_content(bundle))).slice(0, _MOST_ROWS)
    images = [
        np.asarray(Image.open(io.BytesIO(cell["bytes"]), formats=("PNG",)))
        for cell in rows.column(_IMAGE).to_pylist()
    ]
    codes = np.zeros((len(rows), len(schema.columns)), np.int16)
    for name in schema.images.condition_on if schema.images else ():
        codes[:, schema.index(name)] = _codes(rows.column(name), schema.column(name))
    return np.stack(images), image_labels(schema, codes)


def _content(bundle: Path) -> bytes:
    if bundle.is_dir():
        return (bundle / ROWS).read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        name = next(name for name in archive.namelist() if name.endswith(ROWS))
        return archive.read(name)


def _codes(cells: pa.ChunkedArray, column: Column) -> Codes:
    words = cells.to_pylist()
    if column.is_numeric:
        return column.codes_of(np.array([np.nan if w is None else w for w in words], np.float64))
    names = {name: code for code, name in enumerate(column.names)}
    return np.array([names[w] if w is not None else column.size - 1 for w in words], np.int16)
