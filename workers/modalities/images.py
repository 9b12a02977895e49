"""Images in a worker: one label each, drawn evenly over the declared labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Evidence
from privacy.manifests import DatasetManifest, DatasetSchema, SamplesManifest
from privacy.report import AuditReport
from training.audit_twin import ImageCanaries, make_canaries
from training.generators import Fitted, gradient_features
from training.records import TrainingRecords
from workers.bundling.preview import draw_preview
from workers.bundling.records import SyntheticSet
from workers.intake import IntakeResult, read_upload
from workers.ledger_run import grid_png
from workers.modalities.contract import (
    Arrays,
    Drawn,
    Progress,
    StoredDataset,
    StoredSamples,
)
from workers.owner_utility import measure_utility
from workers.report import pictures

__all__ = ["canaries", "dataset", "draw", "facts", "pairs", "read_upload", "samples", "utility"]

COPIED_AT_A_TIME = 4096
"""Records; so that no dataset is ever in memory as a whole."""


@dataclass(frozen=True, eq=False)
class StoredImages(StoredDataset):
    """A version of images: (records, height, width), and the index of each one's label."""

    images: NDArray[np.integer]
    image_labels: NDArray[np.integer]

    @property
    def schema(self) -> DatasetSchema:
        """Return what the data owner declared public."""
        declared = self.manifest.declared
        if not isinstance(declared, DatasetSchema):
            raise TypeError("a version of a table was opened as images")
        return declared

    @property
    def labels(self) -> NDArray[np.integer]:
        """Return the label of every image."""
        return self.image_labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the declared labels."""
        return self.schema.labels

    def evidence_records(self, scratch: Path) -> NDArray[np.generic]:
        """Return the images as they are stored."""
        del scratch
        return self.images

    def training_records(
        self, rows: NDArray[np.integer], *, persons: NDArray[np.int32], to: Path
    ) -> TrainingRecords:
        """Copy the chosen images to a file of their own."""
        return TrainingRecords(
            images=copy_records(self.images, rows, to=to),
            labels=np.asarray(self.labels)[rows],
            persons=persons,
        )

    def asked(self, rows: NDArray[np.integer], *, to: Path) -> tuple[NDArray[Any], ...]:
        """Return the chosen images and their labels."""
        return copy_records(self.images, rows, to=to), np.asarray(self.labels)[rows]

    def gradients(
        self, fitted: Fitted, rows: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return what the generator's gradient is at the chosen images."""
        images, labels = np.asarray(self.images[rows]), np.asarray(self.labels)[rows]
        return gradient_features(fitted, images, labels, seed=seed)

    def write_records(self, rows: NDArray[np.integer], *, out: Path) -> None:
        """Write images and labels."""
        np.save(out / "labels.npy", np.asarray(self.labels)[rows], allow_pickle=False)
        copy_records(self.images, rows, to=out / "images.npy")


@dataclass(frozen=True, eq=False)
class ImageSamples(StoredSamples):
    """Synthetic images (samples, height, width), and the label that each was drawn for."""

    images: NDArray[np.integer]
    image_labels: NDArray[np.integer]
    schema: DatasetSchema

    @property
    def records(self) -> NDArray[np.generic]:
        """Return the images."""
        return self.images

    @property
    def labels(self) -> NDArray[np.integer]:
        """Return the labels."""
        return self.image_labels

    def label_counts(self) -> dict[str, int]:
        """Return how many synthetic images each declared label has."""
        counts = np.bincount(self.labels, minlength=len(self.schema.labels)).tolist()
        return dict(zip(self.schema.labels, counts, strict=True))

    def synthetic_set(self, *, test_share: float) -> SyntheticSet:
        """Return the images in the splits that were declared."""
        return SyntheticSet(
            images=self.images, labels=self.labels, schema=self.schema, test_share=test_share
        )

    def preview(self, synthetic: SyntheticSet) -> bytes:
        """Return the first images of every label."""
        return draw_preview(synthetic)


def facts(read: IntakeResult, folder: Path, *, schema: DatasetSchema) -> dict[str, Any]:
    """Return how many images have each label."""
    del read
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    counts = np.bincount(labels, minlength=len(schema.labels))
    named = zip(schema.labels, counts, strict=True)
    return {"labels": {name: int(count) for name, count in named}}


def dataset(manifest: DatasetManifest, *, cohort_id: str, arrays: Arrays) -> StoredImages:
    """Return a stored version."""
    shared = {name: array for name, array in arrays.items() if name not in {"images", "labels"}}
    return StoredImages(
        manifest=manifest,
        cohort_id=cohort_id,
        images=arrays["images"],
        image_labels=arrays["labels"],
        **shared,
    )


def samples(manifest: SamplesManifest, *, schema: DatasetSchema, arrays: Arrays) -> ImageSamples:
    """Return a stored synthetic set."""
    return ImageSamples(
        manifest, images=arrays["images"], image_labels=arrays["labels"], schema=schema
    )


def draw(
    fitted: Fitted, count: int, *, schema: DatasetSchema, seed: int, progress: Progress
) -> Drawn:
    """Draw images, their labels spread evenly over the declared ones.

    The labels come from the declaration, never from how common a label is in the records.
    """
    labels = uniform_labels(count, len(schema.labels))
    images = fitted.sample(labels, seed=seed, progress=progress)
    return Drawn(
        blobs={"images.npy": images, "labels.npy": labels},
        count=len(images),
        label_distribution="uniform",
        shown={"grid.png": grid_png(images, labels)},
    )


def uniform_labels(count: int, kinds: int) -> NDArray[np.int16]:
    """Return label indices 0, 1, ..., 0, 1, ...: no label more than once oftener than another."""
    return (np.arange(count) % kinds).astype(np.int16)


def utility(
    evidence: Evidence,
    *,
    stored: StoredImages,
    drawn: ImageSamples,
    fitted: Any,
    progress: Progress | None,
) -> dict[str, Any]:
    """Return a quick look: a classifier taught on synthetic images, judged on held-out persons."""
    del drawn, fitted
    schema = stored.schema
    return measure_utility(evidence, label=schema.label, labels=schema.labels, progress=progress)


def pairs(
    report: AuditReport, evidence: Evidence, *, schema: DatasetSchema
) -> tuple[pictures.Pair, ...]:
    """Return the suspicious pairs as pictures."""
    del schema
    return pictures.suspicious_pairs(report, evidence)


def canaries(count: int, *, schema: DatasetSchema, rng: np.random.Generator) -> ImageCanaries:
    """Return unusual pictures of nobody."""
    return make_canaries(count, schema=schema, rng=rng)


def copy_records(
    images: NDArray[np.integer], chosen: NDArray[np.integer], *, to: Path
) -> NDArray[np.integer]:
    """Copy the chosen records to a file of their own, a few at a time, and map it.

    Shapes: images (records, height, width), chosen (n,) indices -> (n, height, width).
    """
    shape = (len(chosen), *images.shape[1:])
    if len(chosen) == 0:  # an empty array cannot be mapped
        empty = np.empty(shape, dtype=images.dtype)
        np.save(to, empty, allow_pickle=False)
        return empty
    copy = np.lib.format.open_memmap(to, mode="w+", dtype=images.dtype, shape=shape)
    for start in range(0, len(chosen), COPIED_AT_A_TIME):
        rows = chosen[start : start + COPIED_AT_A_TIME]
        copy[start : start + len(rows)] = images[rows]
    copy.flush()
    mapped: NDArray[np.integer] = np.load(to, mmap_mode="r", allow_pickle=False)
    return mapped
