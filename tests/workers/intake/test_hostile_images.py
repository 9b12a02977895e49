"""PNG and JPEG files that are too large, cut off, of another kind, or two things at once."""

import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.workers.intake import uploads
from tests.workers.intake.refusals import (
    FIRST,
    Cases,
    assert_refused,
    with_first,
)

CASES = Cases()
case = CASES.register


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


@pytest.mark.parametrize("hostile", CASES, ids=str)
def test_it_is_refused_and_nothing_is_stored(tmp_path, hostile):
    assert_refused(hostile, tmp_path)
