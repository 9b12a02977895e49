"""Decode one PNG or JPEG: only its pixels come through, and only at the declared size and depth.

Metadata (EXIF, text, colour profiles, orientation) is dropped because nothing but the decoded array
is kept. The claimed size is judged before a pixel is decoded.
"""

import io
import struct
import warnings
import zlib
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.manifests import DatasetSchema
from service.domain.errors import InputRefused
from workers.intake.refusal import refused

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

DROPPED = "image metadata (EXIF, text, colour profiles, time stamps)"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_SUFFIXES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG"}
_JPEG_END = b"\xff\xd9"
_GREY = 0
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_KEEP_GREY = "Save it as a single-channel greyscale image."


def is_image_name(name: str) -> bool:
    """Tell whether a file name claims to be a PNG or JPEG."""
    return name.rsplit(".", 1)[-1].lower() in _SUFFIXES


def decode_image(content: bytes, *, file: str, schema: DatasetSchema) -> Pixels:
    """Return the pixels of a greyscale PNG or JPEG. Shape: (schema.height, schema.width).

    Raises: InputRefused for bytes that are no such image or more than one, colour, another size or
        bit depth, animation, truncation.
    """
    claimed = _SUFFIXES[file.rsplit(".", 1)[-1].lower()]
    found = "PNG" if content.startswith(_PNG) else "JPEG" if content.startswith(_JPEG) else None
    if found != claimed:
        raise refused(
            "its bytes are not of the format that its name claims",
            file=file,
            value=found or (f"first bytes {content[:4].hex()}" if content else "empty file"),
            limit=claimed,
            remedy="Upload real PNG or JPEG files under their own suffix.",
        )
    if found == "PNG":
        _check_png(content, file, schema)
    elif not content.rstrip(b"\0").endswith(_JPEG_END):
        raise _truncated_or_trailing(file, "no end marker at its end")
    elif schema.bit_depth != 8:  # JPEG has 8 bits
        raise _other_depth(file, 8, schema)
    return _decode(content, found, file, schema)


def check_size(height: int, width: int, *, file: str, schema: DatasetSchema) -> None:
    """Refuse a size other than the declared one."""
    if (height, width) != (schema.height, schema.width):
        raise refused(
            "the image has another size than declared",
            file=file,
            value=f"{width}x{height} pixels (width x height)",
            limit=f"{schema.width}x{schema.height} pixels",
            remedy="Resize every image to the declared size before uploading.",
        )


def _check_png(content: bytes, file: str, schema: DatasetSchema) -> None:
    """Judge header and chunk layout: no decoder has seen the file yet."""
    if len(content) < 33 or content[12:16] != b"IHDR":  # signature and header
        raise _truncated_or_trailing(file, "no image header")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">LLBBBBB", content, 16)
    check_size(height, width, file=file, schema=schema)
    if colour != _GREY:
        raise refused(
            "the image is not greyscale",
            file=file,
            value=_PNG_COLOURS.get(colour, f"colour type {colour}"),
            limit="one grey channel",
            remedy=_KEEP_GREY,
        )
    if depth != schema.bit_depth:
        raise _other_depth(file, depth, schema)
    if interlaced:
        raise refused(
            "the image is interlaced",
            file=file,
            value="Adam7",
            limit="no interlacing",
            remedy="Save it without interlacing.",
        )
    _check_rows(_png_image_data(content, file), file, schema)


def _png_image_data(content: bytes, file: str) -> bytes:
    """Return the joined IDAT chunks; refuse a file that ends before or after its image."""
    data = bytearray()
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">L", content, at)
        kind = content[at + 4 : at + 8]
        if kind == b"IDAT":
            data += content[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IEND":
            break
    else:
        raise _truncated_or_trailing(file, "the file ends before the image does")
    if at != len(content):
        raise _truncated_or_trailing(file, f"{len(content) - at} bytes after the end of the image")
    return bytes(data)


def _check_rows(data: bytes, file: str, schema: DatasetSchema) -> None:
    """Refuse image data that unpack to more or less than the rows: Pillow would fill in zeros."""
    needed = schema.height * (1 + schema.width * schema.bit_depth // 8)
    inflater = zlib.decompressobj()
    try:
        unpacked = len(inflater.decompress(data, needed + 1))
    except zlib.error:
        raise _undecodable(file, "damaged image data") from None
    if unpacked != needed:
        raise _undecodable(file, f"{'more' if unpacked > needed else 'fewer'} rows than declared")


def _decode(content: bytes, found: str, file: str, schema: DatasetSchema) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow only warns of some bombs and broken metadata
            with Image.open(io.BytesIO(content), formats=(found,)) as image:
                check_size(image.height, image.width, file=file, schema=schema)
                _check_mode(image, file, schema)
                image.load()
                pixels = np.asarray(image)
    except (InputRefused, MemoryError):
        raise
    # Whatever the decoder trips over, and it has many ways, the file is what is wrong.
    except Exception as error:  # noqa: BLE001
        raise _undecodable(file, type(error).__name__) from None
    kind = np.uint8 if schema.bit_depth == 8 else np.uint16  # bits
    return cast("Pixels", pixels.astype(kind, copy=False))


def _check_mode(image: Image.Image, file: str, schema: DatasetSchema) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise refused(
            "the file holds several images",
            file=file,
            value=f"{frames} frames",
            limit="1 frame",
            remedy="Upload one file per radiograph.",
        )
    expected = "L" if schema.bit_depth == 8 else "I;16"  # bits
    if image.mode != expected:
        raise refused(
            "the image is not greyscale of the declared depth",
            file=file,
            value=f"Pillow mode {image.mode}",
            limit=f"Pillow mode {expected} ({schema.bit_depth} bits)",
            remedy=_KEEP_GREY,
        )


def _other_depth(file: str, depth: int, schema: DatasetSchema) -> Exception:
    return refused(
        "the image has another bit depth than declared",
        file=file,
        value=f"{depth} bits per pixel",
        limit=f"{schema.bit_depth} bits per pixel",
        remedy="Convert every image to the declared depth, all in the same way.",
    )


def _truncated_or_trailing(file: str, value: str) -> Exception:
    return refused(
        "the file is cut off or holds something besides one image",
        file=file,
        value=value,
        limit="exactly one complete image",
        remedy="Export the image again.",
    )


def _undecodable(file: str, reason: str) -> Exception:
    return refused(
        "the image is broken or truncated and cannot be decoded",
        file=file,
        value=reason,
        limit="a complete PNG or JPEG image",
        remedy="Export the image again.",
    )
