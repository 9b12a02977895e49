"""How alike are synthetic and real images? Distances in a declared space that needs no download.

The space: histograms of oriented gradients and an 8 by 8 picture of brightness, taken to 64 numbers
by one fixed random projection. It is the same for every data set and learnt from none. A distance
in it is no Inception FID and must not be compared with published ones.

FID: Heusel et al. 2017, arXiv:1706.08500. Precision and recall: Kynkäänniemi et al. 2019,
arXiv:1904.06991. Coverage: Naeem et al. 2020, arXiv:2002.09797.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.utility.fitting import as_tensor, full_scale
from training.utility.hog import histograms
from training.utility.material import Labelled

SPACE = "oriented gradients + 8x8 brightness, fixed random projection to 64 dimensions"
PRIORS = (
    "Synthetic labels are drawn uniformly, real ones as they occur: the distance and precision, "
    "recall and coverage include that difference of label priors; diversity, within labels, does not."
)
_DIMENSIONS = 64
_BRIGHTNESS_SIDE = 8
_PROJECTION_SEED = 20_261_122  # any fixed number; part of the declared space
_MOST = 2000  # records on each side
_NEIGHBOURS = 5
_AT_ONCE = 500

Floats = NDArray[np.float64]


def compare(
    synthetic: Labelled, real: Labelled, *, reference: Labelled | None = None
) -> dict[str, object]:
    """Return fidelity and diversity of synthetic against real held-out images.

    `reference`: real images of other persons; their distance to `real` is what a perfect generator
    would reach, because a finite sample is never at distance 0.
    """
    made, held = _some(synthetic), _some(real)
    made_points, held_points = described(made.images), described(held.images)
    result: dict[str, object] = {
        "space": SPACE,
        "synthetic": len(made),
        "real": len(held),
        "fid": frechet_distance(made_points, held_points),
        **neighbourhoods(made_points, held_points),
        **_diversity(made_points, made.labels, held_points, held.labels),
        "diversity_means": "mean distance within a label, synthetic / real",
        "note": PRIORS,
    }
    if reference is None:
        return {**result, "fid_of_real": None, "fid_of_real_reason": "no second real set"}
    other = described(_some(reference).images)
    return {**result, "fid_of_real": frechet_distance(other, held_points)}


def described(images: NDArray[np.integer]) -> Floats:
    """Return images as points of the declared space. Shapes: (N, H, W) -> (N, 64)."""
    parts = []
    for start in range(0, len(images), _AT_ONCE):
        block = as_tensor(images[start : start + _AT_ONCE], torch.device("cpu")).float()
        block.div_(full_scale(images))
        coarse = functional.adaptive_avg_pool2d(block[:, None], _BRIGHTNESS_SIDE).flatten(1)
        parts.append(torch.cat([histograms(block), coarse], dim=1).double().numpy())
    features = np.concatenate(parts)
    rng = np.random.default_rng(_PROJECTION_SEED)
    projection = rng.standard_normal((features.shape[1], _DIMENSIONS)) / np.sqrt(_DIMENSIONS)
    return np.asarray(features @ projection)


def frechet_distance(one: Floats, other: Floats) -> float:
    """Return the Fréchet distance of the Gaussians with the two sets' means and covariances."""
    difference = one.mean(axis=0) - other.mean(axis=0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = _root(first)
    overlap = np.linalg.eigvalsh(root @ second @ root)
    trace = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.clip(overlap, 0, None)).sum()
    return float(max(0.0, difference @ difference + trace))


def neighbourhoods(made: Floats, real: Floats) -> dict[str, float | str | None]:
    """Return precision, recall and coverage by balls that reach a point's fifth neighbour."""
    if min(len(made), len(real)) <= _NEIGHBOURS:
        reason = f"a set of {min(len(made), len(real))} has no {_NEIGHBOURS} neighbours"
        names = ("precision", "recall", "coverage")
        return dict.fromkeys(names) | {f"{name}_reason": reason for name in names}
    between = _distances(made, real)
    real_reach, made_reach = _reach(real), _reach(made)
    return {
        "precision": float(np.mean((between <= real_reach[None]).any(axis=1))),
        "recall": float(np.mean((between <= made_reach[:, None]).any(axis=0))),
        "coverage": float(np.mean(between.min(axis=0) <= real_reach)),
    }


def _diversity(
    made: Floats, made_labels: NDArray[np.integer], real: Floats, real_labels: NDArray[np.integer]
) -> dict[str, float | str | None]:
    spreads = []
    for label in np.unique(real_labels):
        pair = made[made_labels == label], real[real_labels == label]
        if min(map(len, pair)) > 1:
            spreads.append(_spread(pair[0]) / max(_spread(pair[1]), 1e-12))
    if spreads:
        return {"diversity": float(np.mean(spreads))}
    return {"diversity": None, "diversity_reason": "no label has two images on both sides"}


def _spread(points: Floats) -> float:
    distances = _distances(points, points)
    return float(distances.sum() / (len(points) * (len(points) - 1)))


def _reach(points: Floats) -> Floats:
    ordered = np.partition(_distances(points, points), _NEIGHBOURS, axis=1)
    return np.asarray(ordered[:, _NEIGHBOURS])  # the nearest is the point itself


def _distances(one: Floats, other: Floats) -> Floats:
    return np.asarray(torch.cdist(torch.from_numpy(one), torch.from_numpy(other)).numpy())


def _root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def _some(records: Labelled) -> Labelled:
    if len(records) <= _MOST:
        return records
    return records.take(np.random.default_rng(0).permutation(len(records))[:_MOST])
