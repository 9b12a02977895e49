"""Run a small convolutional network on pictures: a space in which crops and large turns stay near.

`training/` learns the network on pictures of reference half a only and hands over plain arrays, so that
records, samples and specimens of the self-test all pass through the one function here, without a
learning library. In the style of Pizzi et al. 2022 (SSCD, arXiv:2202.10261).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from privacy.copy_network import SIDE, CopyNetwork, Floats
from privacy.distances import Space, pooling_matrix, unit_parts
from privacy.tangents import zoomed

FEWEST_PICTURES = 200
# A picture cut down to 70 % and one left whole lie on either side of the middle.
_ZOOMS = (1.0, 1.2)
_BLANK = 1e-3  # of the range of one grey value


def averaged(images: NDArray[np.generic]) -> Floats:
    """Return pictures (pictures, height, width) averaged to (pictures, 32, 32), values kept."""
    height, width = images.shape[1:]
    rows = pooling_matrix(height, SIDE, shift=0, flip=False)
    columns = pooling_matrix(width, SIDE, shift=0, flip=False)
    return np.asarray(rows @ images.astype(np.float32) @ columns.T, dtype=np.float32)


def network_inputs(cells: Floats) -> Floats:
    """Return `averaged` pictures with mean 0 and mean square 1; blank ones all zero."""
    centred = cells - cells.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True))
    blank = spread < _BLANK
    return np.where(blank, 0.0, centred / np.where(blank, 1.0, spread)).astype(np.float32)


def embedding_space(network: CopyNetwork) -> Space:
    """Return the space of what `network` sees in a picture and in its mirror image."""

    def views(images: NDArray[np.generic]) -> Iterator[list[Floats]]:
        cells = averaged(images)
        yield [unit_parts(network(network_inputs(cells)), as_query=False)]
        for factor in _ZOOMS:
            inputs = network_inputs(zoomed(cells, factor))
            for view in (inputs, inputs[:, :, ::-1]):
                yield [unit_parts(network(view), as_query=True)]

    return Space(
        "embedding",
        "what a network learnt on held-out pictures sees, mirrored or not",
        views,
        learnt=True,
    )
