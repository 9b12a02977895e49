"""What a leaky generator may do to a record that it copies, and what another machine may do to anybody's.

Planted leaks are changed by these functions, so that limits of detection say for which changes they hold.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating]
Change = Callable[[NDArray[np.generic], str, np.random.Generator], NDArray[np.generic]]

NOISE = 0.05  # of the range of a picture, or of the standard deviation of a column
FAINT = 0.01
_LARGEST_TURN = 5.0  # degrees
_SMALLEST_CROP = 0.9  # of the side
# leak -> modality -> what is done to copies, in words
WORDS: Mapping[str, Mapping[str, str]] = {
    "verbatim": {"image": "unchanged", "table": "unchanged"},
    "outlier": {
        "image": "unchanged, of the most unusual tenth only",
        "table": "unchanged, of the most unusual tenth only",
    },
    "jittered": {
        "image": "flipped or not, shifted by up to 1/32 of the side, gamma 0.9 to 1.1, noise of 5 % "
        "of the range",
        "table": "noise of 5 % of each column's standard deviation",
    },
    "augmented": {
        "image": "flipped or not, turned by up to 5 degrees, cut to 90 to 100 % of the side anywhere, "
        "gamma 0.8 to 1.25, noise of 5 % of the range",
        "table": "one column taken from another unit, noise of 5 % of each column's standard deviation",
    },
}


def faint(
    records: NDArray[np.generic], modality: str, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return copies that are all but equal: noise of 1 % of the range or the standard deviation."""
    values = records.astype(np.float64)
    if modality == "table":
        return np.asarray(values + FAINT * values.std(axis=0) * rng.normal(size=values.shape))
    span = np.ptp(values, axis=(1, 2), keepdims=True)
    return like(values + FAINT * span * rng.normal(size=values.shape), records)


def jitter(
    records: NDArray[np.generic], modality: str, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return lightly changed copies: pictures flipped, moved, recontrasted and noised; rows noised.

    Pictures: a coin per flip, up to 1/32 of the side per shift, gamma 0.9 to 1.1, noise of 5 % of
    the range. Tables: noise of 5 % of a column's standard deviation.
    """
    values = records.astype(np.float64)
    if modality == "table":
        return np.asarray(values + NOISE * values.std(axis=0) * rng.normal(size=values.shape))
    reach = max(1, round(min(records.shape[1:]) / 32))
    out = np.empty_like(values)
    for i, image in enumerate(values):
        moved = image[:, ::-1] if rng.random() < 0.5 else image
        down, right = rng.integers(-reach, reach + 1, size=2)
        moved = ndimage.shift(moved, (down, right), order=0, mode="nearest")
        out[i] = _recontrasted(moved, rng.uniform(0.9, 1.1), rng)
    return like(out, records)


def augment(
    records: NDArray[np.generic], modality: str, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return copies as training with augmentations makes them: all changes of `WORDS` at once."""
    values = records.astype(np.float64)
    if modality == "table":
        rows, columns = values.shape
        column = rng.integers(0, columns, rows)
        values[np.arange(rows), column] = values[rng.permutation(rows), column]
        return jitter(values, modality, rng)
    out = np.empty_like(values)
    middle = (np.array(values.shape[1:]) - 1) / 2
    for i, image in enumerate(values):
        turned = np.deg2rad(rng.uniform(-_LARGEST_TURN, _LARGEST_TURN))
        share = rng.uniform(_SMALLEST_CROP, 1.0)
        room = (1 - share) / 2 * np.array(image.shape)
        matrix = share * np.array(
            [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
        )
        offset = middle + rng.uniform(-room, room) - matrix @ middle
        moved = ndimage.affine_transform(
            image[:, ::-1] if rng.random() < 0.5 else image,
            matrix,
            offset=offset,
            order=1,
            mode="nearest",
        )
        out[i] = _recontrasted(moved, rng.uniform(0.8, 1.25), rng)
    return like(out, records)


def shift(records: NDArray[np.generic], modality: str) -> NDArray[np.generic]:
    """Return records as another machine might take them: blurred and of another contrast."""
    values = records.astype(np.float64)
    if modality == "table":
        return np.asarray(values + 0.5 * values.std(axis=0))
    blurred = ndimage.gaussian_filter(values, (0, 0.8, 0.8))
    low = blurred.min(axis=(1, 2), keepdims=True)
    span = np.maximum(blurred.max(axis=(1, 2), keepdims=True) - low, 1)
    return like(low + span * ((blurred - low) / span) ** 1.4, records)


def _recontrasted(image: Floats, gamma: float, rng: np.random.Generator) -> Floats:
    low, high = image.min(), max(image.max(), image.min() + 1)
    curve = ((image - low) / (high - low)) ** gamma
    return np.asarray(low + (high - low) * (curve + NOISE * rng.normal(size=image.shape)))


def like(values: Floats, records: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values in the number type of `records`, rounded and clipped where it is whole."""
    if not np.issubdtype(records.dtype, np.integer):
        return values.astype(records.dtype)
    limits = np.iinfo(str(records.dtype))
    whole: NDArray[np.generic] = np.clip(np.rint(values), limits.min, limits.max)
    return whole.astype(records.dtype)
