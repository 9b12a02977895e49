"""Zips that climb, lie, link, nest, repeat or explode."""

import io
import stat
import struct
import warnings
import zipfile

import pytest

from tests.workers.intake import uploads
from tests.workers.intake.refusals import (
    FIRST,
    Cases,
    assert_refused,
    with_cell,
    with_file,
    with_first,
)

CASES = Cases()
case = CASES.register


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


@pytest.mark.parametrize("hostile", CASES, ids=str)
def test_it_is_refused_and_nothing_is_stored(tmp_path, hostile):
    assert_refused(hostile, tmp_path)
