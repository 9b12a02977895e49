"""Pictures that a network may see before any record, shaped to the moments already released.

Each pool draws images in cosine coefficients for given labels. All follow the released Gaussian up
to second order, ring of frequencies by ring, so that what they teach is what a Gaussian cannot say:

- *procedural* (`procedural.LeafPool`): dead leaves. Right for any pictures.
- *phantoms*: knee phantoms, grades mapped to labels by their order. Right for frontal knee
  radiographs with five ordered grades; elsewhere they teach the wrong anatomy.
- *public*: a public set that the caller hands in, with the same size and label set.

None costs budget: they see what was noised and what is public, never a record.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from training import phantoms
from training.class_gaussian import ClassGaussian
from training.procedural import LeafPool, dead_leaves
from training.records import TrainingRecords, encode
from training.spectrum import Array, left_minus_right, radial_frequency, to_coefficients

WarmStart = Literal["procedural", "phantoms", "public", "none"]

_LEAVES = 300
_PHANTOMS = 1500
_LARGE = 120  # pictures for an upsampler
_LEAST_POWER = 1e-9


class Pool(Protocol):
    """Public pictures by label."""

    def draw(self, labels: NDArray[np.integer]) -> Array:
        """Draw one picture per label, in coefficients. Shapes: (M,) -> (M, D)."""


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """Labelled public pictures, their class means and ring powers replaced by the Gaussian's."""

    coefficients: NDArray[np.float32]  # (N, D) deviations from their own class and side mean
    members: tuple[tuple[NDArray[np.int64], ...], ...]  # [label][side] -> rows
    model: ClassGaussian
    rng: np.random.Generator

    @classmethod
    def of(
        cls,
        values: NDArray[np.float32],
        labels: NDArray[np.integer],
        *,
        model: ClassGaussian,
        schema: DatasetSchema,
        rng: np.random.Generator,
    ) -> "LabelledPool":
        """Shape pictures (N, H, W) in [-0.5, 0.5] to the Gaussian."""
        raw = to_coefficients(values)
        sides = ((raw - raw.mean(axis=0)) @ left_minus_right(schema) > 0).astype(np.int64)
        members = tuple(
            tuple(np.flatnonzero((labels == label) & (sides == side)) for side in (0, 1))
            for label in range(len(schema.labels))
        )
        for cells in members:
            for rows in cells:
                raw[rows] -= raw[rows].mean(axis=0) if len(rows) else 0.0
        wanted = model.residual_variance + (model.components**2 * model.variances[:, None]).sum(0)
        raw *= ring_gain(raw, wanted, schema)
        return cls(raw.astype(np.float32), members, model, rng)

    def draw(self, labels: NDArray[np.integer]) -> Array:
        """Draw the Gaussian's class mean plus a picture's deviation. Shapes: (M,) -> (M, D)."""
        weights = self.model.side_weights()
        result = np.zeros((len(labels), self.coefficients.shape[1]))
        for row, label in enumerate(np.asarray(labels)):
            side = int(self.rng.random() > weights[label, 0])
            own = self.members[label][side]
            rows = own if len(own) else np.arange(len(self.coefficients))
            result[row] = self.model.means[label, side] + self.coefficients[self.rng.choice(rows)]
        return result


def ring_gain(coefficients: Array, wanted: Array, schema: DatasetSchema) -> Array:
    """Return the factor per coefficient that gives each ring of frequencies the wanted power (D,)."""
    ring = np.rint(radial_frequency(schema)).astype(np.int64)
    size = np.maximum(np.bincount(ring), 1)
    has = np.bincount(ring, weights=np.square(coefficients).mean(axis=0)) / size
    wants = np.bincount(ring, weights=wanted) / size
    return np.asarray(np.sqrt(wants / np.maximum(has, _LEAST_POWER))[ring])


def pool(
    kind: WarmStart,
    *,
    model: ClassGaussian,
    schema: DatasetSchema,
    public: TrainingRecords | None,
    rng: np.random.Generator,
) -> Pool | None:
    """Return the pool of a warm start; None for "none".

    Raises: InvalidParameter if phantoms do not fit the label set, or no public set was handed in.
    """
    if kind == "none":
        return None
    if kind == "procedural":
        return LeafPool(_LEAVES, model=model, schema=schema, rng=rng)
    values, labels = _phantoms(schema, rng) if kind == "phantoms" else _public(public, schema)
    return LabelledPool.of(values, labels, model=model, schema=schema, rng=rng)


def pictures(
    kind: WarmStart, *, schema: DatasetSchema, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return unlabelled pictures of the schema's size in [-0.5, 0.5], for an upsampler (N, H, W)."""
    leaves = dead_leaves(_LARGE, height=schema.height, width=schema.width, rng=rng)
    if kind != "phantoms":
        return leaves
    images, _ = phantoms.batch(_LARGE, pixels=(schema.height, schema.width), rng=rng)
    return np.concatenate([leaves, images.astype(np.float32) / np.float32(255) - np.float32(0.5)])


def check(kind: WarmStart, *, schema: DatasetSchema, public: TrainingRecords | None) -> None:
    """Refuse a warm start that cannot be made, before anything is charged.

    Raises: InvalidParameter naming what is missing.
    """
    if kind == "phantoms" and len(schema.labels) != len(phantoms.GRADES):
        raise InvalidParameter(
            f"The warm start 'phantoms' was refused for {len(schema.labels)} labels: knee phantoms "
            f"have {len(phantoms.GRADES)} ordered grades. Use 'procedural'."
        )
    if kind == "public" and public is None:
        raise InvalidParameter(
            "The warm start 'public' was refused: no public set was handed in. Pass `public`, a set "
            "of the same size and labels that its owner declares public, or use 'procedural'."
        )


def _phantoms(
    schema: DatasetSchema, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    size = (schema.height, schema.width)
    images, grades = phantoms.batch(_PHANTOMS, pixels=size, rng=rng)
    return images.astype(np.float32) / np.float32(255) - np.float32(0.5), grades


def _public(
    public: TrainingRecords | None, schema: DatasetSchema
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    check("public", schema=schema, public=public)
    assert public is not None  # noqa: S101  (check has refused it)
    declared = public.checked(schema)
    return encode(declared.images, schema), declared.labels
