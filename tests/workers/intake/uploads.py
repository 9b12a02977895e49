"""Build small uploads as real files: plain ones, and ones with one thing wrong."""

import csv
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.config import IGNORE, settings
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from privacy.manifests import DatasetSchema

PERSONS = 50
SIDE = 16
SECRET = "JaneRoe1956"  # in every patient id and header: must never show up anywhere


def schema(**changes) -> DatasetSchema:
    declared = {
        "declared_count": PERSONS,
        "height": SIDE,
        "width": SIDE,
        "label": "grade",
        "labels": ("0", "1", "2"),
    }
    return DatasetSchema.model_validate({**declared, **changes})


def picture(number: int, *, dtype=np.uint8, side: int = SIDE):
    top = np.iinfo(dtype).max
    return np.random.default_rng(number).integers(0, top, (side, side), dtype, endpoint=True)


def encode(pixels, suffix: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, suffix, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", checksum)


def png_claiming(width: int, height: int, *, rows: int = 6) -> bytes:
    """Return a PNG with bytes for some rows of 16 pixels, whatever its header says."""
    header = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(b"\0" * rows * 17)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def dicom(number: int, *, pixels=None, person: str | None = None, syntax=None, **elements) -> bytes:
    pixels = picture(number) if pixels is None else pixels
    bits = pixels.dtype.itemsize * 8
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    buffer = io.BytesIO()
    file = FileDataset(buffer, {}, file_meta=meta, preamble=b"MZ" + b"\0" * 126)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.PatientName = f"{SECRET}^Name"
    file.AccessionNumber = SECRET
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.Rows, file.Columns = pixels.shape
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit = bits - 1
    file.PixelRepresentation = 0
    file.add_new("PixelData", "OW" if bits == 16 else "OB", pixels.tobytes())
    with validation_off():
        for keyword, value in elements.items():
            setattr(file, keyword, value)
        file.PatientID = patient(number) if person is None else person
        file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def validation_off():
    """Let pydicom write what it would object to."""
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before


def patient(number: int) -> str:
    return f"{SECRET}-{number:03d}"


@dataclass
class Upload:
    """A zip in the making: files by name, and the rows of labels.csv."""

    header: list[str]
    rows: list[list[str]]
    files: dict[str, bytes] = field(default_factory=dict)
    table_name: str = "labels.csv"
    encoding: str = "utf-8"
    newline: str = "\n"
    delimiter: str = ","

    def table(self) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator=self.newline, delimiter=self.delimiter)
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return text.getvalue().encode(self.encoding)

    def write(self, path: Path, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
            if self.table_name:
                archive.writestr(self.table_name, self.table())
        return path


def png_upload(
    persons: int = PERSONS, *, encoder: Callable[[int], bytes] | None = None, suffix: str = "png"
) -> Upload:
    """One image of each person, labels 0, 1, 2 in turn."""
    encoder = encoder or (lambda number: encode(picture(number)))
    names = [f"images/{number:03d}.{suffix}" for number in range(persons)]
    return Upload(
        header=["file", "patient_id", "grade"],
        rows=[[name, patient(n), str(n % 3)] for n, name in enumerate(names)],
        files={name: encoder(number) for number, name in enumerate(names)},
    )


def dicom_upload(persons: int = PERSONS, **options) -> Upload:
    names = [f"images/{number:03d}.dcm" for number in range(persons)]
    return Upload(
        header=["file", "grade"],
        rows=[[name, str(number % 3)] for number, name in enumerate(names)],
        files={name: dicom(number, **options) for number, name in enumerate(names)},
    )


def npz_arrays(persons: int = PERSONS) -> dict:
    return {
        "train_images": np.stack([picture(number) for number in range(persons)]),
        "train_labels": (np.arange(persons) % 3).reshape(-1, 1),
        "train_patient_ids": np.asarray([patient(number) for number in range(persons)]),
    }
