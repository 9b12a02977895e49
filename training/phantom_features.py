"""Map images to features by a fixed public rule: how they look, and which parameters they suggest.

Four groups: brightness, contrast, low-frequency structure, and a *readout*, a linear estimate of
the phantom parameters from the structure. Structure is that of the image made mean 0 and deviation
1, in cosine coefficients; a coefficient or parameter weighs as much as its variation over phantoms
can be told from the grain. Everything is measured on phantoms of the public prior, never on
records. Without the readout, a joint space that is a few rows wide would count for little.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from privacy.manifests import DatasetSchema
from training.phantom_evolution import Candidates, first_candidates
from training.phantoms.parameters import GRADED, NAMES
from training.phantoms.prior import Prior
from training.records import Float
from training.spectrum import to_coefficients

Features = NDArray[np.float32]

_FREQUENCIES = 24  # per axis: over 90 mm, a joint space of 4 mm is one half wave
_KNEES, _SEED = 1600, 20261123
_TAUGHT = 0.75  # share of those knees that the readout learns from; the others judge it
_RIDGE = 60.0  # in whitened coefficients, next to about a thousand knees
# What the squared distance between two knees of the prior is made of, on average.
_BRIGHTNESS, _CONTRAST, _STRUCTURE, _READOUT = 0.20, 0.10, 0.25, 0.45
_FINDINGS = 3.0  # how much more a parameter of the disease counts than one of body or film
_FARTHEST = 4.0  # standard deviations; what is stranger than that counts no more
_LEAST_CONTRAST = 0.02  # of full scale; keeps a blank image from being divided by nothing


@dataclass(frozen=True, eq=False)
class Embedding:
    """A fixed public map of images to features."""

    centre: Features  # (2 + S,) of brightness, contrast and structure
    spread: Features  # (2 + S,)
    weight: Features  # (2 + S,)
    readout: Features  # (S, parameters)

    @classmethod
    def of(cls, schema: DatasetSchema, *, prior: Prior) -> Self:
        """Measure the map on phantoms of the prior: public, and the same every time."""
        rng = np.random.default_rng(_SEED)
        count = _KNEES // len(schema.labels) + 1
        knees = first_candidates(count, schema=schema, prior=prior, rng=rng)
        first = _looks(knees, schema, rng)
        again = _looks(knees.take(count // 4), schema, rng)  # some of them in another grain
        grain = 0.5 * np.square(first[:, : count // 4] - again)
        first = first.reshape(-1, first.shape[-1])
        total = np.maximum(first.var(axis=0), 1e-12)
        reliable = np.clip(1 - grain.mean(axis=(0, 1)) / total, 0, 1)
        weight = np.sqrt(_STRUCTURE / max(float(np.square(reliable[2:]).sum()), 1e-9)) * reliable
        weight[:2] = np.sqrt([_BRIGHTNESS, _CONTRAST])
        centre, spread = first.mean(axis=0), np.sqrt(total)
        scores = np.clip((first - centre) / spread, -_FARTHEST, _FARTHEST)
        readout = _learn_readout(scores[:, 2:], _as_seen(knees), rng)
        return cls(centre, spread, weight.astype(np.float32), readout)

    def __call__(self, images: Float) -> Features:
        """Return the features of images in [-0.5, 0.5]. Shapes: (N, H, W) -> (N, F)."""
        scores = (_raw(images) - self.centre) / self.spread
        # Brightness and contrast are bounded by the pixels; structure is bounded here.
        scores[:, 2:] = np.clip(scores[:, 2:], -_FARTHEST, _FARTHEST)
        read = scores[:, 2:] @ self.readout
        return np.concatenate([scores * self.weight, read], axis=1).astype(np.float32)


def _learn_readout(
    scores: Features, targets: NDArray[np.float64], rng: np.random.Generator
) -> Features:
    """Fit a ridge regression and weigh every parameter by what it explains on unseen knees."""
    order = rng.permutation(len(scores))
    taught, judged = np.split(order, [int(_TAUGHT * len(order))])
    x, y = scores[taught].astype(np.float64), targets[taught]
    gram = x.T @ x + _RIDGE * np.eye(x.shape[1])
    slopes = solve(gram, x.T @ y, assume_a="pos")
    wrong = np.square(targets[judged] - scores[judged] @ slopes).mean(axis=0)
    explained = np.clip(1 - wrong, 0, 1)  # targets have variance 1
    value = explained * np.array(
        [_FINDINGS if name in GRADED else 1.0 for name in (*NAMES, "side")]
    )
    share = _READOUT / max(float((value * explained).sum()), 1e-9)
    return np.asarray(slopes * np.sqrt(share * value), dtype=np.float32)


def _as_seen(knees: Candidates) -> NDArray[np.float64]:
    """Return parameters as a picture shows them, standardised: left and right, not medial, lateral.

    Shapes: (knees, parameters + 1); the last column is the side.
    """
    table = knees.table.reshape(-1, knees.table.shape[-1]).astype(np.float64)
    is_right = knees.is_right.ravel()
    for finding in ("{}_joint_space", "osteophyte_{}", "sclerosis_{}"):
        pair = [NAMES.index(finding.format(side)) for side in ("medial", "lateral")]
        swapped = table[is_right][:, pair[::-1]]
        table[np.flatnonzero(is_right)[:, None], pair] = swapped
    for name in ("alignment", "tilt", "shift_x", "patella_x"):
        table[is_right, NAMES.index(name)] *= -1
    seen = np.column_stack([table, is_right])
    deviation = seen.std(axis=0)
    return np.asarray((seen - seen.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))


def _looks(knees: Candidates, schema: DatasetSchema, rng: np.random.Generator) -> Features:
    """Return the raw features of candidates. Shapes: (labels, count, 2 + S)."""
    labels, count = knees.is_right.shape
    images = knees.render(schema, rng).reshape(-1, schema.height, schema.width)
    return _raw(images).reshape(labels, count, -1)


def _raw(images: Float) -> Features:
    """Return mean, deviation and standardised low frequencies. Shapes: (N, H, W) -> (N, 2 + S)."""
    count, height, width = images.shape
    flat = images.reshape(count, height * width)
    mean, deviation = flat.mean(axis=1), flat.std(axis=1)
    divisor = np.maximum(deviation, _LEAST_CONTRAST)[:, None, None]
    coefficients = to_coefficients((images - mean[:, None, None]) / divisor)
    rows, columns = np.mgrid[0:height, 0:width]
    kept = np.flatnonzero(((rows < _FREQUENCIES) & (columns < _FREQUENCIES)).ravel())[1:]
    return np.column_stack([mean, deviation, coefficients[:, kept]]).astype(np.float32)
