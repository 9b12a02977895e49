"""Cuts one run into parts that follow one another, each as if it were a run of its own.

A generator of several parts hands each a view of its own mechanisms and of its own checkpoint. A
part cannot charge what was reserved for another, and a resume finds what every part kept.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ReservationExceeded
from privacy.mechanisms import Mechanism
from training.checkpoints import Arrays
from training.run import Run


class RunParts:
    """One run and its one checkpoint, read once, which parts add to."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.arrays: Arrays = dict(run.load_checkpoint() or {})

    def part(self, name: str, mechanisms: range) -> "RunPart":
        """Return the part that runs the mechanisms of these indices; `name` has no slash in it."""
        return RunPart(self, name, mechanisms)


class RunPart:
    """Implements `training.run.Run` for one part: its mechanisms count from 0."""

    def __init__(self, parts: RunParts, name: str, indices: range) -> None:
        self._parts, self._run, self._indices = parts, parts.run, indices
        self._prefix = f"{name}/"
        self.mechanisms: tuple[Mechanism, ...] = tuple(parts.run.mechanisms[n] for n in indices)

    def charged_steps(self, index: int) -> int:
        """Return how many steps of the part's mechanism `index` are charged."""
        return self._run.charged_steps(self._place(index))

    def charge(self, index: int, steps: int) -> None:
        """Charge steps before they run.  Raises: ReservationExceeded."""
        self._run.charge(self._place(index), steps)

    def progress(
        self,
        stage: str,
        step: int,
        total: int,
        *,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Show how far the part is."""
        self._run.progress(stage, step, total, public_metrics=public_metrics)

    def show_samples(self, images: NDArray[np.generic], labels: NDArray[np.integer]) -> None:
        """Show a grid of synthetic images."""
        self._run.show_samples(images, labels)

    def save_checkpoint(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep what this part needs beside what the others kept."""
        kept = {k: v for k, v in self._parts.arrays.items() if not k.startswith(self._prefix)}
        self._parts.arrays = kept | {f"{self._prefix}{k}": v for k, v in state.items()}
        self._run.save_checkpoint(self._parts.arrays)

    def load_checkpoint(self) -> Arrays | None:
        """Return what this part kept, or None if it kept nothing."""
        found = {
            k.removeprefix(self._prefix): v
            for k, v in self._parts.arrays.items()
            if k.startswith(self._prefix)
        }
        return found or None

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self._indices):
            raise ReservationExceeded(
                f"Mechanism {index} of the part {self._prefix.rstrip('/')!r} was refused: the part "
                f"has {len(self._indices)} mechanisms. What another part reserved is not its own."
            )
        return self._indices[index]
