"""Look into one's own upload and say what will be declared public about it.

This is the data owner's side: it runs where the file already is. It reads the CSV (or the arrays of
an .npz) and the first image; everything else is left to intake, which checks each record.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from privacy.rounding import rounded_count
from privacy.table_schema import TableSchema, read_schema
from service.domain.datasets import DeclaredSchema

PERSON_COLUMN = "patient_id"
FILE_COLUMN = "file"
TABLE_SUFFIXES = (".csv", ".parquet")
JOINT_SUFFIXES = (".zip",)
_LONGEST_CSV_BYTES = 512 * 1024 * 1024
_HEADER_BYTES = 1 << 20


class UploadRefused(ValueError):
    """The file cannot be declared; the text says what to change."""


@dataclass(frozen=True)
class Declaration:
    """What the owner declares, and what was noticed on the way."""

    schema: DeclaredSchema
    labels_were_found: bool
    ignored_columns: tuple[str, ...] = ()

    @property
    def images(self) -> DatasetSchema:
        """Return what is declared of images.  Raises: UploadRefused for a table."""
        if isinstance(self.schema, TableSchema):
            raise UploadRefused("A table was refused where images are needed.")
        return self.schema

    @property
    def target(self) -> str:
        """Return the column of the label, or the first target of a table; "table" without one."""
        if not isinstance(self.schema, TableSchema):
            return self.schema.label
        return next((self.schema.columns[n].name for n in self.schema.targets), "table")

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the label set, or the levels of the first target of a table."""
        if not isinstance(self.schema, TableSchema):
            return self.schema.labels
        return next((self.schema.columns[n].names for n in self.schema.targets), ())


@dataclass(frozen=True)
class _Content:
    """What an upload holds: label values, number of units, image size and depth."""

    labels: frozenset[str]
    units: int
    height: int
    width: int
    bit_depth: int
    ignored_columns: tuple[str, ...] = ()


def declare(path: Path, *, label: str, labels: tuple[str, ...], unit: UnitOfPrivacy) -> Declaration:
    """Read `path` and return what its owner declares; `labels` empty means: the set found.

    Raises: UploadRefused.
    """
    if not path.is_file():
        raise UploadRefused(f"{path} was refused: there is no such file. Give a .zip or an .npz.")
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = path.suffix == ".npz"
            content = (_read_arrays if arrays else _read_table)(archive, label, unit)
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError, csv.Error) as error:
        raise UploadRefused(
            f"{path.name} was refused: it cannot be read ({error}). "
            "Give a zip of images with a CSV, or an .npz."
        ) from error
    return Declaration(
        schema=DatasetSchema(
            unit=unit,
            declared_count=round_count(content.units),
            height=content.height,
            width=content.width,
            bit_depth=16 if content.bit_depth == 16 else 8,
            label=label,
            labels=labels or tuple(sorted(content.labels, key=_natural)),
        ),
        labels_were_found=not labels,
        ignored_columns=content.ignored_columns,
    )


def declare_table(path: Path, schema: Path) -> Declaration:
    """Return what the owner of a table declares, or of a zip of images with their table.

    That is the schema, and nothing from the file.  Raises: UploadRefused.
    """
    try:
        declared = read_schema(schema)
    except InvalidParameter as error:
        raise UploadRefused(str(error)) from error
    suffixes = TABLE_SUFFIXES if declared.images is None else JOINT_SUFFIXES
    if not path.is_file() or path.suffix.lower() not in suffixes:
        what = "a table" if declared.images is None else "a table with its images"
        raise UploadRefused(
            f"{path} was refused: give {what} that is there, as {' or '.join(suffixes)}."
        )
    return Declaration(schema=declared, labels_were_found=False)


def round_count(count: int) -> int:
    """Round a count to two significant digits: what is declared public is not the exact count."""
    if count < 50:
        raise UploadRefused(
            f"The upload was refused: it holds {count} units of privacy, the minimum is 50."
        )
    return rounded_count(count)


def _read_table(archive: zipfile.ZipFile, label: str, unit: UnitOfPrivacy) -> _Content:
    columns, rows = _rows(archive)
    for column in (FILE_COLUMN, label):
        if column not in columns:
            raise UploadRefused(
                f"The CSV was refused: it has no column {column!r}; it has {', '.join(columns)}. "
                "Name the label column with LABEL=."
            )
    table = [(row[FILE_COLUMN], row[label], row.get(PERSON_COLUMN)) for row in rows]
    if not table:
        raise UploadRefused("The CSV was refused: it has no rows.")
    members = {PurePosixPath(name).name: name for name in archive.namelist()}
    first = _head(archive, members, table[0][0])
    if unit is UnitOfPrivacy.RECORD:
        units = len(table)
    elif PERSON_COLUMN in columns:
        units = len({person for _, _, person in table})
    else:
        units = len({_dicom_person(_head(archive, members, name)) for name, _, _ in table})
    height, width, bit_depth = _image_shape(first, table[0][0])
    known = {FILE_COLUMN, PERSON_COLUMN, label}
    return _Content(
        labels=frozenset(value for _, value, _ in table),
        units=units,
        height=height,
        width=width,
        bit_depth=bit_depth,
        ignored_columns=tuple(column for column in columns if column not in known),
    )


def _rows(archive: zipfile.ZipFile) -> tuple[list[str], Iterator[dict[str, str]]]:
    tables = [info for info in archive.infolist() if info.filename.lower().endswith(".csv")]
    if len(tables) != 1:
        raise UploadRefused(
            f"The upload was refused: it holds {len(tables)} CSV files, exactly 1 is needed, "
            "with the columns file, patient_id and the label."
        )
    if tables[0].file_size > _LONGEST_CSV_BYTES:
        raise UploadRefused(
            f"{tables[0].filename} was refused: it has {tables[0].file_size} bytes, "
            f"the limit is {_LONGEST_CSV_BYTES}."
        )
    text = io.TextIOWrapper(archive.open(tables[0]), encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text)
    return list(reader.fieldnames or ()), iter(reader)


def _head(archive: zipfile.ZipFile, members: dict[str, str], name: str) -> bytes:
    """Return the first bytes of an image: enough for its header."""
    member = name if name in archive.NameToInfo else members.get(PurePosixPath(name).name)
    if member is None:
        raise UploadRefused(
            f"{name!r} was refused: the CSV names it, the archive has no such file."
        )
    with archive.open(member) as file:
        return file.read(_HEADER_BYTES)


def _image_shape(head: bytes, name: str) -> tuple[int, int, int]:
    """Return height, width and bit depth of an image from its header."""
    if head[128:132] == b"DICM":
        data = _dicom_header(head)
        return int(data.Rows), int(data.Columns), int(data.BitsAllocated)
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - only an owner's own file needs it

    try:
        with Image.open(io.BytesIO(head)) as image:
            return image.height, image.width, 16 if image.mode.startswith("I") else 8
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise UploadRefused(f"{name!r} was refused: it is no PNG, JPEG or DICOM image.") from error


def _dicom_person(head: bytes) -> str:
    if head[128:132] != b"DICM":
        raise UploadRefused(
            f"The CSV was refused: it has no column {PERSON_COLUMN!r}, and the images carry no "
            "patient ids. Add the column, or declare UNIT=record."
        )
    return str(_dicom_header(head).get("PatientID", ""))


def _dicom_header(head: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202 - pydicom has no types
    import pydicom  # noqa: PLC0415 - only an owner's own file needs it

    tags = ["PatientID", "Rows", "Columns", "BitsAllocated"]
    return pydicom.dcmread(io.BytesIO(head), stop_before_pixels=True, specific_tags=tags)


def _read_arrays(archive: zipfile.ZipFile, label: str, unit: UnitOfPrivacy) -> _Content:
    del label  # the arrays of an .npz have fixed names
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    splits = [name.removesuffix("_images") for name in names if name.endswith("_images")]
    if not splits:
        raise UploadRefused("The .npz was refused: it holds no array called *_images.")
    shapes = [_array_header(archive, f"{split}_images") for split in splits]
    labels = [_array(archive, f"{split}_labels").reshape(-1) for split in splits]
    if unit is UnitOfPrivacy.RECORD:
        units = sum(shape[0] for shape, _ in shapes)
    else:
        persons = [_array(archive, f"{split}_patient_ids").reshape(-1) for split in splits]
        units = len(np.unique(np.concatenate([ids.astype(str) for ids in persons])))
    (_, height, width, *_), dtype = shapes[0]
    return _Content(
        labels=frozenset(str(value) for value in np.unique(np.concatenate(labels))),
        units=units,
        height=height,
        width=width,
        bit_depth=8 * dtype.itemsize,
    )


def _array_header(
    archive: zipfile.ZipFile, name: str
) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    with archive.open(f"{name}.npy") as file:
        version = npy_format.read_magic(file)
        read = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    if f"{name}.npy" not in archive.NameToInfo:
        raise UploadRefused(
            f"The .npz was refused: it holds no array called {name}. "
            "Add it, or declare UNIT=record if it is the persons that are missing."
        )
    with archive.open(f"{name}.npy") as file:
        return npy_format.read_array(file, allow_pickle=False)


def _natural(label: str) -> tuple[int, float, str]:
    """Sort numbers by value, before words."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
