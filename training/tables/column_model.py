"""Rows drawn and scored column by column: a graphical model's conditionals, and a network's change of them.

What the graphical model's masks forbid stays impossible whatever the network adds, given the columns
that were drawn before. All of it is post-processing of what was released.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from training import dp_sgd
from training.table_records import Codes
from training.tables.column_network import ColumnNetwork, losses
from training.tables.conditionals import Conditional
from training.tables.drawing import even_positions
from training.tables.measurements import Vector

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class ColumnModel:
    """Conditionals in the order of drawing, the sizes of all columns, and a network over them."""

    conditionals: tuple[Conditional, ...]
    sizes: tuple[int, ...]
    network: ColumnNetwork

    @property
    def order(self) -> list[int]:
        """Return the columns in the order in which they are drawn."""
        return [one.column for one in self.conditionals]

    def examples(self, codes: NDArray[np.integer]) -> dp_sgd.Examples:
        """Return codes (N, D) and the logits that the network adds to (N, S), in order of drawing."""
        ordered = codes[:, self.order].astype(np.int64)
        logits = [one.logits[one.groups(codes, self.sizes)] for one in self.conditionals]
        return torch.from_numpy(ordered), torch.from_numpy(np.concatenate(logits, axis=1))

    def log_density(self, codes: NDArray[np.integer]) -> Vector:
        """Return the logarithm of each row's probability. Shapes: (N, D) -> (N,)."""
        found = np.zeros(len(codes))
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            ordered, logits = self.examples(codes[block])
            with torch.no_grad():
                nats = losses(self.network, ordered, logits, sizes=self.network.sizes)
            found[block] = -nats.double().sum(dim=1).numpy()
        return found

    def draw(self, count: int, *, rng: np.random.Generator) -> Codes:
        """Draw rows. Shapes: result (count, D).

        Every row has the model's distribution; rows that agree on a column's parents share out
        their positions evenly, so that counts scatter less than those of independent draws.
        """
        rows = np.zeros((count, len(self.sizes)), dtype=np.int16)
        earlier = torch.zeros(count, self.network.table.embedding_dim)
        for place, one in enumerate(self.conditionals):
            group = one.groups(rows, self.sizes)
            position = even_positions(group, groups=len(one.logits), rng=rng)
            for begin in range(0, count, _ROWS_AT_ONCE):
                block = slice(begin, begin + _ROWS_AT_ONCE)
                with torch.no_grad():
                    changes = self.network.change(place, earlier[block]).numpy()
                logits = one.logits[group[block]] + changes
                rows[block, one.column] = self.drawn(logits, position[block])
            with torch.no_grad():
                drawn = torch.from_numpy(rows[:, one.column].astype(np.int64))
                earlier += self.network.looked_up(place, drawn)
        return rows

    def with_logits(self, logits: Callable[[Conditional], NDArray[np.float32]]) -> Self:
        """Return the model with other logits for every column."""
        moved = tuple(replace(one, logits=logits(one)) for one in self.conditionals)
        return replace(self, conditionals=moved)

    @staticmethod
    def drawn(logits: NDArray[np.float32], position: Vector) -> NDArray[np.int64]:
        """Return the code at each row's position in [0, 1). One of probability 0 is never drawn."""
        chances = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        levels = np.cumsum(chances, axis=1)
        levels /= levels[:, -1:]
        found: NDArray[np.int64] = (levels <= position[:, None]).sum(axis=1)
        return found


def ordered_sizes(conditionals: Sequence[Conditional], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of columns in the order in which they are drawn."""
    return tuple(sizes[one.column] for one in conditionals)
