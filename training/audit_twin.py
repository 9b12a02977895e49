"""An audit twin: the same training once more, with canaries among the persons; nothing of it is released.

A twin costs what a training costs, in time and in the ledger: it is one more run on the same persons, and
whoever calls it hands over a `Run` that charges for it. Only scores of canaries come back; the weights
are dropped here.

Canaries are made up, one record each: unusual pictures (coarse random blocks, chequers, bare noise) with
labels drawn at random, or rows drawn evenly over what a schema declares possible, so that a generator that knows
them can only have learnt them by heart. They are never records of persons: a person's record under a second id would give them half of the protection.
`privacy.canaries` tosses their coins and turns scores into a bound on epsilon.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.image_parts import image_labels, image_schema
from privacy.manifests import DatasetSchema
from privacy.table_schema import TableSchema
from training.generators import Fitted, FittedJoint, FittedTable, GeneratorModule, gradient_features
from training.joint_records import JointRecords, Records
from training.records import TrainingRecords, decode
from training.run import Run
from training.table_records import TableRecords
from training.tables.possible_rows import possible_rows

Scores = dict[str, NDArray[np.float64]]

_CELLS = (2, 4, 8)


class Canaries(Protocol):
    """Made-up persons of one record each."""

    def __len__(self) -> int:
        """Return how many there are."""

    def among(self, records: Any, taken: NDArray[np.integer]) -> Any:
        """Return training records with the taken canaries as persons of their own."""

    def scores(self, twin: Any, *, seed: int) -> Scores:
        """Return what a fitted generator says of every canary; attack -> (N,)."""


@dataclass(frozen=True, eq=False)
class ImageCanaries:
    """Unusual pictures: images (N, H, W), labels (N,)."""

    images: NDArray[np.integer]
    labels: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.images)

    def among(self, records: TrainingRecords, taken: NDArray[np.integer]) -> TrainingRecords:
        """Return the records with the taken pictures."""
        labels = self.labels[taken].astype(records.labels.dtype)
        return TrainingRecords(
            images=np.concatenate([np.asarray(records.images), self.images[taken]]),
            labels=np.concatenate([np.asarray(records.labels), labels]),
            persons=_with_new_persons(records.persons, len(taken)),
        )

    def scores(self, twin: Fitted, *, seed: int) -> Scores:
        """Return the generator's scores, and the size of its gradient (smaller = known)."""
        scores = twin.score(self.images, self.labels, seed=seed)
        gradients = gradient_features(twin, self.images, self.labels, seed=seed)
        return scores | ({"gradient_size": -gradients[:, 0]} if gradients.shape[1] else {})


@dataclass(frozen=True, eq=False)
class RowCanaries:
    """Rows of codes (N, D)."""

    codes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.codes)

    def among(self, records: TableRecords, taken: NDArray[np.integer]) -> TableRecords:
        """Return the records with the taken rows."""
        return TableRecords(
            codes=np.concatenate([np.asarray(records.codes), self.codes[taken]]),
            persons=_with_new_persons(records.persons, len(taken)),
        )

    def scores(self, twin: FittedTable, *, seed: int) -> Scores:
        """Return the generator's scores."""
        return dict(twin.score(self.codes, seed=seed))


@dataclass(frozen=True, eq=False)
class JointCanaries:
    """Made-up rows, each with an unusual picture."""

    rows: RowCanaries
    pictures: ImageCanaries

    def __len__(self) -> int:
        return len(self.rows)

    def among(self, records: JointRecords, taken: NDArray[np.integer]) -> JointRecords:
        """Return the records with the taken rows and their pictures."""
        return JointRecords(
            self.rows.among(records.table, taken), self.pictures.among(records.images, taken)
        )

    def scores(self, twin: FittedJoint, *, seed: int) -> Scores:
        """Return the generator's scores."""
        return dict(twin.score(self.rows.codes, self.pictures.images, seed=seed))


def make_canaries(count: int, *, schema: DatasetSchema, rng: np.random.Generator) -> ImageCanaries:
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
    return ImageCanaries(
        images=decode(values - 0.5, schema),
        labels=rng.integers(len(schema.labels), size=count).astype(np.int16),
    )


def make_row_canaries(count: int, *, schema: TableSchema, rng: np.random.Generator) -> RowCanaries:
    """Draw rows evenly over the declared domain: combinations of cells that hardly anybody has.

    None breaks a declared constraint: a model gives such a row no probability, member or not, so
    that it would say nothing.  Raises: InvalidParameter if constraints leave hardly any row.
    """
    return RowCanaries(possible_rows(count, schema=schema, rng=rng))


def make_joint_canaries(
    count: int, *, schema: TableSchema, rng: np.random.Generator
) -> JointCanaries:
    """Draw such rows, each with an unusual picture, which stands in the cell of its row."""
    rows = make_row_canaries(count, schema=schema, rng=rng)
    pictures = make_canaries(count, schema=image_schema(schema), rng=rng)
    return JointCanaries(rows, replace(pictures, labels=image_labels(schema, rows.codes)))


def with_canaries(records: Records, canaries: Canaries, coins: NDArray[np.integer]) -> Records:
    """Return the records and, as persons of their own, the canaries whose coin is 1."""
    if len(coins) != len(canaries):
        raise InvalidParameter(
            f"{len(coins)} coins for {len(canaries)} canaries were refused: toss one for each."
        )
    together: Records = canaries.among(records, np.flatnonzero(np.asarray(coins) == 1))
    return together


def _with_new_persons(persons: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    first = int(persons.max()) + 1 if len(persons) else 0
    new = (first + np.arange(count)).astype(persons.dtype)
    return np.concatenate([np.asarray(persons), new])


def score_twin(
    module: GeneratorModule,
    records: Records,
    config: Any,
    *,
    schema: DatasetSchema | TableSchema,
    run: Run,
    seed: int,
    canaries: Canaries,
    coins: NDArray[np.integer],
) -> dict[str, NDArray[np.float64]]:
    """Train the twin within `run`, which charges for it; return attack -> scores of all canaries.

    Raises: whatever `fit` raises.
    """
    together = with_canaries(records, canaries, coins)
    fit: Callable[..., Any] = module.fit
    twin = fit(together, config, schema=schema, run=run, seed=seed)
    return canaries.scores(twin, seed=seed)
