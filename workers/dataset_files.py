"""A stored dataset version, fetched into scratch and verified against its manifest."""

from privacy.manifests import DatasetManifest
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import NotFound
from workers.context import JobContext
from workers.modalities import modality_of
from workers.modalities.contract import StoredDataset
from workers.workspace import fetch_arrays


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
    modality = modality_of(manifest.declared)
    return modality.dataset(manifest, cohort_id=dataset.cohort_id, arrays=arrays)
