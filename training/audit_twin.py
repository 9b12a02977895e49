"""An audit twin: the same training once more, with canaries among the persons; nothing of it is released.

A twin costs what a training costs, in time and in the ledger: it is one more run on the same persons, and
whoever calls it hands over a `Run` that charges for it. Only scores of canaries come back; the weights
are dropped here.

Canaries are made up, one image each: unusual pictures (coarse random blocks, chequers, bare noise) with
labels drawn at random, so that a network that learns them can only have learnt them by heart. They are
never pictures of persons: a person's picture under a second id would give them half of the protection.
`privacy.canaries` tosses their coins and turns scores into a bound on epsilon.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from training.generators import GeneratorModule, gradient_features
from training.records import TrainingRecords, decode
from training.run import Run

_CELLS = (2, 4, 8)


@dataclass(frozen=True, eq=False)
class Canaries:
    """Made-up persons of one image each: images (N, H, W), labels (N,)."""

    images: NDArray[np.integer]
    labels: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.images)


def make_canaries(count: int, *, schema: DatasetSchema, rng: np.random.Generator) -> Canaries:
    """Draw canaries: a third blocks, a third chequers, a third noise, all of the declared size."""
    rows, columns = np.mgrid[0 : schema.height, 0 : schema.width]
    values = np.empty((count, schema.height, schema.width))
    for number in range(count):
        cell = int(rng.choice(_CELLS))
        if number % 3 == 0:
            blocks = rng.integers(0, 2, (schema.height // cell + 1, schema.width // cell + 1))
            values[number] = blocks[rows // cell, columns // cell]
        elif number % 3 == 1:
            down, right = rng.integers(1, 2 * cell, size=2)
            values[number] = (rows // down + columns // right + int(rng.integers(2))) % 2
        else:
            values[number] = rng.random(values[number].shape)
    return Canaries(
        images=decode(values - 0.5, schema),
        labels=rng.integers(len(schema.labels), size=count).astype(np.int16),
    )


def with_canaries(
    records: TrainingRecords, canaries: Canaries, coins: NDArray[np.integer]
) -> TrainingRecords:
    """Return the records and, as persons of their own, the canaries whose coin is 1."""
    if len(coins) != len(canaries):
        raise InvalidParameter(
            f"{len(coins)} coins for {len(canaries)} canaries were refused: toss one for each."
        )
    taken = np.flatnonzero(np.asarray(coins) == 1)
    first = int(records.persons.max()) + 1 if len(records) else 0
    return TrainingRecords(
        images=np.concatenate([np.asarray(records.images), canaries.images[taken]]),
        labels=np.concatenate(
            [np.asarray(records.labels), canaries.labels[taken].astype(records.labels.dtype)]
        ),
        persons=np.concatenate(
            [
                np.asarray(records.persons),
                (first + np.arange(len(taken))).astype(records.persons.dtype),
            ]
        ),
    )


def score_twin(
    module: GeneratorModule,
    records: TrainingRecords,
    config: Any,
    *,
    schema: DatasetSchema,
    run: Run,
    seed: int,
    canaries: Canaries,
    coins: NDArray[np.integer],
) -> dict[str, NDArray[np.float64]]:
    """Train the twin within `run`, which charges for it; return attack -> scores of all canaries.

    The size of the gradient, where the generator has one, is one more attack (smaller = known).
    Raises: whatever `fit` raises.
    """
    together = with_canaries(records, canaries, coins)
    twin = module.fit(together, config, schema=schema, run=run, seed=seed)
    scores = twin.score(canaries.images, canaries.labels, seed=seed)
    gradients = gradient_features(twin, canaries.images, canaries.labels, seed=seed)
    if gradients.shape[1]:
        scores = scores | {"gradient_size": -gradients[:, 0]}
    return scores
