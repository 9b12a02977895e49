"""Read MedMNIST- and MNIST-style npz files, never with pickle, images in slabs.

Arrays are called `{split}_images`, `{split}_labels`, `{split}_patient_ids`; `images`, `labels`,
`patient_ids` without splits; or `x_{split}`, `y_{split}`. Each array's header is judged before its
bytes are read: shape and type give the exact size it may have.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from service.domain.errors import InputRefused
from service.domain.persons import is_missing
from workers.intake.archive import Archive
from workers.intake.image import Pixels, check_size
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.table import label_index

Role = Literal["images", "labels", "patient_ids"]

_NAME = re.compile(r"^(?:(?P<split>[a-z0-9_]+?)_)?(?P<role>images|labels|patient_ids)\.npy$")
_KERAS_NAME = re.compile(r"^(?P<role>[xy])_(?P<split>[a-z0-9_]+)\.npy$")
_KERAS_ROLES: dict[str, Role] = {"x": "images", "y": "labels"}
# Images read at once.
_SLAB_BYTES = 8 * 1024 * 1024
_UNDECLARED = -1


@dataclass(frozen=True)
class Split:
    """The arrays of one split, by name inside the npz."""

    name: str | None
    images: str
    labels: str
    patient_ids: str | None
    count: int


@dataclass(frozen=True)
class NpzRecord:
    """One record of an npz."""

    pixels: Pixels
    label: int
    name: str
    patient_id: str | None
    split: str | None


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def is_npz(archive: Archive) -> bool:
    """Tell whether every file of a zip is an npy array."""
    return all(name.endswith(".npy") for name in archive.names)


def find_splits(
    archive: Archive, schema: DatasetSchema, limits: Limits
) -> tuple[tuple[Split, ...], tuple[str, ...]]:
    """Return the splits of an npz and the names of arrays that are not used.

    Raises: InputRefused for missing arrays, pickled objects, lying headers, other sizes or depths.
    """
    found: dict[str | None, dict[str, str]] = {}
    ignored = []
    for name in archive.names:
        match = _NAME.match(name) or _KERAS_NAME.match(name)
        if match is None:
            ignored.append(name.removesuffix(".npy"))
            continue
        role = _KERAS_ROLES.get(match["role"], match["role"])
        found.setdefault(match["split"], {})[role] = name
    splits = [
        _check_split(archive, split, arrays, schema, limits) for split, arrays in found.items()
    ]
    if not splits:
        raise refused(
            "the npz holds no images",
            file="the upload",
            value=f"arrays {', '.join(ignored) or 'none'}",
            limit="arrays such as train_images and train_labels",
            remedy="Name the arrays {split}_images, {split}_labels and {split}_patient_ids.",
        )
    if sum(split.count for split in splits) > limits.records:
        raise refused(
            "the npz holds too many images",
            file="the upload",
            value=f"{sum(split.count for split in splits)} images",
            limit=f"{limits.records} images",
            remedy="Split the dataset.",
        )
    return tuple(splits), tuple(ignored)


def read_split(archive: Archive, split: Split, schema: DatasetSchema) -> Iterator[NpzRecord]:
    """Yield the records of one split in order; images are read in slabs of 8 MiB."""
    title = split.images.removesuffix(".npy")
    labels = _read_labels(archive, split, schema)
    persons = None if split.patient_ids is None else _read_persons(archive, split.patient_ids)
    image_bytes = schema.height * schema.width * schema.bit_depth // 8
    slab = max(1, _SLAB_BYTES // image_bytes)
    with archive.open(split.images) as stream:
        header = _read_header(stream, split.images)
        for start in range(0, split.count, slab):
            count = min(slab, split.count - start)
            content = stream.read(count * image_bytes)
            if len(content) != count * image_bytes:
                raise EOFError  # the zip ends early: told as such by Archive.open
            images = np.frombuffer(content, header.dtype).reshape(-1, schema.height, schema.width)
            images = images.astype(header.dtype.newbyteorder("="), copy=False)
            for offset, pixels in enumerate(images):
                at = start + offset
                yield NpzRecord(
                    pixels=pixels,
                    label=int(labels[at]),
                    name=f"{title}[{at}]",
                    patient_id=None if persons is None else persons[at],
                    split=split.name,
                )


def _check_split(
    archive: Archive,
    split: str | None,
    arrays: dict[str, str],
    schema: DatasetSchema,
    limits: Limits,
) -> Split:
    wanted = ["images", "labels"]
    if schema.unit is UnitOfPrivacy.PERSON:
        wanted.append("patient_ids")
    for role in wanted:
        if role not in arrays:
            raise refused(
                f"the array {role} is missing",
                file=f"split {split or '(none)'}",
                value=f"arrays {', '.join(sorted(arrays))}",
                limit=f"arrays {', '.join(wanted)}",
                remedy="Add it. Patient ids are needed because the unit of privacy is the person."
                if role == "patient_ids"
                else "Add it under the name {split}_" + role + ".",
            )
    images = _header_of(archive, arrays["images"])
    _check_images(images, arrays["images"], schema)
    for role in wanted[1:]:
        header = _header_of(archive, arrays[role])
        _check_column(header, arrays[role], images.shape[0], limits)
    return Split(
        split,
        arrays["images"],
        arrays["labels"],
        arrays["patient_ids"] if "patient_ids" in wanted else None,
        images.shape[0],
    )


def _header_of(archive: Archive, name: str) -> _Header:
    with archive.open(name) as stream:
        header = _read_header(stream, name)
        offset = stream.tell()
    needed = offset + math.prod(header.shape) * header.dtype.itemsize
    if needed != archive.size(name):
        raise refused(
            "the array has another size than its header says",
            file=name,
            value=f"{archive.size(name)} bytes",
            limit=f"{needed} bytes",
            remedy="Write the npz again with numpy.savez_compressed.",
        )
    return header


def _read_header(stream: IO[bytes], name: str) -> _Header:
    try:
        version = npy.read_magic(stream)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = reader(stream)
    except (InputRefused, MemoryError):
        raise
    # numpy parses the header as Python text and fails in as many ways as that can.
    except Exception as error:  # noqa: BLE001
        raise refused(
            "it is no npy array",
            file=name,
            value=type(error).__name__,
            limit="an array written by numpy",
            remedy="Write the npz again with numpy.savez_compressed.",
        ) from None
    if dtype.hasobject:
        raise refused(
            "the array holds pickled objects, which can run code when read",
            file=name,
            value=f"dtype {dtype}",
            limit="numbers or text",
            remedy="Convert it, for example with .astype(str) or .astype('int64').",
        )
    if fortran_order and len(shape) > 1:
        raise refused(
            "the array is stored column by column",
            file=name,
            value="Fortran order",
            limit="C order",
            remedy="Convert it with numpy.ascontiguousarray.",
        )
    return _Header(tuple(int(size) for size in shape), dtype)


def _check_images(header: _Header, name: str, schema: DatasetSchema) -> None:
    shape = header.shape
    if len(shape) == 4 and shape[3] == 1:  # one channel, kept last
        shape = shape[:3]
    if len(shape) != 3:  # images, height, width
        raise refused(
            "the images are no stack of greyscale images",
            file=name,
            value=f"shape {header.shape}",
            limit="shape (images, height, width)",
            remedy="Convert colour to one grey channel.",
        )
    check_size(shape[1], shape[2], file=name, schema=schema)
    if header.dtype.kind != "u" or header.dtype.itemsize * 8 != schema.bit_depth:
        raise refused(
            "the images have another bit depth than declared",
            file=name,
            value=f"dtype {header.dtype}",
            limit=f"dtype uint{schema.bit_depth}",
            remedy="Convert every image to the declared depth, all in the same way.",
        )


def _check_column(header: _Header, name: str, count: int, limits: Limits) -> None:
    shape = header.shape
    if len(shape) == 2 and shape[1] == 1:  # MedMNIST keeps labels as (n, 1)
        shape = shape[:1]
    if shape != (count,):
        raise refused(
            "the array has not one value per image",
            file=name,
            value=f"shape {header.shape}",
            limit=f"shape ({count},) or ({count}, 1)",
            remedy="Give every image one label and one patient id.",
        )
    if header.dtype.kind not in "iuUS" or header.dtype.itemsize > 4 * limits.cell_characters:
        raise refused(
            "the array holds other values than integers or short text",
            file=name,
            value=f"dtype {header.dtype}",
            limit=f"integers or text of at most {limits.cell_characters} characters",
            remedy="Convert it; missing values (NaN) are not allowed.",
        )


def _read_column(archive: Archive, name: str) -> NDArray[np.generic]:
    with archive.open(name) as stream:
        header = _read_header(stream, name)
        values = np.frombuffer(stream.read(), header.dtype)
    return np.char.decode(values, "utf-8") if header.dtype.kind == "S" else values


def _read_labels(archive: Archive, split: Split, schema: DatasetSchema) -> NDArray[np.int16]:
    values, inverse = np.unique(_read_column(archive, split.labels), return_inverse=True)
    indices = [label_index(str(value), schema) for value in values]
    for index, value in zip(indices, values, strict=True):
        if index is None:
            raise refused(
                "it holds a label that was not declared",
                file=split.labels,
                value=str(value),
                limit=", ".join(schema.labels),
                remedy="Declare the labels as the npz writes them, numbers as '0', '1', …",
            )
    table = np.asarray([_UNDECLARED if index is None else index for index in indices], np.int16)
    return table[inverse]


def _read_persons(archive: Archive, name: str) -> list[str | None]:
    column = _read_column(archive, name)
    return [None if is_missing(str(value)) else str(value) for value in column]
