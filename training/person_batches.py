"""The images of one step's persons, cut into micro-batches of whole persons.

A person's images are never spread over micro-batches unless they alone are more than fit; whoever
computes such a person's gradient does it in pieces. How large a micro-batch may be has no effect on
the sum of a step, only on its time and memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.person_gradients import Lines
from training.randomness import PrivacyRandomness
from training.records import PersonIndex


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Rows that run forward together: their records, and how rows make lines and lines persons."""

    records: NDArray[np.int64]
    lines: Lines


@dataclass(frozen=True, eq=False)
class PersonBatch:
    """One step's images, `images[starts[p]:starts[p + 1]]` of person p; each is drawn `draws` times."""

    images: NDArray[np.int64]
    starts: NDArray[np.int64]
    draws: int

    @classmethod
    def choose(
        cls,
        units: NDArray[np.int64],
        *,
        people: PersonIndex,
        images_per_person: int,
        draws: int,
        randomness: PrivacyRandomness,
    ) -> "PersonBatch":
        """Take at most `images_per_person` images of each person, at random."""
        chosen = [np.zeros(0, dtype=np.int64)]
        for unit in units:
            own = people.records_of(int(unit))
            if len(own) > images_per_person:
                own = own[np.argsort(randomness.uniform(len(own)))[:images_per_person]]
            chosen.append(own)
        starts = np.cumsum([len(own) for own in chosen])
        return cls(images=np.concatenate(chosen), starts=starts, draws=draws)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, start: int, stop: int) -> int:
        """Return how many rows persons `start` to `stop` need."""
        return int(self.starts[stop] - self.starts[start]) * self.draws

    def stop_that_fits(self, start: int, size: int) -> int:
        """Return the end of the persons from `start` on that fit `size` rows; at least one person."""
        limit = self.starts[start] + size // self.draws
        return max(start + 1, int(np.searchsorted(self.starts, limit, side="right")) - 1)

    def micro_batch(self, start: int, stop: int, *, padded_to: int, like: Tensor) -> MicroBatch:
        """Return persons `start` to `stop` with rows of weight 0 up to `padded_to` rows.

        `like` lends type and device of the weights.
        """
        images = self.images[self.starts[start] : self.starts[stop]]
        counts = np.diff(self.starts[start : stop + 1])
        person = np.repeat(np.arange(stop - start), counts)
        weights = np.repeat(1.0 / np.maximum(counts * self.draws, 1), counts)
        missing = max(padded_to // self.draws - len(images), 0)
        images = np.concatenate([images, np.repeat(images[:1], missing)])
        weights = np.concatenate([weights, np.zeros(missing)])
        number = np.concatenate([person, np.arange(len(person), len(images))])
        is_single = int(counts.max(initial=0)) <= 1
        return MicroBatch(
            records=np.repeat(images, self.draws),
            lines=Lines(
                weights=torch.from_numpy(np.repeat(weights, self.draws)).to(like),
                count=len(images),
                person=None if is_single else torch.from_numpy(number).to(like.device),
            ),
        )

    def pieces(self, person: int, size: int) -> list[NDArray[np.int64]]:
        """Return the records of one person's rows in pieces of at most `size`."""
        images = self.images[self.starts[person] : self.starts[person + 1]]
        records = np.repeat(images, self.draws)
        return [records[at : at + size] for at in range(0, len(records), size)]


def without_memory_errors(compute: Callable[[], Tensor]) -> Tensor | None:
    """Return what `compute` returns, or None if memory did not suffice.

    Nothing that `compute` held outlives this call, so that a smaller attempt finds the memory free.
    """
    try:
        return compute()
    except MemoryError:
        return None
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a processor's has no class
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        return None
