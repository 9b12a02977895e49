"""DICOM files that are compressed, multi-frame, contradictory, or of nobody."""

import struct

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.workers.intake import uploads
from tests.workers.intake.refusals import (
    FIRST_DICOM,
    Cases,
    assert_refused,
    with_dicom,
)

CASES = Cases()
case = CASES.register


@case("no DICOM file", file=FIRST_DICOM)
def text_with_a_dicom_suffix(folder):
    return with_dicom(folder, b"not a DICOM file" * 20)


@case("several frames: 40000 frames of 16x16", file=FIRST_DICOM)
def multi_frame_dicom_bomb(folder):
    return with_dicom(folder, uploads.dicom(0, NumberOfFrames=40_000))


@case("transfer syntax RLE Lossless", file=FIRST_DICOM)
def run_length_dicom_bomb(folder):
    return with_dicom(folder, _with_syntax(RLELossless))


@case("transfer syntax JPEG Baseline", file=FIRST_DICOM)
def compressed_dicom(folder):
    return with_dicom(folder, _with_syntax(JPEGBaseline8Bit))


@case("transfer syntax Deflated", file=FIRST_DICOM)
def deflated_dicom_bomb(folder):
    pixels = np.zeros((4096, 4096), np.uint8)
    bomb = uploads.dicom(0, pixels=pixels, syntax=DeflatedExplicitVRLittleEndian)
    assert len(bomb) < 64 << 10
    return with_dicom(folder, bomb)


@case("transfer syntax Explicit VR Big Endian", file=FIRST_DICOM)
def big_endian_dicom(folder):
    return with_dicom(folder, _with_syntax(ExplicitVRBigEndian))


@case("another size than declared: 60000x60000", file=FIRST_DICOM)
def dicom_that_claims_huge_dimensions(folder):
    return with_dicom(folder, uploads.dicom(0, Rows=60_000, Columns=60_000))


@case("another length than its header says", file=FIRST_DICOM)
def dicom_with_too_few_pixels(folder):
    return with_dicom(folder, uploads.dicom(0, PixelData=b"\0" * 100))


@case("another length than its header says: no pixel data", file=FIRST_DICOM)
def dicom_without_pixels(folder):
    whole = uploads.dicom(0)
    return with_dicom(folder, whole[: whole.rfind(b"\xe0\x7f\x10\x00")])


@case("another length than its header says: 206 bytes", file=FIRST_DICOM)
def truncated_dicom(folder):
    return with_dicom(folder, uploads.dicom(0)[:-50])


@case("broken and cannot be read", file=FIRST_DICOM)
def dicom_cut_off_in_its_header(folder):
    return with_dicom(folder, uploads.dicom(0)[:-260])


@case("another bit depth than declared: 16 of 16 bits", file=FIRST_DICOM)
def dicom_of_another_depth(folder):
    return with_dicom(folder, uploads.dicom(0, pixels=uploads.picture(0, dtype=np.uint16)))


@case("8 of 8 bits, signed", file=FIRST_DICOM)
def signed_dicom(folder):
    return with_dicom(folder, uploads.dicom(0, PixelRepresentation=1))


@case("exceed the bits that its header says", file=FIRST_DICOM, schema={"bit_depth": 16})
def dicom_with_values_beyond_its_bits(folder):
    pixels = uploads.picture(0, dtype=np.uint16)
    made = uploads.dicom_upload(pixels=pixels, BitsStored=12, HighBit=11)
    return made.write(folder / "upload.zip")


@case("not greyscale: RGB", file=FIRST_DICOM)
def colour_dicom(folder):
    content = uploads.dicom(0, PhotometricInterpretation="RGB", SamplesPerPixel=3)
    return with_dicom(folder, content)


@case("text is burned into its pixels", file=FIRST_DICOM)
def burned_in_text(folder):
    return with_dicom(folder, uploads.dicom(0, BurnedInAnnotation="YES"))


@case("nothing says whose image it is", file=FIRST_DICOM)
def dicom_without_a_person(folder):
    return with_dicom(folder, uploads.dicom(0, person=""))


@case("PatientID is too long", file=FIRST_DICOM)
def dicom_with_an_endless_person(folder):
    return with_dicom(folder, uploads.dicom(0, person="p" * 5000))


@case("its header names another person than the CSV", file=FIRST_DICOM)
def dicom_of_another_person_than_the_csv_says(folder):
    made = uploads.dicom_upload()
    made.header.append("patient_id")
    for number, row in enumerate(made.rows):
        row.append(uploads.patient(number))
    made.rows[0][2] = uploads.patient(1)
    return made.write(folder / "upload.zip")


@case("nested too deeply", file=FIRST_DICOM)
def dicom_of_nested_sequences(folder):
    start = uploads.dicom(0)
    at = start.rfind(b"\xe0\x7f\x10\x00")
    # Undefined lengths, so that depth costs eight bytes a level and the parser must descend.
    opening = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return with_dicom(folder, start[:at] + opening * 3000)


def _with_syntax(syntax: str) -> bytes:
    """Return a DICOM file that says another transfer syntax than the one it was written in."""
    content = uploads.dicom(0)
    start = content.find(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack_from("<H", content, start + 6)
    value = str(syntax).encode()
    value += b"\0" * (len(value) % 2)
    element = content[start : start + 6] + struct.pack("<H", len(value)) + value
    return content[:start] + element + content[start + 8 + length :]


@pytest.mark.parametrize("hostile", CASES, ids=str)
def test_it_is_refused_and_nothing_is_stored(tmp_path, hostile):
    assert_refused(hostile, tmp_path)
