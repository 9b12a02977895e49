"""Cells of images within each label, and a Gaussian in each, from noised one-shot releases.

1. *reference*: the mean image of everybody.
2. *basis*: the second moment of the direction away from it at low frequencies, the energy in each
   band above, and how long deviations are. Frequencies are weighted before (public weights that
   rise with the frequency), because noise is the same for all and pictures have most power in the
   few lowest. Its main directions are what everything after it is measured along.
3. *centres*, three times: the sum and number of the records nearest to each centre of their label
   (k-means, Lloyd 1982, from random first centres).
4. *cells*: in each cell, the number of records and the second moment around the cell's centre.

Everything after a release is post-processing. Cells belong to labels, so that a record's cell says
which label it has; both are inside the one table that a person's contribution is clipped in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism
from training.checkpoints import Progress
from training.covariances import cell_factors
from training.mixture import Mixture
from training.outlines import lowest, sunk_coefficients
from training.randomness import reproducible
from training.records import TrainingRecords
from training.releases import release_second_moments, release_sum
from training.run import Run
from training.shrinkage import shrunk_spectrum, wiener
from training.spectrum import (
    BANDS,
    Array,
    bands_of,
    high_bands,
    low_frequencies,
    oriented_bands,
    radial_frequency,
)

CENTRE_STEPS = 3
_BINS = 12  # of lengths, equal steps of the logarithm
_SHORTEST, _LONGEST = 0.02, 1.0  # of directions, in full scale times sqrt(pixels)
_NEAREST, _FARTHEST = 0.05, 2.0  # of centres, in units of the radius
_TILT = 0.5  # power of (1 + frequency) by which coefficients are weighted
_WHITENING = 0.5  # power of a direction's deviation that it is divided by
_COUNT_SHARE, _LENGTH_SHARE, _EXTRA_SHARE = 0.3, 0.2, 0.25
_CLIPPED_QUANTILE = 0.7  # of lengths; what is longer is clipped
_FIRST_SPREAD = 0.7  # of first centres, in deviations
_MOST_CELLS = 64
_FEWEST = 20.0  # records that a noised count is taken for at least
_RECORDS_AT_ONCE = 4096
_MOST_BYTES = 2 * 2**30
_COPIES = 5  # of the second moments, while they are summed, noised and kept


@dataclass(frozen=True)
class CellSettings:
    """Sizes of the releases; all public. No cells per label: as many as the noise allows.

    `background_slope` lowers black pixels before anything is measured (`outlines.py`).
    """

    cells_per_label: int
    basis_coefficients: int
    directions: int
    background_slope: float = 0.0


@dataclass(frozen=True, eq=False)
class Basis:
    """What the second release says: see `Mixture` for directions and rulers; deviations (R,)."""

    directions: Array
    rulers: Array
    deviations: Array
    residual_variance: Array


def fit_cells(
    records: TrainingRecords,
    settings: CellSettings,
    *,
    schema: DatasetSchema,
    run: Run,
    kept: Progress,
) -> Mixture:
    """Make the releases (the first six mechanisms of the run) and return what they describe.

    Raises: InvalidParameter, before the first, if the last one would not fit into memory.
    """
    fitting = _Fitting(records, settings, schema=schema, run=run, kept=kept)
    labels = len(schema.labels)
    cells = settings.cells_per_label or cells_allowed(
        schema.declared_count / labels, noise=fitting.noise_of_cells()
    )
    refuse_the_oversized(labels, cells, settings)
    reference = fitting.reference(0)
    basis = fitting.basis(1, reference)
    values = fitting.measured(reference, basis)
    longest = float(np.linalg.norm(basis.deviations))
    normal = reproducible(0).standard_normal((labels, cells, len(basis.deviations)))
    centres, near = _FIRST_SPREAD * basis.deviations * normal, longest
    for step in range(CENTRE_STEPS):
        centres, lengths = fitting.centres(2 + step, values, centres, near)
        near = _quantile(_bins(_NEAREST, _FARTHEST), lengths, _CLIPPED_QUANTILE) * near
    counts, factors = fitting.cells(2 + CENTRE_STEPS, values, centres, near)
    return Mixture(
        weights=counts / counts.sum(axis=1, keepdims=True),
        means=centres,
        factors=factors,
        directions=basis.directions,
        rulers=basis.rulers,
        reference=reference,
        residual_variance=basis.residual_variance,
    )


def cells_allowed(persons_per_label: float, *, noise: float) -> int:
    """Return the cells per label that are worth their noise; both numbers are public.

    Twice the cells halve each one's persons and so double its noise. On clothes, 2 of 6,000 persons
    were best at a noise of 9 and 10 at a noise of 0.9 (docs/searches.md); in between by a power.
    """
    return int(np.clip(round(0.02 * (persons_per_label / noise) ** 0.7), 1, _MOST_CELLS))


def refuse_the_oversized(labels: int, cells: int, settings: CellSettings) -> None:
    """Refuse sizes whose second moments would not fit into memory; all of them are public.

    Raises: InvalidParameter naming the sizes, the memory, its limit and what to do.
    """
    directions = min(settings.directions, settings.basis_coefficients)
    needed = _COPIES * labels * cells * directions**2 * np.dtype(np.float64).itemsize
    if needed > _MOST_BYTES:
        raise InvalidParameter(
            f"{cells} cells in each of {labels} labels, with covariances in {directions} directions, "
            f"were refused: they need about {needed / 2**30:.1f} GiB of memory; the limit is "
            f"{_MOST_BYTES / 2**30:g}. Lower cells_per_label or directions. Nothing was spent."
        )


class _Fitting:
    """Reads records for the releases, one method each. Arrays named `values` are private."""

    def __init__(
        self,
        records: TrainingRecords,
        settings: CellSettings,
        *,
        schema: DatasetSchema,
        run: Run,
        kept: Progress,
    ) -> None:
        self._records, self._settings, self._schema = records, settings, schema
        self._run, self._kept = run, kept
        self._people = records.by_person()
        self._labels = np.asarray(records.labels, dtype=np.int64)
        self._everybody = np.zeros(len(records), dtype=np.int64)
        self._pixels = schema.height * schema.width

    def noise_of_cells(self) -> float:
        """Return the noise multiplier of the last release, which is public."""
        return self._mechanism(2 + CENTRE_STEPS).noise_multiplier

    def reference(self, index: int) -> Array:
        """Release the mean image (D,), its fine noise pulled towards nothing."""
        mechanism, share = self._mechanism(index), np.sqrt(1 - _COUNT_SHARE**2)
        # No image is longer.
        radius = -lowest(self._settings.background_slope) * np.sqrt(self._pixels)

        def vectors(indices: NDArray[np.int64]) -> Array:
            image = self._coefficients(indices) * (share / radius)
            return np.concatenate([image, np.full((len(indices), 1), _COUNT_SHARE)], axis=1)

        sums = self._kept.release_once(
            index, lambda: {"sums": self._sum(vectors, self._everybody, 1, mechanism)}
        )["sums"].astype(np.float64)
        noise = mechanism.noise_multiplier
        persons = max(float(sums[0, -1]), noise) / _COUNT_SHARE
        scale = radius / share / persons
        bands = oriented_bands(self._schema, np.arange(self._pixels))
        return np.asarray(wiener(sums[:, :-1] * scale, np.array([noise * scale]), bands)[0])

    def basis(self, index: int, reference: Array) -> Basis:
        """Release the second moment of weighted directions, and read its main directions."""
        mechanism, tilt = self._mechanism(index), (1 + radial_frequency(self._schema)) ** _TILT
        low = low_frequencies(self._schema, self._settings.basis_coefficients)
        bands = high_bands(self._schema, low)
        is_in = bands[:, None] == np.arange(BANDS)
        edges = _edges(_SHORTEST, _LONGEST)

        def tilted(indices: NDArray[np.int64]) -> tuple[Array, Array]:
            away = (self._coefficients(indices) - reference) * tilt
            lengths = np.linalg.norm(away, axis=1)
            unit: Array = away / np.maximum(lengths, 1e-12)[:, None]
            return unit, np.asarray(lengths / np.linalg.norm(tilt))

        def extras(indices: NDArray[np.int64]) -> Array:
            unit, lengths = tilted(indices)
            both = [np.square(unit) @ is_in, _histogram(lengths, edges)]
            return np.asarray(np.concatenate(both, axis=1) * np.sqrt(0.5))  # each is at most 1

        def compute() -> dict[str, NDArray[np.generic]]:
            moments, others = release_second_moments(
                lambda indices: tilted(indices)[0][:, low],
                extras,
                self._everybody,
                people=self._people,
                cell_count=1,
                share=np.sqrt(1 - _EXTRA_SHARE**2),
                mechanism=mechanism,
            )
            return {"moments": moments, "others": others}

        self._run.progress("basis", 0, 1)
        released = self._kept.release_once(index, compute)
        moment, others = (released[k].astype(np.float64)[0] for k in ("moments", "others"))
        others = np.maximum(others, 0.0) * np.sqrt(2)
        noise = mechanism.noise_multiplier / np.sqrt(1 - _EXTRA_SHARE**2)
        return self._read_basis(moment, others, low=low, tilt=tilt, noise=noise)

    def _read_basis(
        self, moment: Array, others: Array, *, low: NDArray[np.int64], tilt: Array, noise: float
    ) -> Basis:
        energy, lengths = others[:BANDS], others[BANDS:]
        persons = max(float(lengths.sum()), _FEWEST)
        weights = (lengths + 1e-9) / (lengths + 1e-9).sum()
        square = float(weights @ _bins(_SHORTEST, _LONGEST) ** 2) * float(np.square(tilt).sum())
        values, vectors = shrunk_spectrum(moment / persons, noise / persons)
        if len(values) == 0:  # noise hides everything: the smoothest coefficients, faintly
            values, vectors = np.full(4, 1e-3), np.eye(len(low))[:, :4]
        values, vectors = (
            values[: self._settings.directions],
            vectors[:, : self._settings.directions],
        )
        residual = np.zeros(self._pixels)
        rings = bands_of(radial_frequency(self._schema)[low], BANDS)
        rest = np.diag(moment) / persons - (vectors**2 * values).sum(axis=1)
        rest = np.bincount(rings, weights=rest, minlength=BANDS) / np.maximum(
            np.bincount(rings, minlength=BANDS), 1
        )
        residual[low] = np.maximum(rest, 0.0)[rings]
        bands = high_bands(self._schema, low)
        sizes = np.maximum(np.bincount(bands[bands >= 0], minlength=BANDS), 1)
        residual = np.where(bands >= 0, (energy / persons / sizes)[bands], residual)
        deviations = np.sqrt(values * square)
        whitening = deviations**_WHITENING
        directions, rulers = np.zeros((2, len(values), self._pixels))
        directions[:, low] = (vectors * whitening).T / tilt[low]
        rulers[:, low] = (vectors / whitening).T * tilt[low]
        return Basis(
            directions=directions,
            rulers=rulers,
            deviations=deviations / whitening,
            residual_variance=residual * square / tilt**2,
        )

    def measured(self, reference: Array, basis: Basis) -> Array:
        """Return every record along the released directions. PRIVATE. Shapes: (N, R)."""
        blocks = range(0, len(self._records), _RECORDS_AT_ONCE)
        parts = [np.zeros((0, len(basis.rulers)))]
        for start in blocks:
            block = np.arange(start, min(start + _RECORDS_AT_ONCE, len(self._records)))
            parts.append((self._coefficients(block) - reference) @ basis.rulers.T)
        return np.concatenate(parts)

    def centres(
        self, index: int, values: Array, centres: Array, radius: float
    ) -> tuple[Array, Array]:
        """Release one step of k-means: new centres (L, C, R), and how far records were (bins,).

        What is averaged is the way from the old centre, clipped to the radius; lengths are in units
        of the radius.
        """
        mechanism = self._mechanism(index)
        owned = self._owned(values, centres)
        flat = centres.reshape(-1, centres.shape[2])
        share = np.sqrt(1 - _COUNT_SHARE**2 - _LENGTH_SHARE**2)
        edges = _edges(_NEAREST, _FARTHEST)

        def vectors(indices: NDArray[np.int64]) -> Array:
            away = (values[indices] - flat[owned[indices]]) / radius
            lengths = np.linalg.norm(away, axis=1)
            parts = [
                share * away / np.maximum(lengths, 1.0)[:, None],
                _LENGTH_SHARE * _histogram(lengths, edges),
                np.full((len(indices), 1), _COUNT_SHARE),
            ]
            return np.concatenate(parts, axis=1)

        self._run.progress("centres", index - 2, CENTRE_STEPS)
        table = self._kept.release_once(
            index, lambda: {"sums": self._sum(vectors, owned, len(flat), mechanism)}
        )["sums"].astype(np.float64)
        noise, size = mechanism.noise_multiplier, flat.shape[1]
        counts = np.maximum(table[:, -1] / _COUNT_SHARE, _FEWEST)
        spread = noise * radius / share / counts
        moved = table[:, :size] * (radius / share) / counts[:, None]
        signal = np.maximum(np.square(moved).mean(axis=1) - spread**2, 0.02 * spread**2)
        new = (flat + (signal / (signal + spread**2))[:, None] * moved).reshape(centres.shape)
        if index < 1 + CENTRE_STEPS:
            lost = counts < 4 * noise / _COUNT_SHARE + _FEWEST
            _restart(new, counts.reshape(new.shape[:2]), lost.reshape(new.shape[:2]), index)
        return new, np.maximum(table[:, size:-1].sum(axis=0), 0.0)

    def cells(self, index: int, values: Array, centres: Array, near: float) -> tuple[Array, Array]:
        """Release counts (L, C) and second moments around centres; return factors (L, C, R, R)."""
        mechanism = self._mechanism(index)
        owned = self._owned(values, centres)
        flat = centres.reshape(-1, centres.shape[2])

        def compute() -> dict[str, NDArray[np.generic]]:
            moments, counts = release_second_moments(
                lambda indices: (values[indices] - flat[owned[indices]]) / near,
                lambda indices: np.ones((len(indices), 1)),
                owned,
                people=self._people,
                cell_count=len(flat),
                share=np.sqrt(1 - _EXTRA_SHARE**2),
                mechanism=mechanism,
            )
            return {"moments": moments, "counts": counts[:, 0]}

        self._run.progress("cells", 0, 1)
        released = self._kept.release_once(index, compute)
        self._run.progress("cells", 1, 1)
        moments, counts = (released[k].astype(np.float64) for k in ("moments", "counts"))
        shape = centres.shape[:2]
        counts = np.maximum(counts, _FEWEST).reshape(shape)
        noise = mechanism.noise_multiplier / np.sqrt(1 - _EXTRA_SHARE**2)
        factors = cell_factors(moments.reshape(*shape, *moments.shape[1:]), counts, noise=noise)
        return counts, factors * near

    def _owned(self, values: Array, centres: Array) -> NDArray[np.int64]:
        """Return the cell of each record: the nearest centre of its own label. PRIVATE."""
        owned = np.zeros(len(values), dtype=np.int64)
        for label, own in enumerate(centres):
            inside = self._labels == label
            far = np.square(own).sum(axis=1) - 2 * values[inside] @ own.T
            owned[inside] = label * len(own) + far.argmin(axis=1)
        return owned

    def _coefficients(self, indices: NDArray[np.int64]) -> Array:
        return sunk_coefficients(
            self._records.images[indices], self._schema, self._settings.background_slope
        )

    def _mechanism(self, index: int) -> GaussianMechanism:
        gaussian = [m for m in self._run.mechanisms if isinstance(m, GaussianMechanism)]
        return gaussian[index]

    def _sum(
        self, vectors: object, cells: NDArray[np.int64], count: int, mechanism: GaussianMechanism
    ) -> Array:
        return release_sum(
            vectors,  # type: ignore[arg-type]
            cells,
            people=self._people,
            cell_count=count,
            mechanism=mechanism,
        )


def _restart(centres: Array, counts: Array, lost: NDArray[np.bool_], seed: int) -> None:
    """Put centres that hardly anybody is near to beside the fullest one of their label, in place."""
    rng = reproducible(seed)
    for label, cell in np.argwhere(lost):
        fullest = int(counts[label].argmax())
        if lost[label, fullest]:
            continue
        scale = 0.3 * np.abs(centres[label]).mean(axis=0)
        centres[label, cell] = centres[label, fullest] + scale * rng.standard_normal(len(scale))
        counts[label, fullest] /= 2


def _edges(least: float, most: float) -> Array:
    return np.geomspace(least, most, _BINS + 1)


def _bins(least: float, most: float) -> Array:
    edges = _edges(least, most)
    return np.asarray(np.sqrt(edges[1:] * edges[:-1]))


def _histogram(lengths: Array, edges: Array) -> Array:
    place = np.clip(np.searchsorted(edges, lengths) - 1, 0, _BINS - 1)
    return np.asarray(np.eye(_BINS)[place])


def _quantile(centres: Array, weights: Array, share: float) -> float:
    total = np.cumsum(weights + 1e-9)
    return float(np.interp(share, total / total[-1], centres))
