"""Take an upload part by part through the service: what a browser does, and resumes after a break.

Programs send parts straight to object storage by presigned URLs. A browser may speak to its own
origin only, so its parts pass through here, one at a time, each checked against its SHA-256.
"""

import hashlib
from collections.abc import Iterable

from service.domain.accounts import Actor
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.errors import IllegalTransition, InputRefused
from service.domain.jobs import Job
from service.domain.trail import TrailEvent
from service.operations.uploads import complete_upload, uploading_version
from service.operations.withdrawals import sweep_version
from service.store.objects import Bucket, ObjectMissing, PartInfo
from service.store.unit_of_work import UnitOfWork

ABANDONED = "The upload was given up by its owner before all of it had arrived."
_GONE = (
    "The part was refused: object storage no longer knows this upload; it was completed, given up "
    "or has expired. Start a new upload."
)


def list_parts(uow: UnitOfWork, actor: Actor, *, version_id: str) -> list[PartInfo]:
    """Return the parts that have arrived, so that a browser sends the missing ones only.

    Raises: NotFound, PermissionDenied, IllegalTransition once the upload has ended.
    """
    version, key, upload_id = uploading_version(uow, actor, version_id)
    try:
        found = uow.objects.list_parts(Bucket.WORK, key, upload_id=upload_id)
    except ObjectMissing as error:
        raise IllegalTransition(_GONE) from error
    return [part for part in found if part.size == part_size(version, part.number)]


def put_part(
    uow: UnitOfWork,
    actor: Actor,
    *,
    version_id: str,
    number: int,
    sha256: str,
    chunks: Iterable[bytes],
) -> PartInfo:
    """Store one part whose bytes have this SHA-256.

    Raises: InputRefused for a number that the upload does not have, or bytes of another length or
    digest; IllegalTransition once the upload has ended; NotFound, PermissionDenied.
    """
    version, key, upload_id = uploading_version(uow, actor, version_id)
    if not 1 <= number <= version.part_count:
        raise InputRefused(
            f"Part {number} was refused: this upload has parts 1 to {version.part_count}.",
            value=number,
            limit=version.part_count,
        )
    wanted = part_size(version, number)
    uow.rollback()  # no transaction is open while the bytes arrive
    body = _gathered(chunks, number=number, wanted=wanted)
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise InputRefused(
            f"Part {number} was refused: its SHA-256 is {found}, and {sha256[:64]} was announced. "
            "It was damaged on the way, or the file has changed; send it again.",
            value=found,
            limit=sha256[:64],
        )
    try:
        etag = uow.objects.put_part(Bucket.WORK, key, upload_id=upload_id, number=number, body=body)
    except ObjectMissing as error:
        raise IllegalTransition(_GONE) from error
    return PartInfo(number, wanted, etag)


def complete_parts(uow: UnitOfWork, actor: Actor, *, version_id: str) -> Job:
    """Join the parts that have arrived and queue the INGEST job.

    Raises: InputRefused naming the parts that are missing, and what `complete_upload` raises.
    """
    version, _, _ = uploading_version(uow, actor, version_id)
    arrived = list_parts(uow, actor, version_id=version_id)
    missing = sorted(set(range(1, version.part_count + 1)) - {part.number for part in arrived})
    if missing:
        named = ", ".join(str(number) for number in missing[:5])
        raise InputRefused(
            f"Completing the upload was refused: {len(missing)} of {version.part_count} parts are "
            f"missing ({named}{' and more' if len(missing) > 5 else ''}). Send them first.",
            value=len(missing),
            limit=0,
        )
    parts = [(part.number, part.etag) for part in arrived]
    return complete_upload(uow, actor, version_id=version_id, parts=parts)


def abandon_upload(uow: UnitOfWork, actor: Actor, *, version_id: str) -> DatasetVersion:
    """Give up an upload: its parts are deleted, its version is refused.

    Raises: IllegalTransition once the upload has ended; NotFound, PermissionDenied.
    """
    version, _, _ = uploading_version(uow, actor, version_id, lock=True)
    version.problem = {"type": "upload-abandoned", "detail": ABANDONED}
    version.move_to(VersionState.REFUSED)
    uow.trail(actor, TrailEvent.VERSION_REFUSE, version.id, dataset=version.dataset_id)
    uow.commit()
    sweep_version(uow, version.id)
    return version


def part_size(version: DatasetVersion, number: int) -> int:
    """Return how many bytes a part must have: all but the last are equally long."""
    if number < version.part_count:
        return version.part_bytes
    return version.raw_bytes - version.part_bytes * (version.part_count - 1)


def _gathered(chunks: Iterable[bytes], *, number: int, wanted: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > wanted:
            break
    if len(body) != wanted:
        size = f"more than {wanted}" if len(body) > wanted else str(len(body))
        raise InputRefused(
            f"Part {number} was refused: {size} bytes came, and it has {wanted}. Send it again.",
            value=len(body),
            limit=wanted,
        )
    return bytes(body)
