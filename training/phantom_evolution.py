"""Evolve phantom parameters towards votes: candidates, votes, selection, variation.

`nearest_votes` says which candidates each image prefers; everything else works on the public prior
and on histograms that were already noised.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from training.phantoms.anatomy import draw_strangers
from training.phantoms.parameters import (
    GRADED,
    GRADES,
    HIGH,
    LOW,
    NAMES,
    Floats,
    as_table,
    from_table,
)
from training.phantoms.prior import Prior
from training.phantoms.radiograph import render_knees
from training.records import Float, encode, pixel_type

Features = NDArray[np.float32]

# Public numbers are measured on phantoms, the same ones every time.
_SEED = 20261122
_KNEES_PER_GRADE = 300
# How much wider than the prior the first candidates lie. Clinics differ more from each other than
# the films of one clinic do.
_SEARCH = {"exposure": 3.5, "contrast": 2.0}
_SEARCH_BODY, _SEARCH_FINDINGS = 1.5, 1.1
# Squared standard errors below which a difference between labels is taken for drift.
_DRIFT = 9.0


@dataclass(frozen=True, eq=False)
class Candidates:
    """Knees that records may vote for: `count` per label."""

    table: Floats  # (labels, count, parameters)
    is_right: NDArray[np.bool_]  # (labels, count)

    def take(self, count: int) -> "Candidates":
        """Return the first `count` of every label."""
        return Candidates(table=self.table[:, :count], is_right=self.is_right[:, :count])

    def render(self, schema: DatasetSchema, rng: np.random.Generator) -> Float:
        """Draw every candidate once, in [-0.5, 0.5]. Shapes: (labels, count, height, width)."""
        labels, count, parameters = self.table.shape
        images = draw(
            self.table.reshape(-1, parameters), self.is_right.ravel(), schema=schema, rng=rng
        )
        return encode(images, schema).reshape(labels, count, schema.height, schema.width)


def draw(
    table: Floats,
    is_right: NDArray[np.bool_],
    *,
    schema: DatasetSchema,
    rng: np.random.Generator,
) -> NDArray[np.integer]:
    """Render a table of parameters in the schema's size and depth. Shapes: (N, P) -> (N, H, W)."""
    knees = from_table(table, is_right=is_right, grade=np.zeros(len(table), np.float32))
    images = render_knees(knees, rng, pixels=(schema.height, schema.width))
    full_scale = 2**schema.bit_depth - 1
    return np.asarray(np.rint(images * (full_scale / 255)).astype(pixel_type(schema)))


def first_candidates(
    count: int, *, schema: DatasetSchema, prior: Prior, rng: np.random.Generator
) -> Candidates:
    """Draw candidates from the prior, spread wider than it. Shapes: (labels, count, parameters).

    The declared labels are taken as grades from the mildest to the most severe: with five they are
    the grades, with fewer or more they lie evenly from 0 to 4; one label has them all.
    """
    labels = len(schema.labels)
    steps = np.linspace(0, len(GRADES) - 1, labels if labels > 1 else count, dtype=np.float32)
    grade = np.repeat(steps, count) if labels > 1 else steps
    knees = draw_strangers(grade, rng, prior=prior)
    table = as_table(knees)
    extra = np.sqrt(np.square(_search_factors()) - 1) * _spread_within_grades(prior)
    wide = table + extra * rng.standard_normal(table.shape)
    return Candidates(
        table=np.clip(wide, LOW, HIGH).reshape(labels, count, -1).astype(np.float32),
        is_right=knees.is_right.reshape(labels, count),
    )


def vary(
    table: Floats, step: float, *, prior: Prior, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move parameters by `step` times the spread of the first candidates. Shapes: (..., P)."""
    scale = step * _search_factors() * _spread_within_grades(prior)
    moved = table + scale * rng.standard_normal(table.shape)
    return np.asarray(np.clip(moved, LOW, HIGH), dtype=np.float32)


def next_candidates(
    candidates: Candidates,
    weights: NDArray[np.float64],
    step: float,
    *,
    prior: Prior,
    rng: np.random.Generator,
) -> Candidates:
    """Draw parents by their noised weights and vary them. Shapes: weights (labels, count)."""
    labels, count = weights.shape
    parents = np.stack([rng.choice(count, size=count, p=weights[label]) for label in range(labels)])
    rows = np.arange(labels)[:, None]
    table = vary(candidates.table[rows, parents], step, prior=prior, rng=rng)
    return Candidates(table=table, is_right=candidates.is_right[rows, parents])


def settle(candidates: Candidates, weights: NDArray[np.float64]) -> Candidates:
    """Take away differences of body and film between labels that chance explains.

    The grade decides the findings; size, positioning and exposure differ between labels by drift,
    and a classifier would learn that drift. Every label's mean of such a parameter is drawn to the
    mean of all labels, unless it lies many standard errors away (positive-part James-Stein).
    """
    graded = len(GRADED)
    free = candidates.table[:, :, graded:].astype(np.float64)
    mean = (weights[:, :, None] * free).sum(axis=1, keepdims=True)  # (labels, 1, parameters)
    variance = (weights[:, :, None] * np.square(free - mean)).sum(axis=1, keepdims=True)
    error = _DRIFT * variance * np.square(weights).sum(axis=1)[:, None, None]
    away = mean - mean.mean(axis=0)
    believed = np.clip(1 - error / np.maximum(np.square(away), 1e-12), 0, 1)
    table = candidates.table.copy()
    table[:, :, graded:] = np.clip(free - (1 - believed) * away, LOW[graded:], HIGH[graded:])
    return Candidates(table=table, is_right=candidates.is_right)


def weights_from_votes(
    noised: NDArray[np.float64], *, noise: float, threshold: float
) -> NDArray[np.float64]:
    """Turn a noised histogram into weights that sum to 1 per label; what may be noise gets 0.

    Votes below `threshold` times the noise are dropped; a label where none is above keeps all
    candidates alike. Source: Lin et al. 2024 (PE), algorithm 2. Shapes: (labels, count).
    """
    above = np.where(noised >= threshold * noise, noised, 0.0)
    total = above.sum(axis=1, keepdims=True)
    alike = np.full_like(above, 1 / above.shape[1])
    return np.where(total > 0, above / np.where(total > 0, total, 1.0), alike)


def nearest_votes(
    features: Features, candidates: Features, labels: NDArray[np.integer], *, nearest: int
) -> NDArray[np.float64]:
    """Return one vote vector of L2 norm 1 per image: equal parts for its nearest candidates.

    Only candidates of the image's own label are compared. Shapes: features (N, F), candidates
    (labels, count, F), labels (N,) -> (N, count).
    """
    count = candidates.shape[1]
    votes = np.zeros((len(features), count))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        distance = squared_distances(features[rows], candidates[label])
        chosen = np.argpartition(distance, nearest - 1, axis=1)[:, :nearest]
        votes[rows[:, None], chosen] = nearest**-0.5
    return votes


def squared_distances(features: Features, others: Features) -> NDArray[np.float32]:
    """Return all squared distances. Shapes: (N, F), (M, F) -> (N, M)."""
    squares = np.square(features).sum(1)[:, None] + np.square(others).sum(1)[None, :]
    return np.asarray(np.maximum(squares - 2 * features @ others.T, 0.0))


def _search_factors() -> Floats:
    factors = {name: _SEARCH_FINDINGS if name in GRADED else _SEARCH_BODY for name in NAMES}
    return np.array(list((factors | _SEARCH).values()), dtype=np.float32)


def _spread_within_grades(prior: Prior) -> Floats:
    """Return the standard deviation of every parameter among knees of one grade (P,)."""
    rng = np.random.default_rng(_SEED)
    variances = [
        as_table(draw_strangers(np.full(_KNEES_PER_GRADE, grade), rng, prior=prior)).var(axis=0)
        for grade in range(len(GRADES))
    ]
    return np.asarray(np.sqrt(np.mean(variances, axis=0)), dtype=np.float32)
