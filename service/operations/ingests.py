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
from service.operations import fencing
from service.store import tables
from service.store.unit_of_work import UnitOfWork

CHUNK_PERSONS = 500
_persons = tables.cohort_persons


def finish_ingest(
    uow: UnitOfWork,
    job_id: str,
    *,
    token: str,
    manifest: DatasetManifest,
    person_digests: NDArray[np.uint8],
    report: dict[str, Any] | None = None,
) -> DatasetVersion:
    """Make a version READY and its persons members of the dataset's cohort.

    Shapes: person_digests (persons, 32). Repeating it after an interruption changes nothing.
    Raises: InputRefused if a person belongs to another cohort or was withdrawn: nothing is
    written then, and the worker refuses the version; LeaseLost.
    """
    job = fencing.check_token(uow, job_id, token=token)
    version, dataset = _load(uow, job)
    if version.state is VersionState.READY:
        return version
    if manifest.declared != dataset.schema or manifest.person_count != len(person_digests):
        raise InputRefused("The manifest was refused: it is about another dataset.")
    join_cohort(uow, dataset, person_digests)
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


def join_cohort(uow: UnitOfWork, dataset: Dataset, person_digests: NDArray[np.uint8]) -> int:
    """Add persons to the dataset's cohort; return how many are new in it.

    Raises: InputRefused if one belongs to another cohort of the tenant, or was withdrawn;
    Conflict if another ingest adds the same persons at this moment.
    """
    elsewhere = withdrawn = added = 0
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
        new = [
            {
                "tenant_id": dataset.tenant_id,
                "person_digest": digest,
                "cohort_id": dataset.cohort_id,
            }
            for digest in chunk
            if digest not in known
        ]
        if new and not elsewhere and not withdrawn:
            try:
                uow.session.execute(sa.insert(_persons), new)
            except IntegrityError as error:
                raise Conflict(
                    "The upload was refused: another upload with the same persons is being "
                    "ingested. Try again once it has ended."
                ) from error
            added += len(new)
    _check_nobody(dataset, elsewhere, withdrawn)
    return added


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
