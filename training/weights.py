"""Weights as lists, as one vector for a checkpoint, and swapped for their moving average."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Averaged:
    """Swaps the moving average into a network, and back."""

    def __init__(self, learnt: list[nn.Parameter], average: list[Tensor]) -> None:
        self._learnt, self._average = learnt, average
        self._own: list[Tensor] = []

    def __enter__(self) -> None:
        self._own = [p.detach().clone() for p in self._learnt]
        assign(self._learnt, self._average)

    def __exit__(self, *_: object) -> None:
        assign(self._learnt, self._own)


def assign(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    """Put values into parameters."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def flat(tensors: list[Tensor]) -> NDArray[np.float32]:
    """Return tensors one after another as one vector."""
    return np.asarray(torch.cat([t.flatten() for t in tensors]).cpu().numpy(), dtype=np.float32)


def unflat(values: NDArray[Any], like: list[nn.Parameter]) -> list[Tensor]:
    """Undo `flat`: return tensors of the parameters' shapes and device."""
    flat = torch.from_numpy(np.array(values, dtype=np.float32)).to(like[0])
    parts = torch.split(flat, [p.numel() for p in like])
    return [part.view(p.shape).clone() for part, p in zip(parts, like, strict=True)]
