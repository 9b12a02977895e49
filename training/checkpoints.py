"""Checkpoints: what a stopped run needs to go on, with the steps that its state includes.

A checkpoint is a flat mapping of names to arrays. It never holds a sampling or noise stream: a
resumed run draws fresh entropy. A one-shot release is computed once; if it was charged and its
result is lost, the run cannot go on.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as safetensors_load
from safetensors.numpy import save as safetensors_save

from training.ranks import Ranks
from training.run import Run

Arrays = dict[str, NDArray[np.generic]]


class ReleaseLost(RuntimeError):
    """A charged one-shot release is not in the checkpoint and must not be repeated."""


class Progress:
    """The checkpoint of one run: read once at the start, added to, saved whole."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.arrays: Arrays = dict(run.load_checkpoint() or {})

    def section(self, prefix: str) -> Arrays:
        """Return the arrays saved under `prefix`, without it."""
        start = f"{prefix}/"
        return {k[len(start) :]: v for k, v in self.arrays.items() if k.startswith(start)}

    def keep(self, prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Put arrays under `prefix` in place of what was there, and save everything."""
        for name in self.section(prefix):
            del self.arrays[f"{prefix}/{name}"]
        self.arrays |= {f"{prefix}/{name}": value for name, value in arrays.items()}
        self._run.save_checkpoint(self.arrays)

    def release_once(self, index: int, compute: Callable[[], Arrays]) -> Arrays:
        """Charge and compute a one-shot release, or take its result from the checkpoint.

        Raises: ReleaseLost if the release was charged before and its result is gone;
        InvalidParameter in a process group of several ranks.
        """
        Ranks.here().refuse_several(f"Release {index} ({self._run.mechanisms[index].stage})")
        prefix = f"release_{index}"
        kept = self.section(prefix)
        if kept:
            return kept
        if self._run.charged_steps(index) > 0:
            raise ReleaseLost(
                f"Repeating release {index} ({self._run.mechanisms[index].stage}) was refused: it "
                "was charged, and its result is not in the checkpoint. A second release would "
                "cost the budget twice. Request a new job."
            )
        self._run.charge(index, 1)
        result = compute()
        self.keep(prefix, result)
        return result


def to_bytes(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Write arrays as safetensors, a format that executes nothing when read."""
    return safetensors_save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def from_bytes(content: bytes) -> Arrays:
    """Read arrays that `to_bytes` wrote."""
    return dict(safetensors_load(content))
