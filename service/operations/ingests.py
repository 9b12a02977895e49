"""End an ingest: join persons to their cohort and make the version ready, or refuse it whole.

Both run under the job's fencing token. The raw upload is deleted when the job ends, either way
(`service.operations.endings`), so that an interrupted ingest can be repeated until then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
JOIN = "join_dataset_id"  # remedy of an upload whose members are in another cohort
FEW = 10  # below it, counts of who is known elsewhere are not told: a count is an exact query
_SAME_IMAGES = "{} image(s) in it are also in the cohort of another dataset, pixel for pixel"
_ALIKE = {
    "image": _SAME_IMAGES,
    "joint": _SAME_IMAGES,  # its rows are compared by themselves, as those of a table
    "table": "{} row(s) in it are also in the cohort of another dataset, cell for cell",
    "columns": "whole stretches of a column of numbers in it are also in the cohort of another "
    "dataset, value for value, whatever the columns are called",
}
_NOBODY_KNOWN = {
    "person": "Nobody in this version was known in the budget that it shares. If these are persons "
    "of the budget's other uploads, their ids are written in another way: nobody then keeps the "
    "arm they have, and a withdrawal misses them here. Compare the ids, and upload the data "
    "again if they differ, before anything is trained.",
    "record": "Nothing in this version was known in the budget that it shares. Records are known "
    "again only if they are wholly alike, of a table in every declared column: if these are "
    "records of the budget's other uploads, none keeps the arm it has. Declare the same columns, "
    "and upload the data again, before anything is trained.",
}
_persons = tables.cohort_persons
_contents = tables.cohort_contents


@dataclass(frozen=True)
class Joined:
    """How an upload met the members that its cohort had. Private."""

    new: int  # units of privacy
    known: int
    is_first: bool  # the cohort had nobody


def finish_ingest(  # noqa: PLR0913 - what an ingest found
    uow: UnitOfWork,
    job_id: str,
    *,
    token: str,
    manifest: DatasetManifest,
    person_digests: NDArray[np.uint8],
    content_digests: NDArray[np.uint8],
    row_digests: NDArray[np.uint8] | None = None,
    column_digests: NDArray[np.uint8] | None = None,
    report: dict[str, Any] | None = None,
) -> DatasetVersion:
    """Make a version READY and its persons members of the dataset's cohort.

    Shapes: person_digests (persons, 32), content_digests (records, 32) of images or rows alone,
    row_digests (records, 32) of the rows that images come with, column_digests (any, 32) of stretches
    of a table's columns.
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
    joined = join_cohort(
        uow,
        dataset,
        person_digests,
        content_digests=content_digests,
        row_digests=row_digests,
        column_digests=column_digests,
    )
    record_persons(uow, version, person_digests)
    version.manifest = manifest.model_dump(mode="json")
    version.manifest_digest = manifest.digest()
    version.ingest_report = {**(report or {}), **_about_members(dataset, joined)}
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
        # So that auditors can count attempts to ask who is in another dataset.
        elsewhere = {"known_elsewhere": True} if (problem or {}).get("remedy") == JOIN else {}
        uow.trail(
            SYSTEM, TrailEvent.VERSION_REFUSE, version.id, dataset=version.dataset_id, **elsewhere
        )


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
    row_digests: NDArray[np.uint8] | None = None,
    column_digests: NDArray[np.uint8] | None = None,
) -> Joined:
    """Add persons, records and columns to the dataset's cohort; return how many were known in it.

    Raises: InputRefused if one belongs to another cohort of the tenant, or was withdrawn;
    Conflict if another ingest adds the same persons at this moment; JournalBehind.
    """
    anybody = sa.select(_persons.c.cohort_id).where(_persons.c.cohort_id == dataset.cohort_id)
    is_first = uow.session.execute(anybody.limit(1)).first() is None
    persons = _join_persons(uow, dataset, person_digests)
    contents = _join_contents(uow, dataset, content_digests, what=dataset.modality)
    for digests, what in ((row_digests, "table"), (column_digests, "columns")):
        if digests is not None and len(digests):
            contents += _join_contents(uow, dataset, digests, what=what)
    if persons or contents:
        membership.record(uow, dataset, persons=persons, contents=contents)
    return Joined(len(persons), len(person_digests) - len(persons), is_first)


def _about_members(dataset: Dataset, joined: Joined) -> dict[str, Any]:
    """Return what the owner is told about whom the budget knew; nothing where it knew nobody."""
    if joined.is_first:
        return {}
    told: dict[str, Any] = {"known_in_budget": _told(joined.known) if joined.known else "none"}
    if not joined.known:
        told["nobody_known"] = _NOBODY_KNOWN[dataset.schema.unit.value]
    return told


def _told(count: int) -> str:
    return "some" if 0 < count < FEW else f"{count}"


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
    uow: UnitOfWork, dataset: Dataset, content_digests: NDArray[np.uint8], *, what: str
) -> list[bytes]:
    """Add records or columns to the cohort: with other ids or another unit, they are still the same data."""
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
        told = _told(elsewhere)
        raise InputRefused(
            f"The upload was refused: {_ALIKE[what].format(told)}, and data may not buy a second "
            "budget under other ids, other columns or another unit of privacy. Create the dataset "
            "so that it joins that dataset's budget (join_dataset_id), or leave these out.",
            value=told,
            limit=0,
            remedy=JOIN,
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
            f"The upload was refused: {_told(elsewhere)} {unit}(s) in it already belong to the cohort of "
            "another dataset, and data may not buy a second budget. Create the dataset so that it "
            "joins that dataset's budget (join_dataset_id), or leave these out.",
            value=_told(elsewhere),
            limit=0,
            remedy=JOIN,
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
