"""Histograms of oriented gradients: fixed features, the same for every image set.

Dalal and Triggs 2005, doi:10.1109/CVPR.2005.177, with unsigned angles shared between two bins and
blocks of 2 by 2 cells. Used by a classifier of the light protocol and as the declared space of
fidelity measures; nothing is learnt and nothing needs a download.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

BINS = 9
_CELLS = 7  # about so many along the shorter side
_LONGEST_SIDE = 64  # pixels; longer images are averaged down
_STABILITY = 1e-2


def histograms(images: Tensor) -> Tensor:
    """Return block-normalised histograms. Shapes: (N, H, W) in [0, 1] -> (N, features)."""
    small = shrunk(images[:, None], _LONGEST_SIDE)
    padded = functional.pad(small, (1, 1, 1, 1), mode="replicate")[:, 0]
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    strength = torch.sqrt(across**2 + down**2)
    place = (torch.atan2(down, across) / math.pi % 1.0) * BINS
    lower = place.floor()
    share = place - lower
    first = lower.long() % BINS
    votes = torch.zeros(len(small), BINS, *strength.shape[1:], device=images.device)
    votes.scatter_add_(1, first[:, None], (strength * (1 - share))[:, None])
    votes.scatter_add_(1, ((first + 1) % BINS)[:, None], (strength * share)[:, None])
    cell = max(2, round(min(strength.shape[1:]) / _CELLS))
    cells = functional.avg_pool2d(votes, cell, ceil_mode=True)
    blocks = torch.cat(
        [cells[:, :, :-1, :-1], cells[:, :, 1:, :-1], cells[:, :, :-1, 1:], cells[:, :, 1:, 1:]],
        dim=1,
    )
    norm = blocks.square().sum(dim=1, keepdim=True).sqrt()
    return (blocks / (norm + _STABILITY)).flatten(1)


def shrunk(images: Tensor, longest_side: int) -> Tensor:
    """Average images down so that no side is longer. Shapes: (N, C, H, W) -> (N, C, h, w)."""
    factor = max(images.shape[-2:]) / longest_side
    if factor <= 1:
        return images
    size = [max(1, round(side / factor)) for side in images.shape[-2:]]
    return functional.interpolate(images, size=size, mode="area")
