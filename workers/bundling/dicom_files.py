"""Writes each image as a DICOM Secondary Capture file that says in every way that it is synthetic.

Secondary Capture, not Digital X-Ray: the latter must state a detector, the pixel spacing at it, a
view and a laterality. None of these exists for an image that no detector took, and inventing them
would be a false statement in a field that is read as fact. Secondary Capture has a word for what
this is: Conversion Type SYN, "synthetic image" (PS3.3 C.8.6.1).

Each image has a patient, study and series of its own, because no two of them show the same person:
none of them shows any. Every identifier is fresh from the operating system's entropy.

pydicom encodes one file per label; the others differ from it in four values of equal length, which
are put in their place. That is forty times as fast as encoding each file anew.
"""

import io
import uuid
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from privacy.manifests import DatasetSchema, ReleaseCertificate
from service.domain.declarations import ReleaseDeclaration
from workers.bundling.image_folder import FileTable
from workers.bundling.records import Record, SyntheticSet

NAME = "dicom"
MANUFACTURER = "Kaima"
# Which software writes these files; a fixed UID of the form 2.25.<UUID> (PS3.5 B.2).
IMPLEMENTATION = UID("2.25.82842057827385737255638154625677079793")
# Stand for instance, study and series; how often each is in a file. All stand before the label, so
# that a label which reads like one of them is left alone.
_PLACEHOLDERS = {f"2.25.1{'0' * 37}{digit}": count for digit, count in ((1, 2), (2, 1), (3, 1))}


class DicomWriter:
    """Writes dicom/<split>/<label>/NNNNNN.dcm and dicom/<split>/metadata.jsonl."""

    def __init__(self, root: Path, synthetic: SyntheticSet, *, shared: Dataset) -> None:
        self._folder = root / NAME
        self._schema = synthetic.schema
        self._prefix = str(shared.PatientID)
        self._tables = {split: FileTable(self._folder / split) for split in synthetic.splits}
        self._shared = shared
        self._encoded: dict[tuple[int, int], bytes] = {}

    def add(self, record: Record) -> None:
        """Write one image and its row."""
        path = self._folder / record.split / f"{record.stem}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        content = self._header(record)
        for placeholder, count in _PLACEHOLDERS.items():
            content = content.replace(placeholder.encode(), fresh_uid().encode(), count)
        for before in ("SYNTHETIC^", f"{self._prefix}-"):
            placed = f"{before}{'?' * len(record.name)}".encode()
            content = content.replace(placed, f"{before}{record.name}".encode(), 1)
        path.write_bytes(content + _padded(np.ascontiguousarray(record.pixels)))
        self._tables[record.split].add(f"{record.stem}.dcm", self._schema.labels[record.label])

    def close(self) -> None:
        """Finish the tables."""
        for table in self._tables.values():
            table.close()

    def _header(self, record: Record) -> bytes:
        """Return a file of the record's label up to its pixels, with placeholders in it."""
        key = (record.label, len(record.name))
        if key not in self._encoded:
            image, number = self._shared, "?" * len(record.name)
            image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID = _PLACEHOLDERS
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.PatientName = f"SYNTHETIC^{number}"
            image.PatientID = f"{self._prefix}-{number}"
            label = self._schema.labels[record.label]
            image.ImageComments = f"{self._schema.label} = {label}"
            pixels = _padded(np.ascontiguousarray(record.pixels))
            image.PixelData = pixels
            target = io.BytesIO()
            dcmwrite(target, image, enforce_file_format=True)
            self._encoded[key] = target.getvalue()[: -len(pixels)]
        return self._encoded[key]


def fresh_uid() -> str:
    """Return 2.25 and a random UUID as a decimal (PS3.5 B.2); of those with 39 digits, so 44 long."""
    while True:
        number = uuid.uuid4().int
        if number >= 10**38:
            return f"2.25.{number}"


def _padded(pixels: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> bytes:
    """Return the pixels, little-endian, with an even number of bytes (PS3.5 section 8.1.1)."""
    content = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    return content + b"\x00" * (len(content) % 2)


def describe(
    certificate: ReleaseCertificate, schema: DatasetSchema, declared: ReleaseDeclaration
) -> Dataset:
    """Return the attributes that all images of a release share; the patient lacks a number yet."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = IMPLEMENTATION
    image.file_meta.ImplementationVersionName = f"KAIMA {version('kaima')}"[:16]
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.SyntheticData = "YES"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ConversionType = "SYN"
    image.Modality = "OT"
    image.PatientID = f"SYNTHETIC-{certificate.release_id.removeprefix('rel_')[:12]}"
    if declared.body_part:
        image.BodyPartExamined = declared.body_part
    image.SeriesDescription = (
        f"SYNTHETIC, imitates {declared.modality} {declared.body_part}".strip()
    )
    image.PatientBirthDate = image.PatientSex = ""
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "Synthetic image: it shows no patient"
    image.StudyDate = image.StudyTime = image.StudyID = ""
    image.AccessionNumber = image.ReferringPhysicianName = ""
    image.StudyDescription = f"SYNTHETIC {certificate.name} {certificate.version}"[:64]
    image.SeriesNumber = image.InstanceNumber = 1
    image.PatientOrientation = image.Laterality = ""
    image.BurnedInAnnotation = "NO"
    image.LossyImageCompression = "00"
    image.DerivationDescription = (
        f"Synthetic image drawn from a generator ({certificate.generator}) that was fitted under "
        "differential privacy. Not for diagnosis."
    )
    image.ContributingEquipmentSequence = [_equipment(certificate)]
    _describe_pixels(image, schema)
    return image


def _equipment(certificate: ReleaseCertificate) -> Dataset:
    code = codes.DCM.SynthesizingEquipment
    purpose = Dataset()
    purpose.CodeValue = code.value
    purpose.CodingSchemeDesignator = code.scheme_designator
    purpose.CodeMeaning = code.meaning
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = certificate.generator[:64]
    equipment.SoftwareVersions = version("kaima")
    unit = "image" if certificate.unit == "record" else "person"
    equipment.ContributionDescription = (
        f"Differentially private generator: epsilon {certificate.epsilon:.6g}, delta "
        f"{certificate.delta:.3g}, per {unit}, add or remove one; release {certificate.release_id}"
    )
    return equipment


def _describe_pixels(image: Dataset, declared: DatasetSchema) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = declared.height, declared.width
    image.BitsAllocated = image.BitsStored = declared.bit_depth
    image.HighBit = declared.bit_depth - 1
    image.PixelRepresentation = 0
    full_scale = 2**declared.bit_depth
    # Mid grey and the whole range, so that no viewer picks a window of its own.
    image.WindowCenter, image.WindowWidth = full_scale // 2, full_scale
