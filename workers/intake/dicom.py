"""Read one DICOM file: its pixels and the person it is of; everything else in the header is dropped.

Only uncompressed single-frame greyscale is accepted: a compressed or deflated file can be a bomb, and
its decoders are large. The transfer syntax is read before anything that would unpack. Stored values
are used as they are (no rescale, no window); MONOCHROME1 is inverted, so that bone is bright.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from privacy.manifests import DatasetSchema
from service.domain.errors import InputRefused
from service.domain.persons import is_missing
from workers.intake.image import Pixels, check_size
from workers.intake.limits import Limits
from workers.intake.refusal import refused

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_META_GROUP = 0x0002
_TRANSFER_SYNTAX = 0x00020010
_SUPPORTED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_PIXEL_MODULE = frozenset(
    {
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "NumberOfFrames",
        "PixelData",
    }
)
_EXPORT_AGAIN = "Export the file again from the archive it came from."


@dataclass(frozen=True)
class DicomImage:
    """What is kept of a DICOM file while its row is read."""

    pixels: Pixels  # (rows, columns)
    patient_id: str | None
    dropped: frozenset[str]  # keywords of the header elements that are not kept, never their values


def is_dicom_name(name: str) -> bool:
    """Tell whether a file name is one that DICOM files have: .dcm, .dicom, or no suffix."""
    last = name.rsplit("/", 1)[-1].lower()
    return last.endswith((".dcm", ".dicom", ".ima")) or "." not in last


def decode_dicom(content: bytes, *, file: str, schema: DatasetSchema, limits: Limits) -> DicomImage:
    """Return pixels and patient id of a single-frame uncompressed DICOM file.

    Shapes: pixels (schema.height, schema.width). Raises: InputRefused for anything else.
    """
    # The preamble is skipped unread: it may hold another file's header (CVE-2019-11687).
    if content[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != _MAGIC:
        raise refused(
            "it is no DICOM file",
            file=file,
            value="no DICM mark at byte 128" if content else "empty file",
            limit="DICOM Part 10 files",
            remedy="Upload DICOM, PNG or JPEG files under their own suffix.",
        )
    try:
        with _silence():
            _check_transfer_syntax(content, file)
            header = dcmread(io.BytesIO(content))
            pixels = _read_pixels(header, file, schema)
            return DicomImage(pixels, _read_person(header, file, limits), _dropped(header))
    except (InputRefused, MemoryError):
        raise
    except RecursionError:
        raise _unreadable(file, "sequences nested too deeply") from None
    # Whatever the parser trips over, and it has many ways, the file is what is wrong.
    except Exception as error:  # noqa: BLE001
        raise _unreadable(file, type(error).__name__) from None


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the parser quiet: its warnings and its log quote header values."""
    log = logging.getLogger("pydicom")
    before = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def _check_transfer_syntax(content: bytes, file: str) -> None:
    """Read group 0002 alone: dcmread would inflate a deflated file before anyone could object."""
    stream = io.BytesIO(content)
    stream.seek(_PREAMBLE_BYTES + len(_MAGIC))
    meta = read_dataset(stream, False, True, stop_when=_is_past_meta)  # noqa: FBT003
    syntax = UID(str(meta[_TRANSFER_SYNTAX].value)) if _TRANSFER_SYNTAX in meta else UID("")
    if syntax not in _SUPPORTED:
        raise refused(
            "its pixels are compressed or in a byte order that is not read",
            file=file,
            value=f"transfer syntax {syntax.name or 'missing'}",
            limit="Implicit or Explicit VR Little Endian (uncompressed)",
            remedy="Convert it first, for example with 'gdcmconv --raw' or 'dcmdjpeg'.",
        )


def _is_past_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != _META_GROUP


def _read_pixels(header: Dataset, file: str, schema: DatasetSchema) -> Pixels:
    frames = int(header.get("NumberOfFrames") or 1)
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if frames != 1:
        raise refused(
            "the file holds several frames",
            file=file,
            value=f"{frames} frames of {columns}x{rows} pixels",
            limit="1 frame",
            remedy="Upload one file per radiograph.",
        )
    check_size(rows, columns, file=file, schema=schema)
    stored = _check_depth(header, file, schema)
    content = header.get("PixelData")
    kind = np.dtype("<u2") if schema.bit_depth == 16 else np.dtype("u1")  # bits
    needed = rows * columns * kind.itemsize
    if not isinstance(content, bytes) or len(content) not in (needed, needed + needed % 2):
        raise refused(
            "its pixel data have another length than its header says",
            file=file,
            value=f"{len(content)} bytes" if isinstance(content, bytes) else "no pixel data",
            limit=f"{needed} bytes",
            remedy=_EXPORT_AGAIN,
        )
    pixels = np.frombuffer(content[:needed], kind).reshape(rows, columns)
    top = (1 << stored) - 1
    if int(pixels.max()) > top:
        raise refused(
            "its pixels exceed the bits that its header says are stored",
            file=file,
            value=f"a value above {top}",
            limit=f"{stored} bits",
            remedy=_EXPORT_AGAIN,
        )
    if header.PhotometricInterpretation == "MONOCHROME1":
        pixels = top - pixels
    native = np.uint16 if schema.bit_depth == 16 else np.uint8  # bits
    return cast("Pixels", pixels.astype(native, copy=False))


def _check_depth(header: Dataset, file: str, schema: DatasetSchema) -> int:
    """Return the bits stored per pixel: 8 for a depth of 8, 9 to 16 for a depth of 16."""
    colour = str(header.get("PhotometricInterpretation") or "missing")
    samples = int(header.get("SamplesPerPixel") or 0)
    if colour not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        raise refused(
            "it is not greyscale",
            file=file,
            value=f"{colour}, {samples} samples per pixel",
            limit="MONOCHROME1 or MONOCHROME2, 1 sample per pixel",
            remedy="Upload plain radiographs only.",
        )
    allocated, stored = int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)
    signed = int(header.get("PixelRepresentation") or 0)
    low = 1 + schema.bit_depth // 2 if schema.bit_depth == 16 else 8  # bits
    if allocated != schema.bit_depth or not low <= stored <= allocated or signed:
        kind = "signed" if signed else "unsigned"
        raise refused(
            "it has another bit depth than declared",
            file=file,
            value=f"{stored} of {allocated} bits, {kind}",
            limit=f"{schema.bit_depth} bits allocated, at least {low} stored, unsigned",
            remedy="Convert every image to the declared depth, all in the same way.",
        )
    if str(header.get("BurnedInAnnotation") or "NO").upper() == "YES":
        raise refused(
            "text is burned into its pixels (BurnedInAnnotation)",
            file=file,
            value="YES",
            limit="NO",
            remedy="Remove the text from the pixels: it may name the patient.",
        )
    return stored


def _read_person(header: Dataset, file: str, limits: Limits) -> str | None:
    person = str(header.get("PatientID") or "").strip()
    if len(person) > limits.cell_characters:
        raise refused(
            "its PatientID is too long",
            file=file,
            value=f"{len(person)} characters",
            limit=f"{limits.cell_characters} characters",
            remedy="Use the short id of the person.",
        )
    return None if is_missing(person) else person


def _dropped(header: Dataset) -> frozenset[str]:
    words = (keyword_for_tag(element.tag) or "private elements" for element in header.values())
    return frozenset(words) - _PIXEL_MODULE


def _unreadable(file: str, reason: str) -> Exception:
    # The reason is a class name: messages of the parser may quote header values.
    return refused(
        "the DICOM file is broken and cannot be read",
        file=file,
        value=reason,
        limit="a complete DICOM Part 10 file",
        remedy=_EXPORT_AGAIN,
    )
