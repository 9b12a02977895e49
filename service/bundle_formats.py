"""Compare the formats of a verified bundle: the same images bit for bit, or rows value for value.

Called only once `privacy.bundle` has accepted signature and digests, so that no decoder is handed
bytes that nobody vouches for. Each format needs its library (`kaima[formats]`); one that is not
installed is reported as not checked, never as passed. Memory holds one row group at a time.
"""

# ruff: noqa: PLC0415 - a library is imported when its format is read, and may be absent

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from privacy.modality import Modality, modality_in
from service import joint_formats, table_formats
from service.bundle_files import UNDECODABLE, BundleFiles, Comparison, FormatCheck, Unlike
from service.bundle_pngs import decode_png

NEEDS: dict[str, tuple[str, ...]] = {
    "imagefolder": ("PIL",),
    "parquet": ("pyarrow", "PIL"),
    "medmnist": ("numpy",),
    "dicom": ("pydicom",),
}
_DISTRIBUTIONS = {"PIL": "pillow"}
_SYNTHESIZING = ("109100", "DCM")


class Image(NamedTuple):
    """One image as a format holds it: the file to name in a problem, its label, its pixels."""

    file: str
    label: str
    pixels: NDArray[np.generic]


def compare(path: Path) -> Comparison:
    """Compare every format that can be read here with the first of them, record by record.

    Every file of such a format must be one that its rows name, once.
    """
    with ExitStack() as stack:
        bundle = BundleFiles.open(path, stack)
        modality = modality_in(bundle.certificate["declared"])
        needs, compare_split = _KINDS[modality]
        found = Comparison()
        readable = []
        for name in bundle.certificate.get("formats", ()):
            reason = _reason_against(name, needs)
            found.formats.append(FormatCheck(name, checked=reason is None, reason=reason))
            if reason is None:
                readable.append(found.formats[-1])
        for split in bundle.certificate.get("splits", {}):
            compare_split(bundle, split, readable, found.problems)
        # A format with a problem was not read to its end.
        if not found.problems:
            for check in readable:
                found.problems += bundle.unread(check.format)
            found.problems += bundle.strays()
        return found


def _reason_against(name: str, needs: dict[str, tuple[str, ...]]) -> str | None:
    """Return why a format cannot be read here, or None."""
    if name not in needs:
        return "this version does not know the format"
    missing = [module for module in needs[name] if not _is_installed(module)]
    if not missing:
        return None
    absent = " and ".join(sorted(_DISTRIBUTIONS.get(module, module) for module in missing))
    return f"{absent} is not installed; install kaima[formats]"


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _compare_split(
    bundle: BundleFiles, split: str, checks: list[FormatCheck], problems: list[tuple[str, str]]
) -> None:
    """Walk through all formats of a split at once; a format that fails is left out from there."""
    streams = [_guarded(_READERS[check.format](bundle, split), problems) for check in checks]
    before = {check.format: check.images for check in checks}
    expected = bundle.certificate["splits"][split]
    reported: set[str] = set()
    for images in zip_longest(*streams):
        reference = next((image for image in images if image is not None), None)
        for check, image in zip(checks, images, strict=True):
            if image is None or reference is None:
                continue
            check.images += 1
            if check.format not in reported and (reason := _difference(image, reference)):
                reported.add(check.format)
                problems.append((image.file, reason))
    for check in checks:
        count = check.images - before[check.format]
        if count != expected:
            reason = f"holds {count} of the {expected} images of {split} that are certified"
            problems.append((check.format, reason))


def _difference(image: Image, reference: Image) -> str | None:
    if image.label != reference.label:
        return f"is labelled {image.label!r}, but {reference.file} is {reference.label!r}"
    if image.pixels.dtype != reference.pixels.dtype or image.pixels.shape != reference.pixels.shape:
        return f"has another size or depth than {reference.file}"
    if not np.array_equal(image.pixels, reference.pixels):
        return f"shows another image than {reference.file}"
    return None


def _guarded(images: Iterator[Image], problems: list[tuple[str, str]]) -> Iterator[Image]:
    try:
        yield from images
    except Unlike as error:
        problems.append((error.file, str(error)))


def _read_imagefolder(bundle: BundleFiles, split: str) -> Iterator[Image]:
    for file, label in _table(bundle, f"imagefolder/{split}"):
        yield Image(file, label, _decode_png(bundle, bundle.read_once(file), file=file))


def _read_parquet(bundle: BundleFiles, split: str) -> Iterator[Image]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, labels = f"parquet/{split}-00000-of-00001.parquet", _labels(bundle)
    try:
        source = pq.ParquetFile(bundle.on_disk(file))
        for batch in source.iter_batches(batch_size=256, columns=["image", "label"]):
            for row in batch.to_pylist():
                pixels = _decode_png(bundle, row["image"]["bytes"], file=file)
                yield Image(f"{file} ({row['image']['path']})", labels[row["label"]], pixels)
    except (pa.ArrowException, *UNDECODABLE) as error:
        raise Unlike(file, f"cannot be read as Parquet with images ({error})") from error


def _read_medmnist(bundle: BundleFiles, split: str) -> Iterator[Image]:
    file = f"medmnist/{bundle.certificate['name']}.npz"
    try:
        with zipfile.ZipFile(bundle.on_disk(file)) as archive:
            labels = _small_array(archive, f"{split}_labels")[:, 0]
            names = _small_array(archive, "label_names")
            with archive.open(f"{split}_images.npy") as stream:
                for number, pixels in enumerate(_rows(stream)):
                    label = str(names[int(labels[number])])
                    yield Image(f"{file} ({split}, row {number})", label, pixels)
    except UNDECODABLE as error:
        raise Unlike(file, f"cannot be read as arrays ({error})") from error


def _read_dicom(bundle: BundleFiles, split: str) -> Iterator[Image]:
    import pydicom

    for file, label in _table(bundle, f"dicom/{split}"):
        content = bundle.read_once(file)
        try:
            image = pydicom.dcmread(io.BytesIO(content))
            pixels = image.pixel_array
            reason = _dicom_problem(image, label, bundle)
        except (pydicom.errors.InvalidDicomError, *UNDECODABLE) as error:
            raise Unlike(file, f"cannot be read as DICOM ({error})") from error
        if reason:
            raise Unlike(file, reason)
        yield Image(file, label, pixels)


def _dicom_problem(image: Any, label: str, bundle: BundleFiles) -> str | None:
    """Return why a DICOM file does not say what a synthetic one must say, or None."""
    codes = [
        (purpose.get("CodeValue"), purpose.get("CodingSchemeDesignator"))
        for equipment in image.get("ContributingEquipmentSequence", [])
        for purpose in equipment.get("PurposeOfReferenceCodeSequence", [])
    ]
    if image.get("SyntheticData") != "YES" or _SYNTHESIZING not in codes:
        return "does not say that it is synthetic"
    if list(image.get("ImageType", []))[:1] != ["DERIVED"]:
        return "claims to be an original image"
    if image.get("ImageComments") != f"{bundle.certificate['declared']['label']} = {label}":
        return "names another label than its table"
    uids = {str(image.SOPInstanceUID), str(image.StudyInstanceUID), str(image.SeriesInstanceUID)}
    if len(uids) != len(("instance", "study", "series")) or uids & bundle.uids:
        return "shares a UID with another file"
    bundle.uids |= uids
    return None


_READERS: dict[str, Callable[[BundleFiles, str], Iterator[Image]]] = {
    "imagefolder": _read_imagefolder,
    "parquet": _read_parquet,
    "medmnist": _read_medmnist,
    "dicom": _read_dicom,
}


_CompareSplit = Callable[[BundleFiles, str, list[FormatCheck], list[tuple[str, str]]], None]
_KINDS: dict[Modality, tuple[dict[str, tuple[str, ...]], _CompareSplit]] = {
    "image": (NEEDS, _compare_split),
    "table": (table_formats.NEEDS, table_formats.compare_split),
    "joint": (joint_formats.NEEDS, joint_formats.compare_split),
}
"""What formats need, and how they are compared."""


def _labels(bundle: BundleFiles) -> list[str]:
    """Return the declared labels."""
    return list(bundle.certificate["declared"]["labels"])


def _table(bundle: BundleFiles, folder: str) -> Iterator[tuple[str, str]]:
    """Yield path and label of each row of a folder's metadata.jsonl."""
    name = f"{folder}/metadata.jsonl"
    try:
        # Not splitlines(): a label may hold what Unicode calls a line separator.
        rows = [json.loads(line) for line in bundle.read(name).decode("utf-8").split("\n") if line]
        found = [(str(row["file_name"]), str(row["label"])) for row in rows]
    except (LookupError, TypeError, ValueError) as error:
        raise Unlike(name, f"does not list the images of its folder ({error})") from error
    for file_name, label in found:
        yield f"{folder}/{file_name}", label


def _decode_png(bundle: BundleFiles, content: bytes, *, file: str) -> NDArray[np.generic]:
    declared = bundle.certificate["declared"]
    size = {name: declared[name] for name in ("height", "width", "bit_depth")}
    return decode_png(content, **size, file=file)


def _small_array(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    with archive.open(f"{name}.npy") as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _rows(stream: IO[bytes]) -> Iterator[NDArray[np.generic]]:
    """Yield the rows of an .npy file one at a time, so that a large array is never in memory."""
    np.lib.format.read_magic(stream)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if is_fortran or dtype.hasobject:
        raise ValueError("its images are not stored in rows")
    size = int(np.prod(shape[1:])) * dtype.itemsize
    for _ in range(shape[0]):
        yield np.frombuffer(stream.read(size), dtype=dtype).reshape(shape[1:])
