"""A stored dataset version, fetched into scratch and verified against its manifest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetManifest, DatasetSchema
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import NotFound
from workers.context import JobContext
from workers.workspace import fetch_arrays

COPIED_AT_A_TIME = 4096
"""Records; so that no dataset is ever in memory as a whole."""


@dataclass(frozen=True, eq=False)
class StoredDataset:
    """A version's arrays, mapped from disk; shapes as in `privacy.manifests.DatasetManifest`."""

    manifest: DatasetManifest
    cohort_id: str
    images: NDArray[np.integer]
    labels: NDArray[np.integer]
    persons: NDArray[np.integer]
    person_digests: NDArray[np.uint8]
    duplicated_persons: NDArray[np.bool_]

    @property
    def schema(self) -> DatasetSchema:
        """Return what the data owner declared public."""
        return self.manifest.declared


def load_version(context: JobContext, version_id: str | None) -> tuple[Dataset, DatasetVersion]:
    """Return a version and its dataset, as the database has them."""
    with context.application.uow(read_only=True) as uow:
        version = uow.get(DatasetVersion, version_id)
        dataset = None if version is None else uow.get(Dataset, version.dataset_id)
    if version is None or dataset is None:
        raise NotFound(f"The dataset version {version_id} is gone; upload it again.")
    return dataset, version


def fetch_dataset(context: JobContext, version_id: str | None) -> StoredDataset:
    """Fetch every blob of a version.

    Raises: DigestMismatch if object storage holds other bytes than were ingested; NotFound.
    """
    dataset, version = load_version(context, version_id)
    manifest = DatasetManifest.model_validate(version.manifest)
    folder = context.scratch / "dataset"
    folder.mkdir(mode=0o700)
    arrays = fetch_arrays(context, version.prefix, blobs=manifest.blobs, folder=folder)
    return StoredDataset(manifest=manifest, cohort_id=dataset.cohort_id, **arrays)


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
