"""End an ingest: join persons to their cohort and make the version ready, or refuse it whole.

Both run under the job's fencing token. The raw upload is deleted when the job ends, either way
(`service.operations.endings`), so that an interrupted ingest can be repeated until then.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.exc import IntegrityError

from privacy.manifests import DatasetManifest
from service.domain.accounts import SYSTEM
from service.domain.datasets import Dataset, DatasetVersion, VersionState
from service.domain.errors import Conflict, InputRefused, NotFound
from service.domain.jobs import Job
from service.domain.trail import TrailEvent
from service.operations import fencing, membership
from service.store import tables
from service.store.unit_of_work import UnitOfWork

CHUNK_PERSONS = 500
_ALIKE = {"image": ("image", "pixel for pixel"), "table": ("row", "cell for cell")}
_persons = tables.cohort_persons
_contents = tables.cohort_contents


def finish_ingest(
    uow: UnitOfWork,
    job_id: str,
    *,
    token: str,
    manifest: DatasetManifest,
    person_digests: NDArray[np.uint8],
    content_digests: NDArray[np.uint8],
    report: dict[str, Any] | None = None,
) -> DatasetVersion:
    """Make a version READY and its persons members of the dataset's cohort.

    Shapes: person_digests (persons, 32), content_digests (records, 32) of images or rows alone.
    Repeating it after an interruption changes nothing.
    Raises: InputRefused if a person or a record belongs to another cohort, or a person was
    withdrawn: nothing is written then, and the worker refuses the version; LeaseLost; JournalBehind.
    """
    job = fencing.check_token(uow, job_id, token=token)
    version, dataset = _load(uow, job)
    if version.state is VersionState.READY:
        return version
    counts = (len(person_digests), len(content_digests))
    if manifest.declared != dataset.schema or counts != (
        manifest.person_count,
        manifest.record_count,
    ):
        raise InputRefused("The manifest was refused: it is about another dataset.")
    join_cohort(uow, dataset, person_digests, content_digests=content_digests)
    record_persons(uow, version, person_digests)
    version.manifest = manifest.model_dump(mode="json")
    version.manifest_digest = manifest.digest()
    version.ingest_report = report or {}
    version.move_to(VersionState.READY)
    uow.trail(
        SYSTEM,
        TrailEvent.VERSION_INGEST,
        version.id,
        dataset=dataset.id,
        job=job.id,
        manifest=version.manifest_digest,
    )
    return version


def refuse_ingest(
    uow: UnitOfWork, job_id: str, *, token: str, problem: dict[str, Any]
) -> DatasetVersion:
    """Mark a version as REFUSED with the problem that its owner reads; its bytes are deleted.

    The job itself is failed by whoever runs it.  Raises: LeaseLost.
    """
    job = fencing.check_token(uow, job_id, token=token)
    version, _ = _load(uow, job)
    mark_refused(uow, version, problem)
    return version


def mark_refused(uow: UnitOfWork, version: DatasetVersion, problem: dict[str, Any] | None) -> None:
    """Refuse a version unless it is ready or refused already."""
    if version.state in {VersionState.UPLOADING, VersionState.INGESTING}:
        version.problem = problem
        version.move_to(VersionState.REFUSED)
        uow.trail(SYSTEM, TrailEvent.VERSION_REFUSE, version.id, dataset=version.dataset_id)


def record_persons(
    uow: UnitOfWork, version: DatasetVersion, person_digests: NDArray[np.uint8]
) -> None:
    """Remember who is in a version, so that a withdrawal finds every version they are in."""
    for chunk in _chunks(person_digests):
        uow.session.execute(
            sa.insert(tables.version_persons),
            [{"version_id": version.id, "person_digest": digest} for digest in chunk],
        )


def join_cohort(
    uow: UnitOfWork,
    dataset: Dataset,
    person_digests: NDArray[np.uint8],
    *,
    content_digests: NDArray[np.uint8],
) -> int:
    """Add persons and records to the dataset's cohort; return how many persons are new in it.

    Raises: InputRefused if one belongs to another cohort of the tenant, or was withdrawn;
    Conflict if another ingest adds the same persons at this moment; JournalBehind.
    """
    persons = _join_persons(uow, dataset, person_digests)
    contents = _join_contents(uow, dataset, content_digests)
    if persons or contents:
        membership.record(uow, dataset, persons=persons, contents=contents)
    return len(persons)


def _join_persons(
    uow: UnitOfWork, dataset: Dataset, person_digests: NDArray[np.uint8]
) -> list[bytes]:
    elsewhere = withdrawn = 0
    added: list[bytes] = []
    for chunk in _chunks(person_digests):
        statement = sa.select(
            _persons.c.person_digest, _persons.c.cohort_id, _persons.c.withdrawn_at
        ).where(_persons.c.tenant_id == dataset.tenant_id, _persons.c.person_digest.in_(chunk))
        known = {bytes(row.person_digest): row for row in uow.session.execute(statement)}
        elsewhere += sum(row.cohort_id != dataset.cohort_id for row in known.values())
        withdrawn += sum(
            row.withdrawn_at is not None and row.cohort_id == dataset.cohort_id
            for row in known.values()
        )
        new = [digest for digest in chunk if digest not in known]
        if new and not elsewhere and not withdrawn:
            _insert(uow, _persons, _rows(dataset, "person_digest", new))
            added += new
    _check_nobody(dataset, elsewhere, withdrawn)
    return added


def _join_contents(
    uow: UnitOfWork, dataset: Dataset, content_digests: NDArray[np.uint8]
) -> list[bytes]:
    """Add records to the cohort: with other ids or another unit, they are still the same data."""
    elsewhere = 0
    added: list[bytes] = []
    for chunk in _chunks(np.unique(content_digests, axis=0)):
        statement = sa.select(_contents.c.content_digest, _contents.c.cohort_id).where(
            _contents.c.tenant_id == dataset.tenant_id, _contents.c.content_digest.in_(chunk)
        )
        known = {bytes(row.content_digest): row for row in uow.session.execute(statement)}
        elsewhere += sum(row.cohort_id != dataset.cohort_id for row in known.values())
        new = [digest for digest in chunk if digest not in known]
        if new and not elsewhere:
            _insert(uow, _contents, _rows(dataset, "content_digest", new))
            added += new
    if elsewhere:
        what, how = _ALIKE[dataset.modality]
        raise InputRefused(
            f"The upload was refused: {elsewhere} {what}(s) in it are also in the cohort of another "
            f"dataset, {how}, and data may not buy a second budget under other ids or another unit "
            "of privacy. Create the dataset so that it joins that dataset's budget "
            "(join_dataset_id), or leave these out.",
            value=elsewhere,
            limit=0,
            remedy="join_dataset_id",
        )
    return added


def _rows(dataset: Dataset, column: str, digests: list[bytes]) -> list[dict[str, Any]]:
    return [
        {"tenant_id": dataset.tenant_id, column: digest, "cohort_id": dataset.cohort_id}
        for digest in digests
    ]


def _insert(uow: UnitOfWork, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    try:
        uow.session.execute(sa.insert(table), rows)
    except IntegrityError as error:
        raise Conflict(
            "The upload was refused: another upload with the same data is being ingested. Try "
            "again once it has ended."
        ) from error


def _check_nobody(dataset: Dataset, elsewhere: int, withdrawn: int) -> None:
    unit = dataset.schema.unit.value
    if elsewhere:
        raise InputRefused(
            f"The upload was refused: {elsewhere} {unit}(s) in it already belong to the cohort of "
            "another dataset, and data may not buy a second budget. Create the dataset so that it "
            "joins that dataset's budget (join_dataset_id), or leave these out.",
            value=elsewhere,
            limit=0,
            remedy="join_dataset_id",
        )
    if withdrawn:
        raise InputRefused(
            f"The upload was refused: {withdrawn} {unit}(s) in it were withdrawn from this "
            "dataset. Remove them from the source and upload it again.",
            value=withdrawn,
            limit=0,
            remedy="remove withdrawn persons",
        )


def _chunks(person_digests: NDArray[np.uint8]) -> Iterator[list[bytes]]:
    for start in range(0, len(person_digests), CHUNK_PERSONS):
        yield [row.tobytes() for row in np.asarray(person_digests[start : start + CHUNK_PERSONS])]


def _load(uow: UnitOfWork, job: Job) -> tuple[DatasetVersion, Dataset]:
    version = uow.get(DatasetVersion, job.version_id, lock=True) if job.version_id else None
    dataset = uow.get(Dataset, job.dataset_id)
    if version is None or dataset is None:
        raise NotFound(f"The dataset version of job {job.id} is missing.")
    return version, dataset
