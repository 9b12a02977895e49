"""Read one zip of images with their table: the table decides whose each image is, and the order.

First the whole table is read, then the images one by one in the order of its rows; the upload is
refused or stored as a whole.
"""

import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.image_parts import image_schema
from privacy.table_schema import TableSchema
from workers.intake import blobs
from workers.intake.archive import UPLOAD, Archive, open_archive
from workers.intake.dicom import is_dicom_name
from workers.intake.image import is_image_name
from workers.intake.joint.files import RowsWithFiles
from workers.intake.joint.pictures import PictureReader, Pictures
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.result import IntakeResult, JointDuplicates, RowDuplicates, SourceFormat
from workers.intake.tables.csv_rows import CsvRows
from workers.intake.tables.parquet_rows import ParquetRows
from workers.intake.tables.source import Source
from workers.intake.tables.upload import Reading, unheard

TABLES = ("table.csv", "table.parquet")
FEW_TWINS = 0.1
"""Share of persons up to which equal rows mark duplicates; above it, rows are too coarse to."""
_ZIP = b"PK\x03\x04"
_FORMATS: dict[tuple[str, bool], SourceFormat] = {
    ("csv", False): "csv+images",
    ("csv", True): "csv+dicom",
    ("parquet", False): "parquet+images",
    ("parquet", True): "parquet+dicom",
}

Progress = Callable[[str, int, int], None]


def read_joint_upload(
    path: Path,
    *,
    schema: TableSchema,
    tenant_key: bytes,
    out: Path,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> IntakeResult:
    """Read the zip at `path`, a table with its images, and write a version's blobs to `out`.

    Blobs: those of a table, and images.npy (rows, height, width) uint8|uint16 in the order of the
    rows. duplicated_persons.npy marks who shares an image with another person, or all rows.
    `progress(stage, step, total)` counts rows, then images.
    Raises: InputRefused naming row or entry of the zip, never the name of a file in it, and value,
        limit and remedy; then nothing is left in `out`.
    """
    limits, progress = limits or Limits(), progress or unheard
    _check_is_zip(path)
    with (
        open_archive(path, limits, show_names=False) as archive,
        blobs.staged(out) as folder,
    ):
        table, images = _sort_files(archive)
        with _opened(archive, table, schema=schema, limits=limits, scratch=folder) as source:
            files = RowsWithFiles(
                source,
                column=_column(schema),
                folder=posixpath.dirname(table),
                images=images,
                called=archive.called,
                limits=limits,
            )
            reading = Reading(files, schema, tenant_key, folder, limits, progress)
            reading.read_rows()
        places, rows = files.finish(), reading.finish()
        reader = PictureReader(archive, images, image_schema(schema), tenant_key, limits)
        pictures = reader.write(
            places,
            persons=_blob(folder, blobs.PERSONS),
            person_digests=_blob(folder, blobs.PERSON_DIGESTS),
            folder=folder,
            progress=progress,
        )
        is_dicom = any(map(is_dicom_name, images))
        return _joined(rows, pictures, folder=folder, is_dicom=is_dicom)


def _joined(
    rows: IntakeResult, pictures: Pictures, *, folder: Path, is_dicom: bool
) -> IntakeResult:
    """Return one result of both, and mark the duplicates that either found."""
    twins = _blob(folder, blobs.DUPLICATED_PERSONS)
    # Of rows with few columns, chance makes most persons somebody's twin; nobody would be left
    # to compare arms with, though images tell everybody apart.
    flags = pictures.shared | twins if twins.mean() <= FEW_TWINS else pictures.shared
    blobs.write_array(folder / blobs.DUPLICATED_PERSONS, flags)
    found, shared = rows.duplicates, pictures.report
    if not isinstance(found, RowDuplicates):
        raise TypeError("rows were read as images")
    return replace(
        rows,
        source_format=_FORMATS[rows.source_format, is_dicom],
        duplicated_person_count=int(flags.sum()),
        duplicates=JointDuplicates(
            rows=found.rows,
            persons=found.persons,
            rows_repeated_within_person=found.rows_repeated_within_person,
            images=shared.images,
            persons_with_shared_images=shared.persons,
            images_repeated_within_person=shared.images_repeated_within_person,
        ),
        dropped=tuple(sorted({*rows.dropped, *pictures.dropped})),
        content_digests=pictures.content_digests,
        row_digests=rows.content_digests,
        blobs=blobs.digest_blobs(folder),
    )


def _check_is_zip(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(len(_ZIP))
    if start != _ZIP:
        raise refused(
            "it is no zip",
            file=UPLOAD,
            value="empty file" if not start else f"first bytes {start.hex()}",
            limit=f"one zip with {' or '.join(TABLES)} and the image of every row",
            remedy="Put the table and its images into one zip.",
        )


def _sort_files(archive: Archive) -> tuple[str, list[str]]:
    """Return the name of the table and the names of the images; refuse any other file."""
    tables = [name for name in archive.names if posixpath.basename(name).lower() in TABLES]
    if len(tables) != 1:
        raise refused(
            "there is not exactly one table",
            file=UPLOAD,
            value=f"{len(tables)} tables" if tables else "no table",
            limit=f"one file called {' or '.join(TABLES)}, in any folder",
            remedy="Put one table into the zip, and name it so.",
        )
    images = [name for name in archive.names if name != tables[0]]
    kinds: dict[bool, str] = {}
    for name in images:
        if not is_image_name(name) and not is_dicom_name(name):
            raise refused(
                "it is neither an image nor the table",
                file=archive.called(name),
                value="another kind of file",
                limit=f".png, .jpg, .jpeg, .dcm and one {' or '.join(TABLES)}",
                remedy="Remove the file from the zip.",
            )
        kinds.setdefault(is_dicom_name(name), name)
    if len(kinds) == 2:  # both kinds
        raise refused(
            f"DICOM files and other images are mixed, such as {archive.called(kinds[True])}",
            file=archive.called(kinds[False]),
            value="two kinds of file",
            limit="one kind of image",
            remedy="Upload DICOM files alone or PNG and JPEG files alone.",
        )
    return tables[0], images


@contextmanager
def _opened(
    archive: Archive, name: str, *, schema: TableSchema, limits: Limits, scratch: Path
) -> Iterator[Source]:
    """Open the table inside of the zip; Parquet is read from its end, so it is unpacked first.

    Refusals call it by its last name, one of `TABLES`: its folder may be called after a patient.
    """
    called = posixpath.basename(name)
    if archive.size(name) > limits.table_expanded_bytes:
        raise refused(
            "the table is too large",
            file=called,
            value=f"{archive.size(name)} bytes",
            limit=f"{limits.table_expanded_bytes} bytes",
            remedy="Leave out the columns that are not declared, or use Parquet.",
        )
    if name.lower().endswith(".csv"):
        yield CsvRows(lambda: archive.open(name), name=called, schema=schema, limits=limits)
        return
    with tempfile.TemporaryDirectory(prefix="table-", dir=scratch) as folder:
        unpacked = Path(folder) / "unpacked.parquet"
        with archive.open(name) as packed, unpacked.open("wb") as stream:
            shutil.copyfileobj(packed, stream)
        yield ParquetRows(unpacked, schema=schema, limits=limits)


def _column(schema: TableSchema) -> str:
    if schema.images is None:
        raise TypeError("a table without images was read as one with them")
    return schema.images.column


def _blob(folder: Path, name: str) -> NDArray[Any]:
    blob: NDArray[Any] = np.load(folder / name, allow_pickle=False)
    return blob
