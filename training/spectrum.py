"""Images as orthonormal cosine coefficients, and public groups of those coefficients.

Nothing here looks at records: what is smooth, and which coefficients belong together, is decided by
frequency alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from privacy.manifests import DatasetSchema

Array = NDArray[np.float64]
BANDS = 20


def to_coefficients(images: NDArray[np.floating]) -> Array:
    """Return the orthonormal cosine transform. Shapes: (N, H, W) -> (N, H·W)."""
    count, height, width = images.shape
    if count == 0:
        return np.zeros((0, height * width))
    transformed = dctn(np.asarray(images, dtype=np.float64), axes=(1, 2), norm="ortho")
    return np.asarray(transformed.reshape(count, -1))


def to_images(coefficients: Array, height: int, width: int) -> Array:
    """Undo `to_coefficients`. Shapes: (N, H·W) -> (N, H, W)."""
    return np.asarray(idctn(coefficients.reshape(-1, height, width), axes=(1, 2), norm="ortho"))


def radial_frequency(schema: DatasetSchema) -> Array:
    """Return each coefficient's distance from the mean brightness, in half cycles per image (D,)."""
    rows, columns = np.mgrid[0 : schema.height, 0 : schema.width]
    return np.asarray(np.hypot(rows, columns).ravel())


def low_frequencies(schema: DatasetSchema, count: int) -> NDArray[np.int64]:
    """Return the indices of the `count` smoothest coefficients."""
    order = np.argsort(radial_frequency(schema), kind="stable")
    return np.asarray(order[: min(count, len(order))], dtype=np.int64)


def kept_frequencies(schema: DatasetSchema, count: int) -> NDArray[np.int64]:
    """Return the indices of the coefficients below `count` along both axes (K,)."""
    rows, columns = np.mgrid[0 : schema.height, 0 : schema.width]
    return np.flatnonzero(((rows < count) & (columns < count)).ravel()).astype(np.int64)


def left_minus_right(schema: DatasetSchema) -> Array:
    """Return the public pattern whose inner product tells the side (D,), in coefficients."""
    pattern = np.zeros((1, schema.height, schema.width))
    pattern[:, :, : schema.width // 2] = 1.0
    pattern[:, :, -(schema.width // 2) :] = -1.0
    return np.asarray(to_coefficients(pattern)[0])


def bands_of(radius: Array, count: int) -> NDArray[np.int64]:
    """Group radii into `count` rings of equal width in log(1 + radius). Shapes: (K,) -> (K,)."""
    edges = np.linspace(0.0, np.log1p(radius.max()) + 1e-9, count + 1)
    return np.asarray(np.searchsorted(edges, np.log1p(radius), side="right") - 1, dtype=np.int64)


def oriented_bands(schema: DatasetSchema, frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group coefficients by octave along each axis, so that edges along one axis stand out (K,).

    A joint space is fine across and coarse along; in rings of equal radius it would drown in the
    noise of all the other directions.
    """
    rows, columns = np.divmod(frequencies, schema.width)
    octave = np.floor(1.5 * np.log2(1.0 + np.stack([rows, columns]))).astype(np.int64)
    return np.asarray(np.unique(octave[0] * 64 + octave[1], return_inverse=True)[1], dtype=np.int64)


def high_bands(schema: DatasetSchema, low: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group all coefficients outside `low` into rings of equal width; -1 inside `low` (D,)."""
    bands = np.full(schema.height * schema.width, -1, dtype=np.int64)
    is_high = np.ones(len(bands), dtype=bool)
    is_high[low] = False
    if is_high.any():
        radius = radial_frequency(schema)[is_high]
        bands[is_high] = np.minimum(
            ((radius - radius.min()) / (np.ptp(radius) + 1e-9) * BANDS).astype(np.int64),
            BANDS - 1,
        )
    return bands
