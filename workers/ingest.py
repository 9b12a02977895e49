"""INGEST: an upload becomes an immutable, content-addressed dataset version, or is refused.

Identifiers stop here: file names, patient ids and headers never leave the scratch directory; what
is stored are pixels, label indices and keyed digests of persons (`workers.intake`). Counts of
duplicates are reported to the owner, who mends the source; nothing is dropped silently.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from privacy.manifests import DatasetManifest
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.errors import LeaseLost
from service.operations import datasets
from service.store.objects import Bucket
from workers import intake
from workers.context import JobContext
from workers.dataset_files import load_version
from workers.modalities import modality_of
from workers.modalities.contract import Declared


def run(context: JobContext) -> dict[str, object]:
    """Read the upload, store its blobs and manifest, and make the version ready.

    Raises: InputRefused, whose sentence the owner reads.
    """
    dataset, version = load_version(context, context.job.version_id)
    raw_key = str(context.job.payload["raw_key"])
    raw = context.scratch / f"upload{Path(raw_key).suffix}"
    context.report("fetching")
    context.application.objects.get_to_file(Bucket.WORK, raw_key, path=raw)
    out = context.scratch / "version"
    out.mkdir(mode=0o700)
    modality = modality_of(dataset.schema)
    read = modality.read_upload(
        raw,
        schema=dataset.schema,
        tenant_key=context.application.keys.tenant_key(context.job.tenant_id),
        out=out,
        progress=context.report,
    )
    context.report("storing")
    manifest = describe(version, dataset.schema, read)
    store_version(context, version, manifest, folder=out)
    digests = np.load(out / "person_digests.npy", allow_pickle=False)
    with context.application.uow() as uow:
        datasets.finish_ingest(
            uow,
            context.job.id,
            token=context.token,
            manifest=manifest,
            person_digests=digests,
            content_digests=read.content_digests,
            row_digests=read.row_digests,
            column_digests=read.column_digests,
            report=owner_report(read, modality.facts(read, out, schema=dataset.schema)),
        )
    return {"version_id": version.id, "digest": manifest.digest()}


def describe(
    version: DatasetVersion, schema: Declared, read: intake.IntakeResult
) -> DatasetManifest:
    """Return the manifest of what was read. It holds private counts and stays inside."""
    return DatasetManifest(
        dataset_id=version.dataset_id,
        version_number=version.number,
        declared=schema,
        source_format=read.source_format,
        record_count=read.record_count,
        person_count=read.person_count,
        duplicated_person_count=read.duplicated_person_count,
        dropped=read.dropped,
        blobs=read.blobs,
    )


def owner_report(read: intake.IntakeResult, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the owner is told about the upload: counts and columns, no names of files.

    `facts` are those of the modality. Private, like every count in the report.
    """
    duplicates = asdict(read.duplicates)
    duplicates.pop("examples", None)  # file names are identifiers
    return {
        "source_format": read.source_format,
        "records": read.record_count,
        "persons": read.person_count,
        "duplicates": duplicates,
        "dropped": list(read.dropped),
        "ignored_columns": list(read.ignored_columns),
        **facts,
    }


def store_version(
    context: JobContext, version: DatasetVersion, manifest: DatasetManifest, *, folder: Path
) -> None:
    """Store the blobs and the manifest of a version under its prefix.

    Object storage knows no fence, so the lease is checked around every object: whatever was stored
    before the last check is there when the version's end deletes it.
    Raises: LeaseLost, once what this worker stored of a version that is gone is deleted again.
    """
    objects = context.application.objects
    try:
        for name in manifest.blobs:
            context.check_lease()
            objects.put_file(Bucket.WORK, f"{version.prefix}{name}", path=folder / name)
        objects.put_bytes(Bucket.WORK, f"{version.prefix}manifest.json", body=manifest.canonical())
        context.check_lease()
    except LeaseLost:
        _remove_if_gone(context, version.id)
        raise


def _remove_if_gone(context: JobContext, version_id: str) -> None:
    """Delete the blobs of a version that was refused or erased; another attempt's stay."""
    _, version = load_version(context, version_id)
    if version.state in {VersionState.REFUSED, VersionState.ERASED}:
        context.application.objects.delete_prefix(Bucket.WORK, version.prefix)
