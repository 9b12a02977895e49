"""Distances that small rotations, zooms and shifts of a picture barely change.

Tangent distance (Simard, LeCun and Denker 1993, "Efficient pattern recognition using a new
transformation distance"), one-sided: the distance from a record to the plane that touches the query's
orbit. Moving, turning, zooming and recontrasting a picture a little changes it along five directions
that its own derivatives give, so that what lies along them is taken out of the difference. It costs
six products of matrices in place of one for every combination of angle, size and position.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

SMOOTHING = 0.7  # cells; derivatives of rough pictures mean little beyond a cell
# A picture cut down to 90 % and one left whole lie on either side of the middle.
ZOOMS = (1.0, 1.06)
_PARALLEL = 1e-3  # directions that the others already span are left out


def zoomed(images: NDArray[np.generic], factor: float) -> NDArray[np.float32]:
    """Return pictures (images, height, width) shrunk about their middle, edges repeated."""
    values = images.astype(np.float32)
    if factor == 1.0:
        return values
    middle = (np.array(values.shape[1:]) - 1) / 2
    offset = np.concatenate([[0.0], middle * (1 - factor)])
    moved: NDArray[np.float32] = ndimage.affine_transform(
        values, np.array([1.0, factor, factor]), offset=offset, order=1, mode="nearest"
    )
    return moved


def smoothed(flat: Floats, shape: tuple[int, int]) -> Floats:
    """Return (images, cells) pictures blurred, mean removed, norm 1; blank ones stay zero."""
    fields = ndimage.gaussian_filter(flat.reshape(-1, *shape), (0, SMOOTHING, SMOOTHING))
    out = fields.reshape(len(flat), -1)
    out = out - out.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    safe = np.where(norm > 0, norm, 1.0)
    return np.asarray(np.where(norm > 0, out / safe, 0.0), dtype=np.float32)


def directions(flat: Floats, shape: tuple[int, int]) -> Floats:
    """Return (images, 5, cells): an orthonormal basis of small changes of each picture.

    Down, right, turn, zoom, contrast. Rows that are no direction of their own (in a blank picture,
    all of them) are zero.
    """
    fields = flat.reshape(-1, *shape)
    down, right = np.gradient(fields, axis=1), np.gradient(fields, axis=2)
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape)
    turn = rows[:, None] * right - columns[None, :] * down
    zoom = rows[:, None] * down + columns[None, :] * right
    stacked = np.stack([down, right, turn, zoom, fields**2], axis=-1)
    columns_of = stacked.reshape(len(flat), -1, stacked.shape[-1])
    columns_of = columns_of - columns_of.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(columns_of, axis=1, keepdims=True)
    unit = np.where(norm > 0, columns_of / np.where(norm > 0, norm, 1.0), 0.0)
    basis, rest = np.linalg.qr(unit)
    own = np.abs(np.diagonal(rest, axis1=1, axis2=2)) > _PARALLEL
    return np.asarray((basis * own[:, None, :]).transpose(0, 2, 1), dtype=np.float32)


def tangent_parts(flat: Floats, shape: tuple[int, int]) -> Iterator[Floats]:
    """Yield parts of queries: their own description, then each direction.

    A part times (description, 1) of a record is -half the squared distance, then how far the record
    lies along each direction.
    """
    yield np.hstack([flat, np.full((len(flat), 1), -1.0, dtype=np.float32)])
    for axis in np.moveaxis(directions(flat, shape), 1, 0):
        here = (axis * flat).sum(axis=1, keepdims=True)
        yield np.hstack([axis, -here])
