"""Decode a PNG of a bundle to the grey levels that it shows, and refuse what shows anything else.

A palette, an alpha channel, a transparent grey or frames would let two files show different pictures
and hold the same numbers. See `service.bundle_formats`.
"""

# ruff: noqa: PLC0415 - a library is imported when its format is read, and may be absent

import io

import numpy as np
from numpy.typing import NDArray

from service.bundle_files import UNDECODABLE, Unlike

# Some releases of Pillow hold 16 bits in 32.
_MODES = {8: ("L",), 16: ("I;16", "I")}


def decode_png(
    content: bytes, *, height: int, width: int, bit_depth: int, file: str
) -> NDArray[np.generic]:
    """Return the pixels of a PNG, (height, width) uint8 or uint16.

    Raises: Unlike, naming `file`, if it is no PNG or not of this size and depth.
    """
    from PIL import Image as Pictures

    try:
        with Pictures.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (width, height):
                raise Unlike(file, f"is {picture.size} pixels; {(width, height)} is certified")
            is_plain = "transparency" not in picture.info and getattr(picture, "n_frames", 1) == 1
            if picture.mode not in _MODES[bit_depth] or not is_plain:
                raise Unlike(file, f"holds no grey levels of {bit_depth} bits")
            return np.asarray(picture).astype(np.uint8 if bit_depth == 8 else np.uint16)
    except (Pictures.DecompressionBombError, *UNDECODABLE) as error:
        raise Unlike(file, f"is no PNG that can be read ({error})") from error
