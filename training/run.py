"""What a generator is handed while it fits: permission to spend, progress, and checkpoints.

A *run* is one `fit`. Nothing here knows about jobs, queues or databases: workers implement `Run`
against the ledger, notebooks use `LocalRun`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter, ReservationExceeded
from privacy.mechanisms import Mechanism

PUBLIC_METRICS = frozenset({"phantom_loss", "warm_up_loss"})
"""Every measured value that may be shown while a run trains: none is computed from records.

`phantom_loss` is taken over a phantom batch; `warm_up_loss` over images that the generator draws from
what it has already noised.
"""


def check_public(metrics: Mapping[str, float] | None) -> None:
    """Refuse a value that is not known to be free of private records.

    Raises: InvalidParameter naming it.
    """
    unknown = sorted(set(metrics or ()) - PUBLIC_METRICS)
    if unknown:
        raise InvalidParameter(
            f"Showing {', '.join(unknown)} while training was refused: only "
            f"{', '.join(sorted(PUBLIC_METRICS))} are known to be free of private records. If this "
            "one is as well, add its name to PUBLIC_METRICS in training/run.py, and say why."
        )


class Run(Protocol):
    """The ledger's side of one fit. Every method may raise to stop the run (cancel, lost lease)."""

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """The ordered mechanisms that were reserved."""

    def charged_steps(self, index: int) -> int:
        """Return how many steps of mechanism `index` are already charged (more than 0: a resume)."""

    def charge(self, index: int, steps: int) -> None:
        """Charge `steps` more steps of mechanism `index`, durably, *before* they run.

        Raises: ReservationExceeded if fewer are left.
        """

    def progress(
        self,
        stage: str,
        step: int,
        total: int,
        *,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Show how far the run is. Only values named in `PUBLIC_METRICS` may be passed."""

    def show_samples(self, images: NDArray[np.generic], labels: NDArray[np.integer]) -> None:
        """Show a grid of synthetic images drawn from the noised state so far."""

    def save_checkpoint(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep what a resume needs. It must not hold any sampling or noise generator state."""

    def load_checkpoint(self) -> dict[str, NDArray[np.generic]] | None:
        """Return the last checkpoint of this run, or None at a first start."""


class LocalRun:
    """A run without a service: a reservation kept in memory, progress dropped."""

    def __init__(self, mechanisms: Sequence[Mechanism]) -> None:
        self.mechanisms = tuple(mechanisms)
        self.charges = [0] * len(self.mechanisms)
        self.checkpoint: dict[str, NDArray[np.generic]] | None = None

    def charged_steps(self, index: int) -> int:
        """Return the steps charged so far."""
        return self.charges[index]

    def charge(self, index: int, steps: int) -> None:
        """Charge in memory; refuse what was not reserved."""
        reserved = self.mechanisms[index].steps
        if self.charges[index] + steps > reserved:
            raise ReservationExceeded(
                f"Charging {steps} steps of mechanism {index} was refused: "
                f"{self.charges[index]} of {reserved} reserved steps are already charged. "
                "Request a new job for more."
            )
        self.charges[index] += steps

    def progress(
        self,
        stage: str,
        step: int,
        total: int,
        *,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Drop the progress, after the check that every run makes."""
        del stage, step, total
        check_public(public_metrics)

    def show_samples(self, images: NDArray[np.generic], labels: NDArray[np.integer]) -> None:
        """Drop the grid."""

    def save_checkpoint(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep a copy in memory."""
        self.checkpoint = {name: np.array(value) for name, value in state.items()}

    def load_checkpoint(self) -> dict[str, NDArray[np.generic]] | None:
        """Return the copy."""
        return self.checkpoint
