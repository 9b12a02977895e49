"""Class-conditional Gaussian model of images, learnt from three one-shot Gaussian releases.

1. *reference*: the mean image of everybody.
2. *class_means*: how many, and the mean *direction* away from the reference, per label and side.
3. *covariance*: the second moment of the direction away from the class mean, at low frequencies,
   and the energy in each band above them.

A direction has length 1 whatever the exposure or contrast, so no radius has to be guessed: the
lengths themselves are released as a noised histogram over fixed public bins. *Side* is a public
rule (is the left half brighter than the right half, compared with the reference?), which keeps left
and right knees from being averaged into one. Images are described by their orthonormal cosine
transform; its frequencies, not the data, say what is smooth.

Everything after the three releases is post-processing: eigenvalues are shrunk and means are pulled
towards each other in proportion to the known noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism
from training.checkpoints import Progress
from training.class_gaussian import SIDES, ClassGaussian
from training.records import PersonIndex, TrainingRecords, encode
from training.releases import release_sum
from training.run import Run
from training.shrinkage import shrink_table, shrunk_spectrum, wiener
from training.spectrum import (
    BANDS,
    Array,
    bands_of,
    high_bands,
    kept_frequencies,
    left_minus_right,
    low_frequencies,
    oriented_bands,
    radial_frequency,
    to_coefficients,
)

# Lengths are in units of full scale times sqrt(pixels); 0.5 is the longest that can exist around
# mid grey, and 1 around any reference. Bins are equal steps of the logarithm.
LENGTH_BINS = 12
_SHORTEST, _LONGEST = 0.02, 1.0
_COUNT_WEIGHT = 0.3
_LENGTH_WEIGHT = 0.2
_LEAST_DEVIATIONS = 2.0
_RECORDS_AT_ONCE = 1024


@dataclass(frozen=True)
class MomentSettings:
    """Sizes of the releases; all public."""

    mean_frequencies: int
    covariance_coefficients: int
    factors: tuple[int, ...] = ()
    """Levels of each column that the labels are combinations of, in row-major order, if they are."""


def stages_of(mechanisms: tuple[object, ...]) -> tuple[GaussianMechanism, ...]:
    """Return the Gaussian mechanisms among a reservation."""
    return tuple(m for m in mechanisms if isinstance(m, GaussianMechanism))


def fit_moments(
    records: TrainingRecords,
    settings: MomentSettings,
    *,
    schema: DatasetSchema,
    run: Run,
    kept: Progress,
) -> ClassGaussian:
    """Make the three releases (mechanisms 0, 1 and 2 of the run) and build the model from them."""
    people = records.by_person()
    reader = _Reader(records, schema=schema)
    frequencies = kept_frequencies(schema, settings.mean_frequencies)
    mechanisms = stages_of(run.mechanisms)

    run.progress("reference image", 0, 3)
    reference = kept.release_once(
        0,
        lambda: {"sums": _reference_sums(reader, frequencies, people, mechanisms[0])},
    )["sums"]
    mean = _reference_mean(
        np.asarray(reference, dtype=np.float64),
        frequencies,
        schema,
        mechanisms[0].noise_multiplier,
    )
    reader.reference = mean

    run.progress("class means", 1, 3)
    table = kept.release_once(
        1,
        lambda: {"sums": _class_sums(reader, frequencies, people, mechanisms[1], schema)},
    )["sums"]
    counts, means = _class_means(
        np.asarray(table, dtype=np.float64),
        frequencies,
        schema,
        mechanisms[1].noise_multiplier,
        factors=settings.factors or (len(schema.labels),),
    )
    reader.class_means = mean + means

    run.progress("covariance", 2, 3)
    low = low_frequencies(schema, settings.covariance_coefficients)
    moment = kept.release_once(
        2,
        lambda: {"sums": _second_moment_sums(reader, low, people, mechanisms[2], schema)},
    )["sums"]
    run.progress("covariance", 3, 3)
    return _assemble(
        np.asarray(moment, dtype=np.float64)[0],
        counts=counts,
        means=reader.class_means,
        low=low,
        schema=schema,
        noise=mechanisms[2].noise_multiplier,
    )


class _Reader:
    """Reads records as coefficients, and as directions from what has been released so far."""

    def __init__(self, records: TrainingRecords, *, schema: DatasetSchema) -> None:
        self._records, self._schema = records, schema
        self._pixels = schema.height * schema.width
        self.labels = np.asarray(records.labels, dtype=np.int64)
        self.reference: Array = np.zeros(self._pixels)
        self.class_means: Array | None = None
        self._pattern = left_minus_right(schema)

    def coefficients(self, indices: NDArray[np.int64]) -> Array:
        """Return coefficients of records (R, D)."""
        return to_coefficients(encode(self._records.images[indices], self._schema))

    def sides(self) -> NDArray[np.int64]:
        """Return each record's side by the public rule (N,)."""
        total = len(self._records)
        sides = np.zeros(total, dtype=np.int64)
        for start in range(0, total, _RECORDS_AT_ONCE):
            block = np.arange(start, min(start + _RECORDS_AT_ONCE, total))
            away = self.coefficients(block) - self.reference
            sides[block] = (away @ self._pattern > 0).astype(np.int64)
        return sides

    def directions(
        self, indices: NDArray[np.int64], sides: NDArray[np.int64] | None
    ) -> tuple[Array, Array]:
        """Return unit vectors away from the reference or the class mean (R, D), and lengths (R,)."""
        away = self.coefficients(indices)
        if self.class_means is None or sides is None:
            away = away - self.reference
        else:
            away = away - self.class_means[self.labels[indices], sides[indices]]
        lengths = np.linalg.norm(away, axis=1)
        return away / np.maximum(lengths, 1e-12)[:, None], lengths / np.sqrt(self._pixels)


def count_noise(noise_multiplier: float) -> float:
    """Return the deviation of the noise in each number of persons that `ClassGaussian` has."""
    return noise_multiplier / _COUNT_WEIGHT


def _reference_sums(
    reader: _Reader,
    frequencies: NDArray[np.int64],
    people: PersonIndex,
    mechanism: GaussianMechanism,
) -> Array:
    radius = 0.5 * np.sqrt(len(reader.reference))  # no encoded image is longer

    def vectors(indices: NDArray[np.int64]) -> Array:
        image = (
            np.sqrt(1 - _COUNT_WEIGHT**2) * reader.coefficients(indices)[:, frequencies] / radius
        )
        return np.concatenate([image, np.full((len(indices), 1), _COUNT_WEIGHT)], axis=1)

    one_cell = np.zeros(len(reader.labels), dtype=np.int64)
    return release_sum(vectors, one_cell, people=people, cell_count=1, mechanism=mechanism)


def _reference_mean(
    sums: Array, frequencies: NDArray[np.int64], schema: DatasetSchema, noise: float
) -> Array:
    pixels = schema.height * schema.width
    persons = max(float(sums[0, -1]), noise) / _COUNT_WEIGHT
    scale = 0.5 * np.sqrt(pixels) / np.sqrt(1 - _COUNT_WEIGHT**2) / persons
    bands = oriented_bands(schema, frequencies)
    mean = np.zeros(pixels)
    # Without this, the noise of the fine frequencies would be grain on every synthetic image.
    mean[frequencies] = wiener(sums[:, :-1] * scale, np.array([noise * scale]), bands)[0]
    return mean


def _class_sums(
    reader: _Reader,
    frequencies: NDArray[np.int64],
    people: PersonIndex,
    mechanism: GaussianMechanism,
    schema: DatasetSchema,
) -> Array:
    direction_weight = np.sqrt(1 - _COUNT_WEIGHT**2 - _LENGTH_WEIGHT**2)

    def vectors(indices: NDArray[np.int64]) -> Array:
        unit, lengths = reader.directions(indices, None)
        return np.concatenate(
            [
                direction_weight * unit[:, frequencies],
                _LENGTH_WEIGHT * _length_histogram(lengths),
                np.full((len(indices), 1), _COUNT_WEIGHT),
            ],
            axis=1,
        )

    cells = reader.labels * SIDES + reader.sides()
    cell_count = len(schema.labels) * SIDES
    return release_sum(vectors, cells, people=people, cell_count=cell_count, mechanism=mechanism)


def _class_means(
    table: Array,
    frequencies: NDArray[np.int64],
    schema: DatasetSchema,
    noise: float,
    *,
    factors: tuple[int, ...],
) -> tuple[Array, Array]:
    labels = len(schema.labels)
    direction_weight = np.sqrt(1 - _COUNT_WEIGHT**2 - _LENGTH_WEIGHT**2)
    counts = table[:, -1] / _COUNT_WEIGHT
    # A count below its own noise says nothing; the floor keeps such a cell's mean small, not wild.
    safe_counts = np.maximum(counts, noise / _COUNT_WEIGHT)
    bins = _believable(
        table[:, -1 - LENGTH_BINS : -1].sum(axis=0) / _LENGTH_WEIGHT,
        noise * np.sqrt(len(table)) / _LENGTH_WEIGHT,
    )
    length = float(bins @ _bin_centres() / max(bins.sum(), 1.0)) * np.sqrt(
        schema.height * schema.width
    )
    raw = table[:, : len(frequencies)] / direction_weight / safe_counts[:, None]
    spread = noise / direction_weight / safe_counts
    bands = oriented_bands(schema, frequencies)
    axes = (*factors, SIDES)
    shrunk = shrink_table(raw.reshape(*axes, -1), spread.reshape(axes), bands)
    means = np.zeros((labels, SIDES, schema.height * schema.width))
    means[:, :, frequencies] = length * shrunk.reshape(labels, SIDES, -1)
    return counts.reshape(labels, SIDES), means


def _second_moment_sums(
    reader: _Reader,
    low: NDArray[np.int64],
    people: PersonIndex,
    mechanism: GaussianMechanism,
    schema: DatasetSchema,
) -> Array:
    upper = np.triu_indices(len(low))
    scale = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    bands = high_bands(schema, low)
    sides = reader.sides()
    moment_weight = np.sqrt(1 - _LENGTH_WEIGHT**2)

    def vectors(indices: NDArray[np.int64]) -> Array:
        # |vech(u u')| = |u_low|^2 and |band energies| <= |u_high|^2; both together are at most 1.
        unit, lengths = reader.directions(indices, sides)
        inside = unit[:, low]
        products = inside[:, upper[0]] * inside[:, upper[1]] * scale
        energy = np.stack(
            [np.square(unit[:, bands == band]).sum(axis=1) for band in range(BANDS)], axis=1
        )
        parts = [moment_weight * products, moment_weight * energy]
        return np.concatenate([*parts, _LENGTH_WEIGHT * _length_histogram(lengths)], axis=1)

    one_cell = np.zeros(len(reader.labels), dtype=np.int64)
    return release_sum(vectors, one_cell, people=people, cell_count=1, mechanism=mechanism)


def _assemble(
    sums: Array,
    *,
    counts: Array,
    means: Array,
    low: NDArray[np.int64],
    schema: DatasetSchema,
    noise: float,
) -> ClassGaussian:
    moment_weight = np.sqrt(1 - _LENGTH_WEIGHT**2)
    bins = _believable(sums[-LENGTH_BINS:] / _LENGTH_WEIGHT, noise / _LENGTH_WEIGHT)
    persons = max(float(sums[-LENGTH_BINS:].sum() / _LENGTH_WEIGHT), 1.0)
    pixels = schema.height * schema.width
    weights = (
        bins / max(bins.sum(), 1e-12) if bins.sum() > 0 else np.full(LENGTH_BINS, 1 / LENGTH_BINS)
    )
    mean_square = float(weights @ _bin_centres() ** 2) * pixels
    spread = noise / moment_weight / persons
    moment = _symmetric(sums[: -LENGTH_BINS - BANDS] / moment_weight / persons, len(low))
    values, vectors = shrunk_spectrum(moment, spread)
    components = np.zeros((len(values), pixels))
    components[:, low] = vectors.T
    residual = np.zeros(pixels)
    residual[low] = _residual_diagonal(moment, values, vectors, radial_frequency(schema)[low])
    high = np.maximum(sums[-LENGTH_BINS - BANDS : -LENGTH_BINS] / moment_weight / persons, 0.0)
    bands = high_bands(schema, low)
    sizes = np.maximum(np.bincount(bands[bands >= 0], minlength=BANDS), 1)
    residual = np.where(bands >= 0, (high / sizes)[bands], residual)
    return ClassGaussian(
        counts=counts,
        means=means,
        components=components,
        variances=values * mean_square,
        residual_variance=residual * mean_square,
        length_scales=_bin_centres() * np.sqrt(pixels / max(mean_square, 1e-12)),
        length_weights=weights,
    )


def _believable(bins: Array, deviation: float) -> Array:
    """Return a histogram without the bins that noise of this deviation explains, its peak kept.

    Noise in empty bins would pull a mean length towards the longest, since counts are not negative.
    """
    kept = np.where(bins >= _LEAST_DEVIATIONS * deviation, bins, 0.0)
    kept[bins.argmax()] = max(float(bins.max()), 0.0)
    return kept


def _residual_diagonal(moment: Array, values: Array, vectors: Array, radius: Array) -> Array:
    rest = np.diag(moment) - (vectors**2 * values).sum(axis=1)
    bands = bands_of(radius, BANDS)
    means = np.bincount(bands, weights=rest, minlength=BANDS) / np.maximum(
        np.bincount(bands, minlength=BANDS), 1
    )
    return np.asarray(np.maximum(means, 0.0)[bands])


def _symmetric(upper_triangle: Array, size: int) -> Array:
    matrix = np.zeros((size, size))
    rows, columns = np.triu_indices(size)
    matrix[rows, columns] = upper_triangle / np.where(rows == columns, 1.0, np.sqrt(2.0))
    return matrix + np.triu(matrix, 1).T


def _bin_edges() -> Array:
    return np.geomspace(_SHORTEST, _LONGEST, LENGTH_BINS + 1)


def _bin_centres() -> Array:
    edges = _bin_edges()
    return np.asarray(np.sqrt(edges[1:] * edges[:-1]))


def _length_histogram(lengths: Array) -> Array:
    place = np.clip(np.searchsorted(_bin_edges(), lengths) - 1, 0, LENGTH_BINS - 1)
    return np.asarray(np.eye(LENGTH_BINS)[place])
