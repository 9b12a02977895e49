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

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism
from training.checkpoints import Arrays, Progress
from training.records import PersonIndex, TrainingRecords, encode
from training.releases import release_sum
from training.run import Run

Array = NDArray[np.float64]

SIDES = 2
# Lengths are in units of full scale times sqrt(pixels); 0.5 is the longest that can exist around
# mid grey, and 1 around any reference. Bins are equal steps of the logarithm.
LENGTH_BINS = 12
_SHORTEST, _LONGEST = 0.02, 1.0
_COUNT_WEIGHT = 0.3
_LENGTH_WEIGHT = 0.2
_BANDS = 20
_RECORDS_AT_ONCE = 1024
_LONGEST_DRAWN = 1.6  # times the typical length


@dataclass(frozen=True, eq=False)
class ClassGaussian:
    """A Gaussian per label and side with shared covariance, in cosine coefficients (H·W = D).

    counts (L, S) noised persons; means (L, S, D); components (R, D) orthonormal, with variances
    (R,); residual_variance (D,) of what lies outside them; length_scales and length_weights (B,):
    how much longer or shorter than typical a deviation is, and how often.
    """

    counts: Array
    means: Array
    components: Array
    variances: Array
    residual_variance: Array
    length_scales: Array
    length_weights: Array

    def state(self) -> Arrays:
        """Return the arrays, by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state(cls, state: Arrays) -> "ClassGaussian":
        """Rebuild from arrays named by field."""
        return cls(**{f.name: np.asarray(state[f.name], dtype=np.float64) for f in fields(cls)})

    def side_weights(self) -> Array:
        """Return how often each side occurs within each label, from the noised counts (L, S)."""
        positive = np.maximum(self.counts, 1.0)
        return np.asarray(positive / positive.sum(axis=1, keepdims=True))

    def draw(self, labels: NDArray[np.integer], rng: np.random.Generator) -> Array:
        """Draw coefficients for labels. Shapes: (M,) -> (M, D)."""
        sides = (rng.random(len(labels)) > self.side_weights()[labels, 0]).astype(np.int64)
        # A rare long deviation is often noise in the histogram, and makes a picture of noise.
        lengths = np.minimum(self.length_scales, _LONGEST_DRAWN)
        scales = rng.choice(lengths, size=len(labels), p=self.length_weights)
        deviation = rng.standard_normal((len(labels), len(self.variances)))
        deviation = (deviation * np.sqrt(self.variances)) @ self.components
        rest = rng.standard_normal((len(labels), self.means.shape[-1]))
        deviation += rest * np.sqrt(self.residual_variance)
        return np.asarray(self.means[labels, sides] + scales[:, None] * deviation)

    def log_density(self, coefficients: Array, labels: NDArray[np.integer]) -> Array:
        """Return log p(image | label) up to a constant, of the Gaussian parts. Shapes: (N,)."""
        logs = [
            self._squared_length(coefficients - self.means[labels, side]) * -0.5
            + np.log(self.side_weights()[labels, side])
            for side in range(SIDES)
        ]
        return np.asarray(np.logaddexp.reduce(np.stack(logs), axis=0))

    def _squared_length(self, deviation: Array) -> Array:
        floor = 1e-8 + float(self.residual_variance.mean())
        noise = self.residual_variance + 0.1 * floor
        inside = deviation @ self.components.T
        rest = deviation - inside @ self.components
        return np.asarray(
            (inside**2 / (self.variances + floor)).sum(axis=1) + (rest**2 / noise).sum(axis=1)
        )


@dataclass(frozen=True)
class MomentSettings:
    """Sizes of the releases; all public."""

    mean_frequencies: int
    covariance_coefficients: int


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
    frequencies = _kept_frequencies(schema, settings.mean_frequencies)
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
        np.asarray(table, dtype=np.float64), frequencies, schema, mechanisms[1].noise_multiplier
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


def to_coefficients(images: NDArray[np.floating]) -> Array:
    """Return the orthonormal cosine transform. Shapes: (N, H, W) -> (N, H·W)."""
    count, height, width = images.shape
    if count == 0:
        return np.zeros((0, height * width))
    transformed = dctn(np.asarray(images, dtype=np.float64), axes=(1, 2), norm="ortho")
    return np.asarray(transformed.reshape(count, -1))


def to_images(coefficients: Array, height: int, width: int) -> Array:
    """Undo `to_coefficients`. Shapes: (N, H·W) -> (N, H, W)."""
    return np.asarray(idctn(coefficients.reshape(-1, height, width), axes=(1, 2), norm="ortho"))


def radial_frequency(schema: DatasetSchema) -> Array:
    """Return each coefficient's distance from the mean brightness, in half cycles per image (D,)."""
    rows, columns = np.mgrid[0 : schema.height, 0 : schema.width]
    return np.asarray(np.hypot(rows, columns).ravel())


def low_frequencies(schema: DatasetSchema, count: int) -> NDArray[np.int64]:
    """Return the indices of the `count` smoothest coefficients."""
    order = np.argsort(radial_frequency(schema), kind="stable")
    return np.asarray(order[: min(count, len(order))], dtype=np.int64)


def left_minus_right(schema: DatasetSchema) -> Array:
    """Return the public pattern whose inner product tells the side (D,), in coefficients."""
    pattern = np.zeros((1, schema.height, schema.width))
    pattern[:, :, : schema.width // 2] = 1.0
    pattern[:, :, -(schema.width // 2) :] = -1.0
    return np.asarray(to_coefficients(pattern)[0])


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


def _kept_frequencies(schema: DatasetSchema, count: int) -> NDArray[np.int64]:
    rows, columns = np.mgrid[0 : schema.height, 0 : schema.width]
    return np.flatnonzero(((rows < count) & (columns < count)).ravel()).astype(np.int64)


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
    bands = _oriented_bands(schema, frequencies)
    mean = np.zeros(pixels)
    # Without this, the noise of the fine frequencies would be grain on every synthetic image.
    mean[frequencies] = _wiener(sums[:, :-1] * scale, np.array([noise * scale]), bands)[0]
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
    table: Array, frequencies: NDArray[np.int64], schema: DatasetSchema, noise: float
) -> tuple[Array, Array]:
    labels = len(schema.labels)
    direction_weight = np.sqrt(1 - _COUNT_WEIGHT**2 - _LENGTH_WEIGHT**2)
    counts = table[:, -1] / _COUNT_WEIGHT
    # A count below its own noise says nothing; the floor keeps such a cell's mean small, not wild.
    safe_counts = np.maximum(counts, noise / _COUNT_WEIGHT)
    bins = np.maximum(table[:, -1 - LENGTH_BINS : -1].sum(axis=0) / _LENGTH_WEIGHT, 0.0)
    length = float(bins @ _bin_centres() / max(bins.sum(), 1.0)) * np.sqrt(
        schema.height * schema.width
    )
    raw = table[:, : len(frequencies)] / direction_weight / safe_counts[:, None]
    spread = noise / direction_weight / safe_counts
    bands = _oriented_bands(schema, frequencies)
    shrunk = _shrink_table(raw.reshape(labels, SIDES, -1), spread.reshape(labels, SIDES), bands)
    means = np.zeros((labels, SIDES, schema.height * schema.width))
    means[:, :, frequencies] = length * shrunk
    return counts.reshape(labels, SIDES), means


def _shrink_table(raw: Array, spread: Array, bands: NDArray[np.int64]) -> Array:
    """Pull means (L, S, K) towards label + side effects, band by band, by their known noise."""
    weights = 1.0 / spread**2
    by_label = _pool(raw, weights, axis=1)
    by_side = _pool(raw, weights, axis=0)
    overall = (raw * weights[..., None]).sum(axis=(0, 1)) / weights.sum()
    label_noise, side_noise = weights.sum(axis=1) ** -0.5, weights.sum(axis=0) ** -0.5
    label_effect = _wiener(by_label - overall, label_noise, bands)
    side_effect = _wiener(by_side - overall, side_noise, bands)
    base = _wiener(overall[None], np.array([weights.sum() ** -0.5]), bands)[0]
    additive = base + label_effect[:, None] + side_effect[None]
    rest = (raw - additive).reshape(-1, raw.shape[-1])
    return np.asarray(additive + _wiener(rest, spread.ravel(), bands).reshape(raw.shape))


def _pool(raw: Array, weights: Array, *, axis: int) -> Array:
    return np.asarray((raw * weights[..., None]).sum(axis=axis) / weights.sum(axis=axis)[..., None])


def _wiener(values: Array, spread: Array, bands: NDArray[np.int64]) -> Array:
    """Scale rows (R, K) in each band by signal / (signal + noise); their signal is shared."""
    result = np.zeros_like(values)
    for band in np.unique(bands):
        inside = bands == band
        power = np.square(values[:, inside]).mean(axis=1)
        weights = 1.0 / spread**4
        signal = max(float(((power - spread**2) * weights).sum() / weights.sum()), 0.0)
        # Two standard errors of the noise's power, or a lone noisy row would keep its own noise.
        own = np.maximum(power - spread**2 * (1 + 2 * np.sqrt(2 / inside.sum())), 0.0)
        gain = np.maximum(signal, 0.5 * own) / (np.maximum(signal, 0.5 * own) + spread**2)
        result[:, inside] = gain[:, None] * values[:, inside]
    return result


def _second_moment_sums(
    reader: _Reader,
    low: NDArray[np.int64],
    people: PersonIndex,
    mechanism: GaussianMechanism,
    schema: DatasetSchema,
) -> Array:
    upper = np.triu_indices(len(low))
    scale = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    bands = _high_bands(schema, low)
    sides = reader.sides()
    moment_weight = np.sqrt(1 - _LENGTH_WEIGHT**2)

    def vectors(indices: NDArray[np.int64]) -> Array:
        # |vech(u u')| = |u_low|^2 and |band energies| <= |u_high|^2; both together are at most 1.
        unit, lengths = reader.directions(indices, sides)
        inside = unit[:, low]
        products = inside[:, upper[0]] * inside[:, upper[1]] * scale
        energy = np.stack(
            [np.square(unit[:, bands == band]).sum(axis=1) for band in range(_BANDS)], axis=1
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
    bins = np.maximum(sums[-LENGTH_BINS:] / _LENGTH_WEIGHT, 0.0)
    persons = max(float(sums[-LENGTH_BINS:].sum() / _LENGTH_WEIGHT), 1.0)
    pixels = schema.height * schema.width
    weights = (
        bins / max(bins.sum(), 1e-12) if bins.sum() > 0 else np.full(LENGTH_BINS, 1 / LENGTH_BINS)
    )
    mean_square = float(weights @ _bin_centres() ** 2) * pixels
    spread = noise / moment_weight / persons
    moment = _symmetric(sums[: -LENGTH_BINS - _BANDS] / moment_weight / persons, len(low))
    values, vectors = _shrunk_spectrum(moment, spread)
    components = np.zeros((len(values), pixels))
    components[:, low] = vectors.T
    residual = np.zeros(pixels)
    residual[low] = _residual_diagonal(moment, values, vectors, radial_frequency(schema)[low])
    high = np.maximum(sums[-LENGTH_BINS - _BANDS : -LENGTH_BINS] / moment_weight / persons, 0.0)
    bands = _high_bands(schema, low)
    sizes = np.maximum(np.bincount(bands[bands >= 0], minlength=_BANDS), 1)
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


def _shrunk_spectrum(moment: Array, spread: float) -> tuple[Array, Array]:
    """Return eigenvalues with the noise's share removed, and their vectors; pure noise is dropped.

    Off-diagonal noise has standard deviation spread / sqrt(2), so noise alone has eigenvalues up to
    `edge`; above it, (λ + sqrt(λ² - edge²)) / 2 undoes the mean push (Benaych-Georges 2011).
    """
    values, vectors = np.linalg.eigh(moment)
    edge = np.sqrt(2.0 * len(moment)) * spread
    kept = values > edge
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    return (values + np.sqrt(values**2 - edge**2)) / 2.0, vectors


def _residual_diagonal(moment: Array, values: Array, vectors: Array, radius: Array) -> Array:
    rest = np.diag(moment) - (vectors**2 * values).sum(axis=1)
    bands = _bands(radius, _BANDS)
    means = np.bincount(bands, weights=rest, minlength=_BANDS) / np.maximum(
        np.bincount(bands, minlength=_BANDS), 1
    )
    return np.asarray(np.maximum(means, 0.0)[bands])


def _symmetric(upper_triangle: Array, size: int) -> Array:
    matrix = np.zeros((size, size))
    rows, columns = np.triu_indices(size)
    matrix[rows, columns] = upper_triangle / np.where(rows == columns, 1.0, np.sqrt(2.0))
    return matrix + np.triu(matrix, 1).T


def _bands(radius: Array, count: int) -> NDArray[np.int64]:
    edges = np.linspace(0.0, np.log1p(radius.max()) + 1e-9, count + 1)
    return np.asarray(np.searchsorted(edges, np.log1p(radius), side="right") - 1, dtype=np.int64)


def _oriented_bands(schema: DatasetSchema, frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group coefficients by octave along each axis, so that edges along one axis stand out (K,).

    A joint space is fine across and coarse along; in rings of equal radius it would drown in the
    noise of all the other directions.
    """
    rows, columns = np.divmod(frequencies, schema.width)
    octave = np.floor(1.5 * np.log2(1.0 + np.stack([rows, columns]))).astype(np.int64)
    return np.asarray(np.unique(octave[0] * 64 + octave[1], return_inverse=True)[1], dtype=np.int64)


def _high_bands(schema: DatasetSchema, low: NDArray[np.int64]) -> NDArray[np.int64]:
    bands = np.full(schema.height * schema.width, -1, dtype=np.int64)
    is_high = np.ones(len(bands), dtype=bool)
    is_high[low] = False
    if is_high.any():
        radius = radial_frequency(schema)[is_high]
        bands[is_high] = np.minimum(
            ((radius - radius.min()) / (np.ptp(radius) + 1e-9) * _BANDS).astype(np.int64),
            _BANDS - 1,
        )
    return bands


def _bin_edges() -> Array:
    return np.geomspace(_SHORTEST, _LONGEST, LENGTH_BINS + 1)


def _bin_centres() -> Array:
    edges = _bin_edges()
    return np.asarray(np.sqrt(edges[1:] * edges[:-1]))


def _length_histogram(lengths: Array) -> Array:
    place = np.clip(np.searchsorted(_bin_edges(), lengths) - 1, 0, LENGTH_BINS - 1)
    return np.asarray(np.eye(LENGTH_BINS)[place])
