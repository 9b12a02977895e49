"""What is scored: rows as codes, whose they are, and how they are divided.

A person counts once, however many rows: a row weighs one over the number of its person's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.table_schema import Codes, TableSchema

Floats = NDArray[np.float64]
_JUDGING = 0x6A75646765


@dataclass(frozen=True, eq=False)
class Rows:
    """Codes (N, columns) int16 and persons (N,), counted from 0; without persons each is its own."""

    codes: Codes
    persons: NDArray[np.int64]

    @classmethod
    def of(
        cls, codes: NDArray[np.integer], persons: NDArray[np.integer] | None, *, schema: TableSchema
    ) -> Self:
        """Return checked rows.

        Raises: InvalidParameter if shapes differ or a code lies outside of the declared domain.
        """
        given = np.asarray(codes)
        whose = np.arange(len(given)) if persons is None else np.asarray(persons)
        if given.ndim != 2 or given.shape[1] != len(schema.columns) or len(whose) != len(given):
            raise InvalidParameter(
                f"Rows of shape {given.shape} with {len(whose)} persons were refused: the schema "
                f"has {len(schema.columns)} columns. Give one code per column, and one person per "
                "row."
            )
        for index, column in enumerate(schema.columns):
            found = given[:, index]
            if len(found) and not 0 <= found.min() <= found.max() < column.size:
                raise InvalidParameter(
                    f"The column {column.name!r} was refused: its codes lie between {found.min()} "
                    f"and {found.max()}, the schema has 0 to {column.size - 1}. Code the table "
                    "with the schema it is judged by."
                )
        numbers = np.unique(whose, return_inverse=True)[1].reshape(-1)
        return cls(given.astype(np.int16, copy=False), numbers.astype(np.int64))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def count(self) -> int:
        """Return how many persons there are."""
        return int(self.persons.max()) + 1 if len(self.persons) else 0

    @property
    def weights(self) -> Floats:
        """Return the share of each row (N,): persons count alike, and all together are 1."""
        if not len(self):
            return np.empty(0)
        rows_of = np.bincount(self.persons)
        return np.asarray(1.0 / (rows_of[self.persons] * np.count_nonzero(rows_of)))

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Rows":
        """Return some of the rows, their persons counted anew."""
        kept = np.unique(self.persons[rows], return_inverse=True)[1].reshape(-1)
        return Rows(self.codes[rows], kept.astype(np.int64))

    def at_most(self, rows: int, *, seed: int) -> "Rows":
        """Return whole persons, drawn at random, with about `rows` rows or fewer; one at least."""
        if len(self) <= rows:
            return self
        order = judging(seed).permutation(self.count)
        sizes = np.bincount(self.persons, minlength=self.count)[order]
        chosen = order[: max(1, int(np.searchsorted(np.cumsum(sizes), rows, side="right")))]
        return self.take(np.isin(self.persons, chosen))

    def resampled(self, *, seed: int) -> "Rows":
        """Return as many persons drawn with replacement, each draw a person of its own."""
        rng = judging(seed)
        drawn = rng.integers(0, self.count, self.count)
        order = np.argsort(self.persons, kind="stable")
        sizes = np.bincount(self.persons, minlength=self.count)
        starts = np.cumsum(sizes) - sizes
        rows = np.concatenate([order[starts[p] : starts[p] + sizes[p]] for p in drawn])
        return Rows(self.codes[rows], np.repeat(np.arange(self.count), sizes[drawn]))

    def shuffled_apart(self, *, count: int, seed: int) -> "Rows":
        """Return `count` rows whose columns are drawn independently of each other."""
        rng = judging(seed)
        weights = self.weights
        drawn = [
            self.codes[rng.choice(len(self), count, p=weights), column]
            for column in range(self.codes.shape[1])
        ]
        return Rows(np.stack(drawn, axis=1), np.arange(count))


def divided(
    persons: NDArray[np.integer], *, share: float, seed: int | Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of a random share of the persons, and the rows of all others.

    Raises: InvalidParameter if one side would have nobody.
    """
    known = np.unique(persons)
    chosen = round(share * len(known))
    if not 0 < chosen < len(known):
        raise InvalidParameter(
            f"A share of {share:g} of {len(known)} persons was refused: one side would have nobody. "
            "Give more persons, or a share further from 0 and 1."
        )
    first = np.random.default_rng(seed).permutation(known)[:chosen]
    is_first = np.isin(persons, first)
    return np.flatnonzero(is_first), np.flatnonzero(~is_first)


def judging(seed: int) -> np.random.Generator:
    """Return the stream that a judge draws from: no other one's, whatever the seed.

    A generator that draws rows with the same seed orders them by the same random numbers: halves of
    its rows, or some of them, would not be alike.
    """
    return np.random.default_rng(judging_seed(seed))


def judging_seed(seed: int) -> tuple[int, int]:
    """Return the seed of `judging`."""
    return seed, _JUDGING
