"""ERASE: a person is withdrawn. A new version without them; the old versions' bytes are deleted.

Epsilon that was spent on the person's records stays spent, and releases that were trained on them
are listed (`operations.datasets.finish_erase`). The reaper deletes the old blobs.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.operations import datasets
from service.store.objects import file_sha256
from workers.context import JobContext
from workers.dataset_files import fetch_dataset, load_version
from workers.ingest import store_version
from workers.modalities.contract import StoredDataset


def run(context: JobContext) -> dict[str, object]:
    """Write every blob again without the person, store them, and retire the older versions."""
    payload = context.job.payload
    _, version = load_version(context, context.job.version_id)
    context.report("fetching")
    source = fetch_dataset(context, payload["source_version_id"])
    person = find_person(source, bytes.fromhex(payload["person_digest"]))
    context.report("erasing")
    out = context.scratch / "version"
    out.mkdir(mode=0o700)
    kept_records = np.flatnonzero(
        np.ones(len(source.persons), np.bool_) if person is None else source.persons != person
    )
    write_without(source, person, kept_records, out=out)
    manifest = source.manifest.model_copy(
        update={
            "version_number": version.number,
            "record_count": len(kept_records),
            "person_count": source.manifest.person_count - (person is not None),
            "duplicated_person_count": int(
                np.load(out / "duplicated_persons.npy", allow_pickle=False).sum()
            ),
            "blobs": {name: file_sha256(out / name) for name in source.manifest.blobs},
        }
    )
    context.report("storing")
    store_version(context, version, manifest, folder=out)
    with context.application.uow() as uow:
        datasets.finish_erase(uow, context.job.id, token=context.token, manifest=manifest)
    return {"version_id": version.id, "digest": manifest.digest()}


def find_person(source: StoredDataset, digest: bytes) -> int | None:
    """Return the index of a person, or None if only older versions hold them."""
    wanted = np.frombuffer(digest, dtype=np.uint8)
    found = np.flatnonzero((np.asarray(source.person_digests) == wanted).all(axis=1))
    return int(found[0]) if len(found) else None


def write_without(
    source: StoredDataset, person: int | None, kept: NDArray[np.integer], *, out: Path
) -> None:
    """Write every blob without one person, if any; persons after them move up by one.

    A twin of the withdrawn person keeps its mark as a duplicate: whom it resembled is not stored.
    """
    source.write_records(kept, out=out)
    persons = np.asarray(source.persons)[kept]
    if person is not None:
        persons = persons - (persons > person)
    np.save(out / "persons.npy", persons.astype(np.int32), allow_pickle=False)
    gone = [] if person is None else [person]
    for name in ("person_digests", "duplicated_persons"):
        array: NDArray[Any] = np.asarray(getattr(source, name))
        np.save(out / f"{name}.npy", np.delete(array, gone, axis=0), allow_pickle=False)
