"""Take an upload: presigned multipart straight to object storage, or a plain streamed body.

The bytes never pass through a transaction: checks come first, the transfer next, and a second
transaction turns what has arrived into an INGEST job.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import sqlalchemy as sa
from botocore.exceptions import ClientError

from privacy.table_schema import TableSchema
from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.datasets import Dataset, DatasetVersion, DeclaredSchema, VersionState
from service.domain.errors import Conflict, IllegalTransition, InputRefused, QuotaExceeded
from service.domain.identifiers import new_id
from service.domain.jobs import Job, JobKind
from service.domain.trail import TrailEvent
from service.operations.queueing import check_quota, queue_job
from service.store import tables
from service.store.objects import Bucket, ObjectMissing
from service.store.unit_of_work import UnitOfWork

IMAGE_SUFFIXES = (".zip", ".npz")
TABLE_SUFFIXES = (".csv", ".parquet")
MOST_PARTS = 10_000
_HOLDS_BYTES = (VersionState.UPLOADING, VersionState.INGESTING, VersionState.READY)


def start_upload(
    uow: UnitOfWork, actor: Actor, *, dataset_id: str, suffix: str, size_bytes: int
) -> DatasetVersion:
    """Create a version in state UPLOADING and a multipart upload for its bytes.

    Raises: InputRefused for suffix or size; QuotaExceeded; NotFound; PermissionDenied.
    """
    dataset = permissions.check_may_change_dataset(
        actor, uow.get(Dataset, dataset_id, lock=True), asked=dataset_id
    )
    suffixes = suffixes_of(dataset.schema)
    if suffix not in suffixes:
        raise InputRefused(
            f"A file ending in {suffix[:20]!r} was refused: this dataset holds "
            f"{'images' if '.zip' in suffixes else 'a table'}. "
            f"Upload one of: {', '.join(suffixes)}.",
            value=suffix[:20],
        )
    _check_size(uow, actor.tenant_id, size_bytes)
    part_bytes = max(uow.settings.part_bytes, -(-size_bytes // MOST_PARTS))
    version = DatasetVersion(
        id=new_id("ver"),
        tenant_id=dataset.tenant_id,
        dataset_id=dataset.id,
        number=next_number(uow, dataset.id),
        created_by=actor.user_id,
        created_at=uow.now(),
        raw_bytes=size_bytes,
        part_bytes=part_bytes,
        part_count=max(1, -(-size_bytes // part_bytes)),
    )
    version.raw_key = f"raw/{dataset.tenant_id}/{dataset.id}/{version.id}{suffix}"
    version.upload_id = uow.objects.start_multipart(Bucket.WORK, version.raw_key)
    uow.session.add(version)
    uow.trail(actor, TrailEvent.VERSION_START_UPLOAD, version.id, dataset=dataset.id)
    return version


def suffixes_of(schema: DeclaredSchema) -> tuple[str, ...]:
    """Return what an upload may end in; a table with an image for each row comes as a zip."""
    if isinstance(schema, TableSchema):
        return (".zip",) if schema.images else TABLE_SUFFIXES
    return IMAGE_SUFFIXES


def presign_upload_parts(
    uow: UnitOfWork, actor: Actor, *, version_id: str, part_numbers: Sequence[int]
) -> dict[int, str]:
    """Return a URL for each part number; PUT the part there and keep its ETag header."""
    version = _uploading(uow, actor, version_id)
    wrong = [number for number in part_numbers if not 1 <= number <= version.part_count]
    if wrong or not part_numbers:
        raise InputRefused(
            f"Part numbers {wrong} were refused: this upload has parts 1 to {version.part_count}.",
            value=wrong,
            limit=version.part_count,
        )
    key, upload_id = _places(version)
    return {
        number: uow.objects.presign_part(
            Bucket.WORK,
            key,
            upload_id=upload_id,
            number=number,
            seconds=uow.settings.upload_url_seconds,
        )
        for number in sorted(set(part_numbers))
    }


def complete_upload(
    uow: UnitOfWork, actor: Actor, *, version_id: str, parts: Sequence[tuple[int, str]]
) -> Job:
    """Join the parts that arrived and queue the INGEST job.

    Raises: InputRefused if parts are missing, unknown to the store, or larger than announced.
    """
    version = _uploading(uow, actor, version_id)
    check_quota(uow, actor.tenant_id)
    if sorted(number for number, _ in parts) != list(range(1, version.part_count + 1)):
        raise InputRefused(
            f"Completing the upload was refused: parts 1 to {version.part_count} are needed, each "
            f"once; {len(parts)} were named. Upload the missing ones.",
            limit=version.part_count,
        )
    key, upload_id = _places(version)
    try:
        uow.objects.complete_multipart(Bucket.WORK, key, upload_id=upload_id, parts=parts)
    except ClientError as error:
        # Joined already, if an earlier request was interrupted between the store and the commit.
        if not uow.objects.exists(Bucket.WORK, key):
            raise InputRefused(
                "Completing the upload was refused: object storage does not have these parts "
                f"({error.response['Error']['Code']}). Upload them again and name their ETags."
            ) from error
    return _arrived(uow, actor, version_id, announced_bytes=version.raw_bytes)


def put_upload(uow: UnitOfWork, actor: Actor, *, version_id: str, chunks: Iterable[bytes]) -> Job:
    """Stream a plain body into object storage and queue the INGEST job.

    Raises: InputRefused once more bytes come than were announced; nothing is stored then.
    """
    version = _uploading(uow, actor, version_id)
    check_quota(uow, actor.tenant_id)
    key, upload_id = _places(version)
    announced = version.raw_bytes
    uow.rollback()  # nothing was changed, and no lock may be held while gigabytes arrive
    try:
        uow.objects.put_stream(Bucket.WORK, key, chunks=chunks, limit_bytes=announced)
    except ValueError as error:
        raise InputRefused(
            f"The upload was refused: {error}, and {announced} bytes were announced. "
            "Start an upload with the file's real size.",
            limit=announced,
        ) from error
    uow.objects.abort_multipart(Bucket.WORK, key, upload_id=upload_id)
    return _arrived(uow, actor, version_id, announced_bytes=announced)


def expire_uploads(uow: UnitOfWork) -> int:
    """Refuse uploads that nobody completed in time, so that they hold no quota; commits."""
    limit = uow.now() - timedelta(seconds=uow.settings.upload_expiry_seconds)
    statement = sa.select(DatasetVersion).where(
        tables.dataset_versions.c.state == VersionState.UPLOADING,
        tables.dataset_versions.c.created_at < limit,
    )
    stale = list(uow.session.execute(statement.with_for_update()).scalars())
    for version in stale:
        version.problem = {
            "type": "upload-expired",
            "detail": "The upload was refused: it was not completed in time. Start a new one.",
        }
        version.move_to(VersionState.REFUSED)
        uow.trail(SYSTEM, TrailEvent.VERSION_REFUSE, version.id, dataset=version.dataset_id)
    uow.commit()
    return len(stale)


def uploading_version(
    uow: UnitOfWork, actor: Actor, version_id: str, *, lock: bool = False
) -> tuple[DatasetVersion, str, str]:
    """Return a version whose bytes may still come, its key and the id of its multipart upload.

    Raises: NotFound, PermissionDenied; IllegalTransition once the upload has ended.
    """
    if lock:
        uow.get(DatasetVersion, version_id, lock=True)
    version = _uploading(uow, actor, version_id)
    return (version, *_places(version))


def next_number(uow: UnitOfWork, dataset_id: str) -> int:
    """Return the number of a dataset's next version."""
    statement = sa.select(sa.func.max(tables.dataset_versions.c.number)).where(
        tables.dataset_versions.c.dataset_id == dataset_id
    )
    return int(uow.session.execute(statement).scalar() or 0) + 1


def _arrived(uow: UnitOfWork, actor: Actor, version_id: str, *, announced_bytes: int) -> Job:
    version = uow.get(DatasetVersion, version_id, lock=True)
    if version is None or version.state is not VersionState.UPLOADING:
        _discard_late(uow, version)
        raise Conflict(
            "The upload was refused: another request completed it first, or it expired. Read the "
            "version again."
        )
    key, _ = _places(version)
    try:
        size = uow.objects.head(Bucket.WORK, key).size
    except ObjectMissing as error:
        raise InputRefused("The upload was refused: nothing has arrived. Upload it.") from error
    if size > announced_bytes:
        refusal = InputRefused(
            f"The upload was refused: {size} bytes arrived and {announced_bytes} were announced. "
            "Start an upload with the file's real size.",
            value=size,
            limit=announced_bytes,
        )
        _refuse(uow, actor, version, refusal)
        raise refusal
    version.raw_bytes = size
    version.upload_id = None
    version.move_to(VersionState.INGESTING)
    uow.trail(actor, TrailEvent.VERSION_UPLOAD, version.id, bytes=size)
    return queue_job(
        uow,
        actor,
        kind=JobKind.INGEST,
        tenant_id=version.tenant_id,
        dataset_id=version.dataset_id,
        version_id=version.id,
        payload={"raw_key": key, "bytes": size},
    )


def _refuse(uow: UnitOfWork, actor: Actor, version: DatasetVersion, refusal: InputRefused) -> None:
    """Refuse a version whose parts were joined to what cannot be taken; commits.

    Its multipart upload has ended with that, so no other bytes could ever come.
    """
    key, _ = _places(version)
    version.problem = {"type": refusal.slug, "detail": refusal.sentence, **refusal.extensions}
    version.upload_id = None
    version.move_to(VersionState.REFUSED)
    uow.trail(actor, TrailEvent.VERSION_REFUSE, version.id, dataset=version.dataset_id)
    uow.commit()
    uow.objects.delete(Bucket.WORK, key)


def _discard_late(uow: UnitOfWork, version: DatasetVersion | None) -> None:
    """Delete bytes that arrived after their version was refused or its upload swept.

    Nobody would look for them again. Before that, another request's upload is under the same key.
    """
    if version is None or version.raw_key is None:
        return
    if version.state is VersionState.REFUSED or version.raw_erased_at is not None:
        uow.objects.delete(Bucket.WORK, version.raw_key)


def _uploading(uow: UnitOfWork, actor: Actor, version_id: str) -> DatasetVersion:
    version = permissions.check_may_upload(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    if version.state is not VersionState.UPLOADING:
        raise IllegalTransition(
            f"The upload was refused: version {version.number} is {version.state.value}. "
            "Start a new upload.",
            state=version.state.value,
        )
    return version


def _places(version: DatasetVersion) -> tuple[str, str]:
    if version.raw_key is None or version.upload_id is None:
        raise IllegalTransition("The upload was refused: it has ended. Start a new upload.")
    return version.raw_key, version.upload_id


def _check_size(uow: UnitOfWork, tenant_id: str, size_bytes: int) -> None:
    most = uow.settings.max_upload_bytes
    if not 1 <= size_bytes <= most:
        raise InputRefused(
            f"An upload of {size_bytes} bytes was refused: give 1 to {most}. "
            "Split the data into several versions, or ask an operator for more.",
            value=size_bytes,
            limit=most,
        )
    statement = sa.select(sa.func.coalesce(sa.func.sum(tables.dataset_versions.c.raw_bytes), 0))
    statement = statement.where(
        tables.dataset_versions.c.tenant_id == tenant_id,
        tables.dataset_versions.c.state.in_(_HOLDS_BYTES),
    )
    used, limit = int(uow.session.execute(statement).scalar_one()), uow.settings.quota_upload_bytes
    if used + size_bytes > limit:
        raise QuotaExceeded(
            f"The upload was refused: {used} bytes of this tenant are stored, and {size_bytes} "
            f"more would pass its quota of {limit}. Ask an operator for more.",
            value=used + size_bytes,
            limit=limit,
        )
