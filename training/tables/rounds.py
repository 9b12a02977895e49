"""Rounds of zCDP: pay first, then choose what to measure, then measure it.

A reservation holds quanta of rho (`privacy.mechanisms.ZcdpMechanism`). A round is charged in whole
quanta before it touches a record. Measuring with L2 sensitivity 1 and noise sigma costs
1 / (2 sigma²); choosing by the exponential mechanism with epsilon costs epsilon² / 8 (Cesar &
Rogers 2021, arXiv:2004.07223). Persons weigh 1 together, so both sensitivities are 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import ZcdpMechanism
from training.checkpoints import Arrays, Progress
from training.randomness import PrivacyRandomness, noised_sum
from training.run import Run
from training.table_records import TableRecords
from training.tables.constraints import MOST_CELLS
from training.tables.estimation import Measurement
from training.tables.junction_trees import Clique
from training.tables.measurements import Vector, marginal

# All two-way marginals are counted once and kept, up to so many cells in all (200 MB).
_MOST_KEPT_CELLS = 25_000_000
_SECTION = "measured"


class Purse:
    """The quanta that a run has reserved for its rounds: charges them before they are used."""

    def __init__(self, run: Run, *, index: int = 0) -> None:
        mechanism = run.mechanisms[index]
        if not isinstance(mechanism, ZcdpMechanism):
            raise UnsupportedMechanism(
                f"Rounds under a mechanism of kind {mechanism.kind!r} ({mechanism.stage}) were "
                "refused: they need zcdp. Check the generator's STAGES."
            )
        self._run, self._index, self.mechanism = run, index, mechanism
        self.left = mechanism.steps - run.charged_steps(index)

    @property
    def quanta(self) -> int:
        """Return how many quanta were reserved in all."""
        return self.mechanism.steps

    @property
    def rho_of_quantum(self) -> float:
        """Return what one quantum may cost."""
        return self.mechanism.rho_of_step

    def spend(self, quanta: int) -> float:
        """Charge some quanta, durably, and return the rho that they buy."""
        self._run.charge(self._index, quanta)
        self.left -= quanta
        return quanta * self.rho_of_quantum

    def show(self) -> None:
        """Report how much is used; the number depends on noised results only."""
        self._run.progress(self.mechanism.stage, self.quanta - self.left, self.quanta)


def deviation(rho: float) -> float:
    """Return the noise with which measuring one marginal costs `rho`."""
    return sqrt(1.0 / (2.0 * rho))


@dataclass(frozen=True, eq=False)
class Answers:
    """The weighted counts of every column and of every pair that may be measured. PRIVATE."""

    by_columns: dict[Clique, Vector]

    @classmethod
    def of(
        cls, records: TableRecords, cliques: Sequence[Clique], sizes: Sequence[int]
    ) -> "Answers":
        """Count every clique in one pass over its columns."""
        # Column by column in memory; where everybody weighs 1, weights need not be read.
        stored, weights = np.asfortranarray(records.codes), records.weights
        plain = None if bool((weights == 1.0).all()) else weights
        return cls({c: marginal(stored, c, sizes=sizes, weights=plain) for c in cliques})

    def measure(self, columns: Clique, rho: float, *, source: PrivacyRandomness) -> Measurement:
        """Return a noised marginal that costs `rho`, which the caller has charged."""
        sigma = deviation(rho)
        values = noised_sum(self.by_columns[columns], sigma, source=source)
        return Measurement(columns=columns, deviation=sigma, values=values)

    def errors(self, cliques: Sequence[Clique], modelled: Sequence[Vector]) -> Vector:
        """Return the L1 distance of each clique's counts from a model's counts. PRIVATE. (C,)."""
        pairs = zip(cliques, modelled, strict=True)
        return np.asarray([np.abs(self.by_columns[c] - counts).sum() for c, counts in pairs])


def measurable_pairs(sizes: Sequence[int]) -> tuple[Clique, ...]:
    """Return the pairs of columns that may be measured, from declared sizes alone.

    None has more than MOST_CELLS cells; of very wide tables the smallest pairs are taken.
    """
    width = len(sizes)
    pairs = [(a, b) for a in range(width) for b in range(a + 1, width)]
    cells = {pair: sizes[pair[0]] * sizes[pair[1]] for pair in pairs}
    pairs = [pair for pair in pairs if cells[pair] <= MOST_CELLS]
    if sum(cells[pair] for pair in pairs) > _MOST_KEPT_CELLS:
        pairs.sort(key=lambda pair: (cells[pair], pair))
        kept = np.cumsum([cells[pair] for pair in pairs]) <= _MOST_KEPT_CELLS
        pairs = sorted(pair for pair, is_kept in zip(pairs, kept, strict=True) if is_kept)
    return tuple(pairs)


def preferences(
    scores: NDArray[np.float64], *, epsilon: float, sensitivity: float, source: PrivacyRandomness
) -> NDArray[np.int64]:
    """Return candidates in the order of their noised scores; only the first one taken is released.

    Adding Gumbel noise and taking the largest is the exponential mechanism. Skipping candidates by
    a rule that knows nothing of records gives the exponential mechanism over the rest.
    """
    if not (sensitivity > 0 and np.isfinite(scores).all()):
        raise InvalidParameter(
            f"Choosing among scores with sensitivity {sensitivity} was refused: scores must be "
            "finite and the sensitivity above 0. Check the weights of the candidates."
        )
    gumbel = -np.log(-np.log(source.uniform(len(scores))))
    ordered = np.argsort(-(scores * (epsilon / (2.0 * sensitivity)) + gumbel), kind="stable")
    return ordered.astype(np.int64)


def measurements_to_arrays(measurements: Sequence[Measurement]) -> Arrays:
    """Return measurements as arrays: columns (M, widest; -1 is none), deviations (M,), values."""
    widest = max((len(m.columns) for m in measurements), default=1)
    columns = np.full((len(measurements), widest), -1, dtype=np.int16)
    for row, m in zip(columns, measurements, strict=True):
        row[: len(m.columns)] = m.columns
    values = [m.values for m in measurements]
    return {
        "columns": columns,
        "deviations": np.asarray([m.deviation for m in measurements], dtype=np.float64),
        "values": np.concatenate(values) if values else np.zeros(0),
    }


def measurements_from_arrays(arrays: Arrays, sizes: Sequence[int]) -> list[Measurement]:
    """Rebuild what `measurements_to_arrays` wrote."""
    found, start = [], 0
    for row, sigma in zip(arrays["columns"], arrays["deviations"], strict=True):
        columns = tuple(int(column) for column in row if column >= 0)
        cells = int(np.prod([sizes[column] for column in columns]))
        values = np.asarray(arrays["values"][start : start + cells], dtype=np.float64)
        found.append(Measurement(columns=columns, deviation=float(sigma), values=values))
        start += cells
    return found


def keep(kept: Progress, measurements: Sequence[Measurement], **more: float) -> None:
    """Save what was measured, so that a stopped run does not pay for it again."""
    numbers = {name: np.asarray([value], dtype=np.float64) for name, value in more.items()}
    kept.keep(_SECTION, measurements_to_arrays(measurements) | numbers)


def kept_measurements(
    kept: Progress, sizes: Sequence[int]
) -> tuple[list[Measurement], dict[str, float]]:
    """Return what an earlier start of this run measured, and the numbers saved beside it."""
    arrays = kept.section(_SECTION)
    if not arrays:
        return [], {}
    names = arrays.keys() - {"columns", "deviations", "values"}
    return measurements_from_arrays(arrays, sizes), {n: float(arrays[n][0]) for n in names}
