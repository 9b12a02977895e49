"""Write a phantom cohort as the zip that a data owner would upload: DICOM or PNG, and a CSV.

The DICOM headers carry what a hospital's would (name, id, birth date, accession number, UIDs), all
of it invented, so that ingest has identifiers to drop. Zips are reproducible: fixed dates, UIDs
derived from the seed.
"""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from training.phantoms.cohort import Cohort
from training.phantoms.parameters import PARAMETERS, Parameter, as_table
from training.phantoms.radiograph import FIELD_OF_VIEW_MM

UploadFormat = Literal["dicom", "png"]

_DATE = (2024, 1, 1, 0, 0, 0)
_SPACING_MM = "{:.6g}"


def write_upload(
    cohort: Cohort,
    path: Path,
    *,
    upload_format: UploadFormat = "dicom",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `cohort` to a zip at `path`: images/NNNNNN.dcm|png and labels.csv.

    labels.csv has the columns file, kl_grade; with PNG also patient_id, which DICOM keeps in its
    header. `progress(done, total)` counts knees.
    """
    suffix = "dcm" if upload_format == "dicom" else "png"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    columns = ["file", "kl_grade"] if suffix == "dcm" else ["file", "patient_id", "kl_grade"]
    writer.writerow(columns)
    with zipfile.ZipFile(path, "w") as archive:
        for knee, image in enumerate(cohort.images):
            name = _name(knee, suffix)
            person, grade = patient_id(int(cohort.persons[knee])), int(cohort.grades[knee])
            if suffix == "dcm":
                content = encode_dicom(cohort, knee, seed=seed)
                writer.writerow([name, grade])
            else:
                content = _encode_png(image)
                writer.writerow([name, person, grade])
            archive.writestr(_entry(name), content, compresslevel=1)
            if progress is not None:
                progress(knee + 1, len(cohort.images))
        archive.writestr(_entry("labels.csv"), table.getvalue())


def write_truth(cohort: Cohort, path: Path, *, upload_format: UploadFormat = "dicom") -> None:
    """Write a CSV with what every picture was drawn from: test data with known answers.

    Columns: file (as in the zip), patient_id, side (L, R), kl_grade, and each of `PARAMETERS` as
    name_unit. It is no part of the upload.
    """
    suffix = "dcm" if upload_format == "dicom" else "png"
    table = as_table(cohort.knees)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "patient_id", "side", "kl_grade", *map(_column, PARAMETERS)])
        for knee, values in enumerate(table):
            side = "R" if cohort.knees.is_right[knee] else "L"
            person = patient_id(int(cohort.persons[knee]))
            numbers = [f"{value:.6g}" for value in values]
            writer.writerow([_name(knee, suffix), person, side, int(cohort.grades[knee]), *numbers])


def _name(knee: int, suffix: str) -> str:
    return f"images/{knee:06d}.{suffix}"


def _column(parameter: Parameter) -> str:
    return f"{parameter.name}_{parameter.unit.replace('/', '_per_')}"


def patient_id(person: int) -> str:
    """Return the invented patient id of a phantom person."""
    return f"PHANTOM-{person:06d}"


def encode_dicom(cohort: Cohort, knee: int, *, seed: int = 0) -> bytes:
    """Return one knee as a DICOM file: Secondary Capture, MONOCHROME2, 8 bits, uncompressed."""
    person, image = int(cohort.persons[knee]), cohort.images[knee]
    is_right = bool(cohort.knees.is_right[knee])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(seed, "instance", knee)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    file = FileDataset(buffer, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID = _uid(seed, "study", person)
    file.SeriesInstanceUID = _uid(seed, "series", knee)
    file.PatientName = f"Phantom^Person {person:06d}"
    file.PatientID = patient_id(person)
    file.PatientBirthDate = f"{1940 + person % 40}0101"
    file.PatientSex = "O"
    file.StudyDate = "20240101"
    file.StudyTime = "080000"
    file.AccessionNumber = f"A{person:08d}"
    file.StudyID = str(person)
    file.InstitutionName = "Phantom Hospital"
    file.ReferringPhysicianName = "Phantom^Doctor"
    file.Modality = "DX"
    file.ConversionType = "SYN"
    file.ImageType = ["DERIVED", "SECONDARY"]
    file.SyntheticData = "YES"
    file.BodyPartExamined = "KNEE"
    file.ViewPosition = "PA"
    file.ImageLaterality = "R" if is_right else "L"
    file.SeriesNumber = 1
    file.InstanceNumber = 1 + int(is_right)
    _add_pixels(file, image)
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _add_pixels(file: FileDataset, image: NDArray[np.uint8]) -> None:
    rows, columns = image.shape
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.Rows, file.Columns = rows, columns
    file.PixelSpacing = [_SPACING_MM.format(FIELD_OF_VIEW_MM / rows)] * 2
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit = 7
    file.PixelRepresentation = 0
    file.BurnedInAnnotation = "NO"
    # The VR must be said: pydicom cannot tell OB from OW by itself here.
    content = image.tobytes()
    file.add_new("PixelData", "OB", content + b"\0" * (len(content) % 2))


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    return entry


def _uid(seed: int, kind: str, number: int) -> UID:
    return generate_uid(entropy_srcs=["kaima-phantom", str(seed), kind, str(number)])
