"""A network that predicts each column of a row from the columns before it.

The codes of earlier columns are looked up and added together, so that one pass gives every column's
context (Uria et al. 2016, arXiv:1605.02226); a small network shared by all columns turns a context into
features, and every column has a last layer of its own. These last layers start at zero: an
untrained network changes nothing of the logits that it is added to.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_MOST_CHANGE = 20.0


class ColumnNetwork(nn.Module):
    """Adds to given logits what earlier columns say. Columns are in the order they are drawn in.

    Shapes: codes (N, D), logits (N, S) -> (N, S), S being all codes of all columns, side by side.
    With `recalls` it is also told the codes of the person's row before (N, D).
    """

    def __init__(self, sizes: Sequence[int], *, hidden: int, recalls: bool = False) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.scale = 1.0 / math.sqrt(len(self.sizes))
        starts = np.cumsum([0, *self.sizes])[:-1]
        self.starts: Tensor
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.table = nn.Embedding(sum(self.sizes), hidden)
        # One more code a column: there is no row before.
        self.recall = nn.Embedding(sum(self.sizes) + len(self.sizes), hidden) if recalls else None
        self.places = nn.Embedding(len(self.sizes), hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in self.sizes)
        for head in self.heads:
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def forward(self, codes: Tensor, logits: Tensor, before: Tensor | None = None) -> Tensor:
        """Return the logits of every column's codes, side by side."""
        looked_up = self.table(codes + self.starts)
        earlier = looked_up.cumsum(dim=1) - looked_up
        if before is not None:
            earlier = earlier + self.recalled(before)[:, None]
        place = torch.arange(len(self.sizes), device=codes.device).expand_as(codes)
        features = self.features(earlier, self.places(place))
        changes = [head(features[:, n]) for n, head in enumerate(self.heads)]
        return logits + _bounded(torch.cat(changes, dim=1))

    def features(self, earlier: Tensor, place: Tensor) -> Tensor:
        """Return what a last layer sees, from the sum of what was looked up. (..., hidden)."""
        outer = functional.silu(self.scale * earlier + place)
        inner: Tensor = functional.silu(self.mix(outer))
        return outer + inner

    def recalled(self, before: Tensor) -> Tensor:
        """Return what every column is told of the row before. Shapes: (N, D) -> (N, hidden)."""
        if self.recall is None:
            raise ValueError("this network was made without rows before")
        places = torch.arange(len(self.sizes), device=before.device)
        result: Tensor = self.recall(before + self.starts + places).sum(dim=1)
        return result

    def looked_up(self, column: int, codes: Tensor) -> Tensor:
        """Return what later columns are told of this one. Shapes: (N,) -> (N, hidden)."""
        first = sum(self.sizes[:column])
        return self.table.weight[codes + first]

    def change(self, column: int, earlier: Tensor) -> Tensor:
        """Return what is added to the logits of one column. Shapes: (N, hidden) -> (N, size)."""
        return _bounded(self.heads[column](self.features(earlier, self.places.weight[column])))


def _bounded(changes: Tensor) -> Tensor:
    """Return changes of logits, bounded so that none makes possible what cannot be."""
    return changes.clamp(-_MOST_CHANGE, _MOST_CHANGE)


def seeded_network(sizes: Sequence[int], *, hidden: int, recalls: bool, seed: int) -> ColumnNetwork:
    """Return a network whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ColumnNetwork(sizes, hidden=hidden, recalls=recalls)


def losses(
    network: Callable[..., Tensor], examples: Sequence[Tensor], *, sizes: Sequence[int]
) -> Tensor:
    """Return each row's negative log-likelihood (nats), column by column. Shapes: -> (N, D).

    Examples are what the network takes, the row's codes first.
    """
    codes = examples[0]
    blocks = torch.split(network(*examples), list(sizes), dim=1)
    return torch.stack(
        [
            functional.cross_entropy(block, codes[:, place], reduction="none")
            for place, block in enumerate(blocks)
        ],
        dim=1,
    )


def state_of(network: nn.Module) -> dict[str, NDArray[np.generic]]:
    """Return the weights by name."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
