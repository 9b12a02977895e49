"""Rows with an image each in a worker: a table and its images, in the same order."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import JointEvidence
from privacy.image_parts import image_labels, image_schema
from privacy.manifests import DatasetManifest, SamplesManifest
from privacy.report import AuditReport
from privacy.table_schema import Codes, TableSchema, Values
from privacy.table_values import values_of
from training.audit_twin import JointCanaries, make_joint_canaries
from training.generators import FittedJoint
from training.joint_records import JointRecords
from workers.bundling.joint_preview import draw_joint_preview
from workers.bundling.joint_rows import SyntheticJoint
from workers.intake.joint import read_joint_upload as read_upload
from workers.ledger_run import grid_png
from workers.modalities import tables
from workers.modalities.contract import Arrays, Drawn, Progress, StoredDataset, StoredSamples
from workers.modalities.images import ImageSamples, StoredImages, copy_records
from workers.modalities.tables import TABLE, StoredTable, TableSamples, facts, first_rows
from workers.report import joint_pairs

__all__ = ["canaries", "dataset", "draw", "facts", "pairs", "read_upload", "samples", "utility"]

IMAGES = "images.npy"


@dataclass(frozen=True, eq=False)
class StoredJoint(StoredDataset):
    """A version of a table (rows, columns) float64, and its images (rows, height, width)."""

    table: Values
    images: NDArray[np.integer]

    @property
    def schema(self) -> TableSchema:
        """Return what the data owner declared public."""
        declared = self.manifest.declared
        if not isinstance(declared, TableSchema) or declared.images is None:
            raise TypeError("a version without images was opened as a table with images")
        return declared

    @cached_property
    def table_part(self) -> StoredTable:
        """Return the rows alone, as a version of a table."""
        return StoredTable(**self._shared(), table=self.table)

    @cached_property
    def images_part(self) -> StoredImages:
        """Return the images alone, labelled with the cells of their rows."""
        shared = self._shared()
        shared["manifest"] = self.manifest.model_copy(
            update={"declared": image_schema(self.schema)}
        )
        return StoredImages(**shared, images=self.images, image_labels=self.cells)

    @cached_property
    def cells(self) -> NDArray[np.int16]:
        """Return the cell of every row, as index of `image_schema(schema).labels`; (rows,)."""
        return image_labels(self.schema, self.codes(np.arange(len(self.table))))

    @property
    def labels(self) -> NDArray[np.integer]:
        """Return the code of every row in the first declared target."""
        return self.table_part.labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the levels of the first declared target."""
        return self.table_part.label_names

    def codes(self, rows: NDArray[np.integer]) -> Codes:
        """Return the codes of some rows, (n, columns)."""
        return self.table_part.codes(rows)

    def evidence_records(self, scratch: Path) -> NDArray[np.generic]:
        """Return the rows without gaps; images are looked at through `images_part`."""
        return self.table_part.evidence_records(scratch)

    def training_records(
        self, rows: NDArray[np.integer], *, persons: NDArray[np.int32], to: Path
    ) -> JointRecords:
        """Copy the chosen records: codes to memory, images to a file of their own."""
        images = copy_records(self.images, rows, to=to)
        return JointRecords.of(self.codes(rows), images, persons, schema=self.schema)

    def asked(self, rows: NDArray[np.integer], *, to: Path) -> tuple[NDArray[Any], ...]:
        """Return the codes and the images of the chosen rows."""
        return self.codes(rows), copy_records(self.images, rows, to=to)

    def gradients(
        self, fitted: FittedJoint, rows: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return no features: generators of rows with images hand over no gradients."""
        del fitted, seed
        return np.zeros((len(rows), 0))

    def write_records(self, rows: NDArray[np.integer], *, out: Path) -> None:
        """Write rows and images."""
        self.table_part.write_records(rows, out=out)
        copy_records(self.images, rows, to=out / IMAGES)

    def _shared(self) -> dict[str, Any]:
        return {
            "manifest": self.manifest,
            "cohort_id": self.cohort_id,
            "persons": self.persons,
            "person_digests": self.person_digests,
            "duplicated_persons": self.duplicated_persons,
        }


@dataclass(frozen=True, eq=False)
class JointSamples(StoredSamples):
    """Synthetic rows (samples, columns) float64, and their images (samples, height, width)."""

    values: Values
    images: NDArray[np.integer]
    schema: TableSchema

    @cached_property
    def table_part(self) -> TableSamples:
        """Return the rows alone."""
        return TableSamples(self.manifest, values=self.values, schema=self.schema)

    @cached_property
    def images_part(self) -> ImageSamples:
        """Return the images alone, labelled with the cells of their rows."""
        labels = image_labels(self.schema, self.schema.codes_of(self.values))
        return ImageSamples(
            self.manifest, images=self.images, image_labels=labels, schema=image_schema(self.schema)
        )

    @property
    def records(self) -> NDArray[np.generic]:
        """Return the rows without gaps; images are looked at through `images_part`."""
        return self.table_part.records

    @property
    def labels(self) -> NDArray[np.integer]:
        """Return the code of every row in the first declared target."""
        return self.table_part.labels

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """Return everything that has an entry for each row, its images among it."""
        return self.values, self.images

    def label_counts(self) -> dict[str, int]:
        """Return how many rows have each level of the first target, or each cell where there is none."""
        return self.table_part.label_counts() or self.images_part.label_counts()

    def synthetic_set(self, *, test_share: float) -> SyntheticJoint:
        """Return rows and images in the splits that were declared, as bundles are written from."""
        return SyntheticJoint(self.values, self.images, self.schema, test_share=test_share)

    def preview(self, synthetic: SyntheticJoint) -> bytes:
        """Return the first images of every cell, and how the columns are spread under them."""
        return draw_joint_preview(synthetic)


def dataset(manifest: DatasetManifest, *, cohort_id: str, arrays: Arrays) -> StoredJoint:
    """Return a stored version."""
    return StoredJoint(manifest=manifest, cohort_id=cohort_id, **arrays)


def samples(manifest: SamplesManifest, *, schema: TableSchema, arrays: Arrays) -> JointSamples:
    """Return a stored synthetic set."""
    return JointSamples(manifest, values=arrays["table"], images=arrays["images"], schema=schema)


def draw(
    fitted: FittedJoint, count: int, *, schema: TableSchema, seed: int, progress: Progress
) -> Drawn:
    """Draw rows with an image each; what is in either comes from the charged mechanisms.

    The number of rows is what was asked for. Where in its bin a number lies is drawn here.
    """
    codes, images = fitted.sample(count, seed=seed, progress=progress)
    values = values_of(codes, schema, np.random.default_rng([seed, count]))
    cells = image_labels(schema, codes)
    shown = {"rows.json": first_rows(values, schema)}
    if count:
        shown["grid.png"] = grid_png(images, cells)
    return Drawn(
        blobs={TABLE: values, IMAGES: images},
        count=len(values),
        label_distribution="drawn",
        shown=shown,
    )


def canaries(count: int, *, schema: TableSchema, rng: np.random.Generator) -> JointCanaries:
    """Return rows of nobody, each with an unusual picture."""
    return make_joint_canaries(count, schema=schema, rng=rng)


def utility(
    evidence: JointEvidence,
    *,
    stored: StoredJoint,
    drawn: JointSamples,
    fitted: Any,
    progress: Progress | None,
) -> dict[str, Any]:
    """Return what the rows and the images are good for, and whether an image fits its row."""
    # Its learners take 300 MB, which a worker that only fits or draws should not.
    from workers.joint_utility import measure_joint_utility  # noqa: PLC0415

    return measure_joint_utility(
        evidence,
        declared=image_schema(stored.schema),
        of_rows=lambda rows: tables.utility(
            rows,
            stored=stored.table_part,
            drawn=drawn.table_part,
            fitted=fitted.rows,
            progress=progress,
        ),
        progress=progress,
    )


def pairs(
    report: AuditReport, evidence: JointEvidence, *, schema: TableSchema
) -> tuple[joint_pairs.JointPair, ...]:
    """Return the suspicious pairs of either part, each with rows and images."""
    return joint_pairs.suspicious(report, evidence, schema=schema)
