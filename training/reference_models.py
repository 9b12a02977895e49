"""Reference models: generators of the same kind, fitted to halves of reference half a, for calibration.

No person of the audit pool is in any of them, so what they find easy is easy for everybody. They are fitted
on held-out persons only, never sampled, never kept: scores of the pool are all that comes back, and stay
inside with the audit. Noise is made smaller in proportion to how many fewer persons there are, so that
a reference model knows its persons about as well as the target knows its own.

Costs one training per model: meant for workers with a GPU, and switched off unless asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from privacy.mechanisms import Mechanism
from privacy.table_schema import TableSchema
from training.generators import GeneratorModule
from training.joint_records import JointRecords, Records
from training.records import TrainingRecords
from training.run import LocalRun
from training.table_records import TableRecords

Part = TypeVar("Part", TrainingRecords, TableRecords, TrainingRecords | TableRecords)
Scores = dict[str, NDArray[np.float64]]
Progress = Callable[[int, int], None]

FEWEST_PERSONS = 20


@dataclass(frozen=True, eq=False)
class Target:
    """The training that is audited: what ran, on about how many units, and the seed of its scores."""

    module: GeneratorModule
    config: Any
    schema: DatasetSchema | TableSchema
    mechanisms: tuple[Mechanism, ...]
    trained_units: int
    seed: int


def reference_scores(
    target: Target,
    held_out: Records,
    *,
    models: int,
    asked: Sequence[NDArray[Any]],
    progress: Progress | None = None,
) -> Scores:
    """Return attack -> (models, N) scores, one row per reference model.

    `asked` are the records to be scored, as the generator's `score` takes them. `held_out` are the records of reference half a. Scores are asked at the target's noise.
    Raises: InvalidParameter where half a holds too few persons.
    """
    persons = np.unique(held_out.persons)
    if len(persons) < 2 * FEWEST_PERSONS:
        raise InvalidParameter(
            f"Reference models were refused: reference half a holds {len(persons)} units; "
            f"{2 * FEWEST_PERSONS} are needed. Audit without them."
        )
    rng = np.random.default_rng([target.seed, models])
    rows: list[Mapping[str, NDArray[np.float64]]] = []
    for number in range(models):
        half = rng.permutation(persons)[: len(persons) // 2]
        chosen = np.flatnonzero(np.isin(held_out.persons, half))
        fit: Callable[..., Any] = target.module.fit
        fitted = fit(
            _chosen(held_out, chosen),
            target.config,
            schema=target.schema,
            run=LocalRun(_quieter(target, len(half))),
            seed=target.seed + 1 + number,
        )
        rows.append(fitted.score(*asked, seed=target.seed))
        if progress is not None:
            progress(number + 1, models)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}


def _chosen(records: Records, rows: NDArray[np.integer]) -> Records:
    """Return some records, their persons counted anew."""
    if isinstance(records, JointRecords):
        return JointRecords(_only(records.table, rows), _only(records.images, rows))
    return _only(records, rows)


def _only(records: Part, rows: NDArray[np.integer]) -> Part:
    _, renumbered = np.unique(records.persons[rows], return_inverse=True)
    parts = {field.name: getattr(records, field.name)[rows] for field in fields(records)}
    return type(records)(**{**parts, "persons": renumbered.astype(np.int32)})


def _quieter(target: Target, persons: int) -> tuple[Mechanism, ...]:
    """Return the mechanisms with noise in proportion to how many persons there are."""
    share = min(1.0, persons / max(1, target.trained_units))
    return tuple(
        m.model_copy(update={"noise_multiplier": m.noise_multiplier * share})
        for m in target.mechanisms
    )
