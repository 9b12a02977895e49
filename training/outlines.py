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
from scipy.ndimage import distance_transform_edt, gaussian_filter

from privacy.manifests import DatasetSchema
from training.records import encode
from training.spectrum import Array, to_coefficients

REACH = 5.0  # pixels; what is further away is no lower
_BLACK = 0.04  # share of full scale that still counts as black
_APART = 1e6  # between images of a stack, in pixels: none is another's nearest
_BLUR = 1.0  # pixels; what a Gaussian of this width takes away is fine detail


def sunk(values: NDArray[np.floating], slope: float) -> Array:
    """Lower black pixels by `slope` for each pixel of distance from what is not black.

    Shapes: (N, H, W) in [-0.5, 0.5] -> the same, at least `lowest(slope)`; slope 0 changes nothing.
    """
    if slope == 0 or values.size == 0:
        return np.asarray(values, dtype=np.float64)
    is_black = values + 0.5 <= _BLACK
    has_object = ~is_black.all(axis=(1, 2))
    away = np.full(values.shape, REACH)
    if has_object.any():  # a stack without any object has no nearest pixel to be far from
        far = distance_transform_edt(is_black[has_object], sampling=(_APART, 1.0, 1.0))
        away[has_object] = np.minimum(far, REACH)
    return np.asarray(np.where(is_black, -0.5 - slope * away, values), dtype=np.float64)


def lowest(slope: float) -> float:
    """Return the least value that `sunk` can give; no value is further from 0."""
    return -0.5 - slope * REACH


def sunk_coefficients(images: NDArray[np.integer], schema: DatasetSchema, slope: float) -> Array:
    """Return cosine coefficients of encoded, lowered images. Shapes: (N, H, W) -> (N, H·W)."""
    return to_coefficients(sunk(encode(images, schema), slope))


def varied_detail(values: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Multiply each image's fine detail by a factor of its own: some are plain, some patterned.

    The factor is lognormal, 1 in the middle; `deviation` is of its logarithm, 0 changes nothing.
    Shapes: (N, H, W) -> the same.
    """
    if deviation == 0:
        return values
    coarse = gaussian_filter(values, (0.0, _BLUR, _BLUR))
    factor = np.exp(deviation * rng.standard_normal((len(values), 1, 1)))
    return np.asarray(coarse + factor * (values - coarse))
