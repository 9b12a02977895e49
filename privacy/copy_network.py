"""A small convolutional network as plain arrays: runs without a learning library.

Light to import, since evidence carries it; `embedding` makes a space for near-copies of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter

Floats = NDArray[np.float32]

SIDE = 32  # pictures are averaged, or stretched, to SIDE x SIDE
_BLOCK = 256  # pictures at once


@dataclass(frozen=True, eq=False)
class CopyNetwork:
    """Convolutions of stride 2 with rectifiers, then one linear layer, as float32 arrays.

    Shapes: kernels (3, 3, channels in, channels out), the first of one channel; biases (channels
    out,); readout (height * width * channels, features), rows in that order; offset (features,).
    `pictures` says of how many it was learnt.
    """

    kernels: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    readout: Floats
    offset: Floats
    pictures: int

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other.  Raises: InvalidParameter."""
        channels, side = 1, SIDE
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            if kernel.shape[:3] != (3, 3, channels) or bias.shape != kernel.shape[3:]:
                raise InvalidParameter(
                    f"A copy network was refused: a kernel of shape {kernel.shape} with a bias of "
                    f"shape {bias.shape} follows {channels} channels. Give (3, 3, {channels}, n)."
                )
            channels, side = kernel.shape[3], (side + 1) // 2
        rows = side * side * channels
        if self.readout.shape[:1] != (rows,) or self.offset.shape != self.readout.shape[1:]:
            raise InvalidParameter(
                f"A copy network was refused: a readout of shape {self.readout.shape} with an offset "
                f"of shape {self.offset.shape}. Give ({rows}, n) and (n,)."
            )

    def __call__(self, inputs: Floats) -> Floats:
        """Return (pictures, features) of norm 1 for `network_inputs`; zeros for blank pictures."""
        features = np.empty((len(inputs), len(self.offset)), dtype=np.float32)
        for start in range(0, len(inputs), _BLOCK):
            block = slice(start, start + _BLOCK)
            features[block] = self._features(inputs[block])
        return features

    def _features(self, block: Floats) -> Floats:
        values = block[..., None]
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            values = np.maximum(_halved(values, kernel) + bias, 0.0)
        features = values.reshape(len(block), -1) @ self.readout + self.offset
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        features[~block.reshape(len(block), -1).any(axis=1)] = 0.0
        return np.asarray(features, dtype=np.float32)


def _halved(values: Floats, kernel: Floats) -> Floats:
    """Convolve (pictures, height, width, channels) with stride 2, edges padded by one zero."""
    count, height, width, _ = values.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    padded = np.pad(values, ((0, 0), (1, 2), (1, 2), (0, 0)))
    patches = np.concatenate(
        [
            padded[:, down : down + 2 * rows : 2, right : right + 2 * columns : 2]
            for down in range(3)
            for right in range(3)
        ],
        axis=3,
    )
    flat = patches.reshape(count * rows * columns, -1) @ kernel.reshape(-1, kernel.shape[3])
    return flat.reshape(count, rows, columns, -1)
