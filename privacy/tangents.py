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
from scipy import fft, ndimage

Floats = NDArray[np.float32]

SMOOTHING = 0.7  # cells; derivatives of rough pictures mean little beyond a cell
# A picture cut down to 90 % and one left whole lie on either side of the middle.
ZOOMS = (1.0, 1.06)
WAVES = 12  # per side
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
    """Return (images, height, width) pictures of cells, blurred."""
    fields: Floats = ndimage.gaussian_filter(flat.reshape(-1, *shape), (0, SMOOTHING, SMOOTHING))
    return fields


def waves(fields: NDArray[np.floating]) -> Floats:
    """Return (..., 144): the lowest waves of (..., height, width), mean removed, norm 1.

    Nothing of a smoothed picture is above them. Blank pictures stay zero.
    """
    low = fft.dctn(fields, axes=(-2, -1), norm="ortho")[..., :WAVES, :WAVES]
    flat = low.reshape(*low.shape[:-2], -1)
    flat[..., 0] = 0.0
    norm = np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.asarray(np.where(norm > 0, flat / np.where(norm > 0, norm, 1.0), 0.0), np.float32)


def directions(fields: Floats) -> Floats:
    """Return (images, 5, waves): an orthonormal basis of small changes of (images, height, width).

    Down, right, turn, zoom, contrast. Rows that are no direction of their own (in a blank picture,
    all of them) are zero.
    """
    down, right = np.gradient(fields, axis=1), np.gradient(fields, axis=2)
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in fields.shape[1:])
    turn = rows[:, None] * right - columns[None, :] * down
    zoom = rows[:, None] * down + columns[None, :] * right
    changes = waves(np.stack([down, right, turn, zoom, fields**2], axis=1))
    basis, rest = np.linalg.qr(changes.transpose(0, 2, 1))
    own = np.abs(np.diagonal(rest, axis1=1, axis2=2)) > _PARALLEL
    return np.ascontiguousarray((basis * own[:, None, :]).transpose(0, 2, 1), dtype=np.float32)


def tangent_parts(fields: Floats) -> Iterator[Floats]:
    """Yield parts of queries (images, height, width): their own waves, then each direction.

    A part times (waves, 1) of a record is -half the squared distance, then how far the record lies
    along each direction.
    """
    own = waves(fields)
    yield np.hstack([own, np.full((len(own), 1), -1.0, dtype=np.float32)])
    for axis in np.moveaxis(directions(fields), 1, 0):
        here = (axis * own).sum(axis=1, keepdims=True)
        yield np.hstack([axis, -here])
