"""Grey levels: a released histogram per label, and the curve that gives drawn images its tones.

A Gaussian puts grey where an image is black or white, and its edges are soft. How often each grey
level occurs is cheap to release; mapping drawn grey levels to released ones by rank (histogram
matching) keeps every shape and makes strokes and backgrounds what they are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from privacy.mechanisms import Mechanism
from training.checkpoints import Arrays, Progress
from training.records import TrainingRecords, encode
from training.releases import release_sum
from training.run import Run
from training.spectrum import Array

LEVELS = 64  # equal steps of the declared range
_QUANTILES = 513
_RAREST = 1e-3  # share of pixels


@dataclass(frozen=True, eq=False)
class Tones:
    """Curves from drawn to released grey levels: `drawn` and `released` (labels, quantiles)."""

    drawn: Array
    released: Array

    def apply(self, images: Array, labels: NDArray[np.integer]) -> Array:
        """Give images the released grey levels of their labels. Shapes: (M, H, W), (M,) -> same."""
        result = np.empty_like(images)
        for label in np.unique(labels):
            own = labels == label
            result[own] = np.interp(images[own], self.drawn[label], self.released[label])
        return result

    def state(self) -> Arrays:
        """Return the curves by name."""
        return {"drawn": self.drawn, "released": self.released}

    @classmethod
    def from_state(cls, state: Arrays) -> "Tones":
        """Rebuild what `state` returned."""
        return cls(
            drawn=np.asarray(state["drawn"], dtype=np.float64),
            released=np.asarray(state["released"], dtype=np.float64),
        )


def release_histograms(
    records: TrainingRecords, *, schema: DatasetSchema, run: Run, index: int, kept: Progress
) -> Array:
    """Release how often each grey level occurs, per label, within mechanism `index` of the run.

    A record's vector is its shares of grey levels, which sum to 1 and so have norm at most 1.
    Shapes: result (labels, LEVELS), each row adding up to 1.
    """
    mechanism = run.mechanisms[index]
    sums = kept.release_once(
        index, lambda: {"sums": _sums(records, schema=schema, mechanism=mechanism)}
    )["sums"]
    return believable(np.asarray(sums, dtype=np.float64), noise=mechanism.noise_multiplier)


def _sums(records: TrainingRecords, *, schema: DatasetSchema, mechanism: Mechanism) -> Array:
    def vectors(indices: NDArray[np.int64]) -> Array:
        return shares(encode(records.images[indices], schema))

    cells = np.asarray(records.labels, dtype=np.int64)
    people, labels = records.by_person(), len(schema.labels)
    return release_sum(vectors, cells, people=people, cell_count=labels, mechanism=mechanism)


def shares(values: NDArray[np.floating]) -> Array:
    """Return the share of pixels at each grey level. Shapes: (N, H, W) in [-0.5, 0.5] -> (N, LEVELS)."""
    count, pixels = len(values), values.shape[1] * values.shape[2]
    level = np.clip(((values + 0.5) * LEVELS).astype(np.int64), 0, LEVELS - 1)
    flat = level.reshape(count, pixels) + LEVELS * np.arange(count)[:, None]
    table = np.bincount(flat.ravel(), minlength=count * LEVELS)
    return np.asarray(table.reshape(count, LEVELS) / pixels)


def believable(sums: Array, *, noise: float) -> Array:
    """Turn noised sums into shares: what does not stand out of its noise is pooled over labels.

    Shapes: (labels, LEVELS) -> the same, rows adding up to 1.
    """
    labels = len(sums)
    persons = np.maximum(sums.sum(axis=1, keepdims=True), 4 * noise * np.sqrt(LEVELS))
    own = sums / persons
    overall = sums.sum(axis=0) / persons.sum()
    signal = np.maximum(np.square(own - overall).mean() - (noise / persons) ** 2, 0.0)
    gain = signal / (signal + (noise / persons) ** 2)
    mixed = overall + gain * (own - overall)
    # Twice the noise that is left is what an empty level shows by chance.
    left = noise / persons * np.sqrt(gain + (1 - gain) / labels)
    kept = np.where(mixed > 2 * left, mixed, 0.0)
    kept += 1e-6 + (kept.sum(axis=1, keepdims=True) <= 0)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True))


def curves(drawn: Array, labels: NDArray[np.integer], histograms: Array) -> Tones:
    """Return the curves that give the drawn images these histograms, label by label.

    Shapes: (M, H, W), (M,), (labels, LEVELS). Every label must have been drawn.
    """
    ranks = np.linspace(0.0, 1.0, _QUANTILES)
    edges = np.arange(LEVELS + 1) / LEVELS - 0.5
    tiny = 1e-9 * np.arange(_QUANTILES)  # keeps the curve's ends apart where all pixels are equal
    source = [np.quantile(drawn[labels == k], ranks) + tiny for k in range(len(histograms))]
    below = np.concatenate([np.zeros((len(histograms), 1)), np.cumsum(histograms, axis=1)], axis=1)
    # A level that does not occur at either end must not become the darkest or brightest pixel.
    inner = np.clip(ranks, _RAREST, 1 - _RAREST)
    target = [np.interp(inner, row / row[-1], edges) for row in below]
    return Tones(drawn=np.stack(source), released=np.stack(target))
