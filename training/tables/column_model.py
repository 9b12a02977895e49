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
from training.tables.visits import Following

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class ColumnModel:
    """Conditionals in the order of drawing, the sizes of all columns, and a network over them."""

    conditionals: tuple[Conditional, ...]
    sizes: tuple[int, ...]
    network: ColumnNetwork
    following: Following | None = None

    @property
    def order(self) -> list[int]:
        """Return the columns in the order in which they are drawn."""
        return [one.column for one in self.conditionals]

    def examples(
        self, codes: NDArray[np.integer], before: NDArray[np.integer] | None = None
    ) -> dp_sgd.Examples:
        """Return codes (N, D) and the logits that the network adds to (N, S), in order of drawing.

        Where rows before are given (N, D), their codes come third.
        """
        ordered = codes[:, self.order].astype(np.int64)
        logits = [self.logits(one, codes, before) for one in self.conditionals]
        found = torch.from_numpy(ordered), torch.from_numpy(np.concatenate(logits, axis=1))
        return found if before is None else (*found, self._recalled(before))

    def logits(
        self,
        one: Conditional,
        codes: NDArray[np.integer],
        before: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float32]:
        """Return the logits of one column, without the network's change. Shapes: -> (N, size)."""
        found = one.logits[one.groups(codes, self.sizes)]
        return found if before is None else found + self._lift(one, before)

    def changes(
        self, place: int, earlier: torch.Tensor, before: NDArray[np.integer] | None
    ) -> NDArray[np.float32]:
        """Return what network and row before add to the logits of the column drawn at `place`."""
        with torch.no_grad():
            found: NDArray[np.float32] = self.network.change(place, earlier).numpy()
        return found if before is None else found + self._lift(self.conditionals[place], before)

    def told(self, before: NDArray[np.integer] | None, count: int) -> torch.Tensor:
        """Return what the network is told before the first column (count, hidden)."""
        if before is None:
            return torch.zeros(count, self.network.table.embedding_dim)
        with torch.no_grad():
            return self.network.recalled(self._recalled(before))

    def _lift(self, one: Conditional, before: NDArray[np.integer]) -> NDArray[np.float32]:
        if self.following is None:
            raise ValueError("this model was made without rows before")
        lift: NDArray[np.float32] = self.following.lifts[one.column][before[:, one.column]]
        return lift

    def _recalled(self, before: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(before[:, self.order].astype(np.int64))

    def log_density(self, codes: NDArray[np.integer]) -> Vector:
        """Return the logarithm of each row's probability. Shapes: (N, D) -> (N,)."""
        found = np.zeros(len(codes))
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            with torch.no_grad():
                examples = self.examples(codes[block])
                nats = losses(self.network, examples, sizes=self.network.sizes)
            found[block] = -nats.double().sum(dim=1).numpy()
        return found

    def draw(
        self, count: int, *, rng: np.random.Generator, before: NDArray[np.integer] | None = None
    ) -> Codes:
        """Draw rows, each after its row before if these are given. Shapes: result (count, D).

        Every row has the model's distribution; rows that agree on a column's parents share out
        their positions evenly, so that counts scatter less than those of independent draws.
        """
        rows = np.zeros((count, len(self.sizes)), dtype=np.int16)
        earlier = self.told(before, count)
        for place, one in enumerate(self.conditionals):
            group = one.groups(rows, self.sizes)
            position = even_positions(group, groups=len(one.logits), rng=rng)
            for begin in range(0, count, _ROWS_AT_ONCE):
                block = slice(begin, begin + _ROWS_AT_ONCE)
                changes = self.changes(
                    place, earlier[block], None if before is None else before[block]
                )
                logits = one.logits[group[block]] + changes
                rows[block, one.column] = self.drawn(logits, position[block])
            self.tell(earlier, place, rows[:, one.column])
        return rows

    def tell(self, earlier: torch.Tensor, place: int, codes: NDArray[np.integer]) -> None:
        """Add to what the network is told the codes of the column drawn at `place`, in place."""
        with torch.no_grad():
            drawn = torch.from_numpy(codes.astype(np.int64))
            earlier += self.network.looked_up(place, drawn)

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
