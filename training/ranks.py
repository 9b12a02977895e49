"""Several processes that train one network together, by `torch.distributed`.

Every rank runs the same program and owns a fixed share of the persons. It draws its own Poisson
batch from its share, at the common rate and from its own entropy, so all ranks' batches together
are one Poisson batch of everybody. Sums are added up; the first rank alone draws noise, charges,
keeps checkpoints and reports, and tells the others the result.

A process group must be there before training starts; without one there is a single rank. If the
first rank stops, the others fail at their next exchange.

The guarantee needs the same objective, the same order of persons and the same earlier releases at
every rank: what makes them must not draw or release anything of its own. Whatever does is refused.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter

if TYPE_CHECKING:  # a fit of a table needs no torch, which takes 200 MB
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Who trains together: this process's number among how many."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return the ranks of the process group, or a single one."""
        exchange: Any = sys.modules.get("torch.distributed")
        # Whoever has made a process group has loaded the module that makes them.
        if exchange is None or not (exchange.is_available() and exchange.is_initialized()):
            return cls()
        return cls(index=exchange.get_rank(), count=exchange.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this rank charges, noises and reports."""
        return self.index == 0

    def refuse_several(self, what: str) -> None:
        """Refuse what every rank would do on its own, where only one of them is charged for it.

        Raises: InvalidParameter if there are several ranks.
        """
        if self.count > 1:
            raise InvalidParameter(
                f"{what} was refused in a process group of {self.count} ranks; the limit is 1: every "
                "rank would do it with randomness of its own, and only the first one is charged. "
                "Run `fit` in one process; only dp_sgd.train may run in several, with the same "
                "objective and released values at each."
            )

    def own(self, persons: int) -> NDArray[np.int64]:
        """Return the numbers of the persons that belong to this rank; everyone belongs to one."""
        return np.arange(self.index, persons, self.count, dtype=np.int64)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of all ranks' values, at every rank."""
        if self.count > 1:
            import torch.distributed as exchange  # noqa: PLC0415

            exchange.all_reduce(values)
        return values

    def from_first(self, values: Tensor) -> Tensor:
        """Return the first rank's values, at every rank."""
        if self.count > 1:
            import torch.distributed as exchange  # noqa: PLC0415

            exchange.broadcast(values, src=0)
        return values

    def number_from_first(self, number: int, *, device: torch.device) -> int:
        """Return the first rank's number, at every rank."""
        import torch  # noqa: PLC0415

        return int(self.from_first(torch.tensor(number, dtype=torch.int64, device=device)))
