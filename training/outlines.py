"""Outlines: what is black is lowered by its distance from what is not, and detail varies by image.

Where an object lies on black, half of an image's pixels are exactly 0, and a Gaussian cannot say so: it
draws grain around the object and blurs its edge. `sunk` continues an image below black: the further
a pixel is from the object, the lower. A Gaussian of such images crosses black along an outline, and
whatever is drawn below black becomes black when it is decoded (level sets of shapes: Leventon et
al. 2000, CVPR; one-sided here, since the object's own greys are kept).

It maps one image at a time and knows no other, so that it costs nothing and changes no sensitivity.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from privacy.manifests import DatasetSchema
from training.records import encode
from training.spectrum import Array, to_coefficients

REACH = 5  # pixels; what is further away is no lower
_BLACK = 0.04  # share of full scale that still counts as black
_BLUR = 1.0  # pixels; what a Gaussian of this width takes away is fine detail


def sunk(values: NDArray[np.floating], slope: float) -> Array:
    """Lower black pixels by `slope` for each pixel of distance from what is not black.

    Shapes: (N, H, W) in [-0.5, 0.5] -> the same, at least `lowest(slope)`; slope 0 changes nothing.
    """
    if slope == 0 or values.size == 0:
        return np.asarray(values, dtype=np.float64)
    is_black = values + 0.5 <= _BLACK
    return np.where(is_black, -0.5 - slope * _distances(is_black), values).astype(np.float64)


def _distances(is_black: NDArray[np.bool_]) -> Array:
    """Return each pixel's distance from the nearest that is not black, at most `REACH`.

    Squares of whole pixels fit into a byte, and the nearest along a row, then across rows, is the
    nearest of all (Felzenszwalb and Huttenlocher 2012, Theory of Computing 8). Shapes: (N, H, W).
    """
    squares = np.where(is_black, np.uint8(REACH**2), np.uint8(0))
    for axis in (2, 1):
        before = squares.copy()
        for step in range(1, min(REACH + 1, squares.shape[axis])):
            further = before + np.uint8(step**2)
            near, far = [slice(None)] * 3, [slice(None)] * 3
            near[axis], far[axis] = slice(step, None), slice(None, -step)
            for here, there in ((near, far), (far, near)):
                own = squares[tuple(here)]
                np.minimum(own, further[tuple(there)], out=own)
    return np.sqrt(squares.astype(np.float64))


def lowest(slope: float) -> float:
    """Return the least value that `sunk` can give; no value is further from 0."""
    return -0.5 - slope * REACH


def sunk_coefficients(images: NDArray[np.integer], schema: DatasetSchema, slope: float) -> Array:
    """Return cosine coefficients of encoded, lowered images. Shapes: (N, H, W) -> (N, H·W)."""
    return to_coefficients(sunk(encode(images, schema), slope))


def varied_detail(values: Array, deviation: float, normal: Array) -> Array:
    """Multiply each image's fine detail by a factor of its own: some are plain, some patterned.

    The factor is lognormal, 1 in the middle; `deviation` is of its logarithm, 0 changes nothing, and
    `normal` (N,) is each image's own standard normal number. Shapes: (N, H, W) -> the same.
    """
    if deviation == 0:
        return values
    coarse = gaussian_filter(values, (0.0, _BLUR, _BLUR))
    factor = np.exp(deviation * normal)[:, None, None]
    return np.asarray(coarse + factor * (values - coarse))
