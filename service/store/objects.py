"""The object store: S3 through boto3, the one implementation. Nothing here knows what it stores.

Four buckets, one per state: `work` (raw, versions, candidates, checkpoints), `released`,
`quarantine` and `journal`. Gigabytes are streamed; memory holds a few parts at most.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import structlog
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from privacy.errors import DigestMismatch
from service.config import MEBIBYTE, Settings
from service.store.s3 import connect, file_sha256, in_parts

CHUNK_BYTES = MEBIBYTE
_TRANSFER = TransferConfig(
    multipart_threshold=32 * MEBIBYTE, multipart_chunksize=16 * MEBIBYTE, max_concurrency=4
)
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound"})
_EXISTS = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_log = structlog.get_logger(__name__)


__all__ = ["Bucket", "ObjectInfo", "ObjectMissing", "ObjectStore", "PartInfo", "file_sha256"]


class Bucket(StrEnum):
    """What state the objects in it are in."""

    WORK = "work"
    RELEASED = "released"
    QUARANTINE = "quarantine"
    JOURNAL = "journal"


class ObjectMissing(LookupError):
    """No object has this key."""


@dataclass(frozen=True)
class ObjectInfo:
    """What HEAD tells."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class PartInfo:
    """One part of a multipart upload that has arrived."""

    number: int
    size: int
    etag: str


class ObjectStore:
    """Keys are chosen by the service; names that users give never become keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = connect(settings, settings.s3_endpoint_url)
        public = settings.s3_public_endpoint_url or settings.s3_endpoint_url
        self._public_client = connect(settings, public)
        self._is_locked = False

    def bucket(self, bucket: Bucket) -> str:
        """Return the bucket's full name."""
        return f"{self._settings.s3_bucket_prefix}-{bucket.value}"

    def create_buckets(self) -> None:
        """Create what is missing; the journal's bucket with object lock where that is supported."""
        for bucket in Bucket:
            name = self.bucket(bucket)
            if self._has_bucket(name):
                continue
            if bucket is Bucket.JOURNAL and self._create(name, lock=True):
                continue
            self._create(name, lock=False)

    def has_object_lock(self) -> bool:
        """Tell whether the journal's bucket was made with object lock."""
        name = self.bucket(Bucket.JOURNAL)
        try:
            answer = self._client.get_object_lock_configuration(Bucket=name)
        except ClientError:
            return False
        return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    def _locks_journal(self) -> bool:
        # Only a yes is remembered: a no may have been an outage.
        self._is_locked = self._is_locked or self.has_object_lock()
        return self._is_locked

    def ping(self) -> None:
        """Raise if the store does not answer."""
        self._client.head_bucket(Bucket=self.bucket(Bucket.WORK))

    def put_bytes(
        self, bucket: Bucket, key: str, *, body: bytes, content_type: str = "application/json"
    ) -> str:
        """Store `body`; return its SHA-256."""
        self._client.put_object(
            Bucket=self.bucket(bucket), Key=key, Body=body, ContentType=content_type
        )
        return hashlib.sha256(body).hexdigest()

    def put_file(
        self,
        bucket: Bucket,
        key: str,
        *,
        path: Path,
        content_type: str = "application/octet-stream",
    ) -> str:
        """Stream a file into the store; return the SHA-256 of its bytes."""
        digest = file_sha256(path)
        self._client.upload_file(
            str(path),
            self.bucket(bucket),
            key,
            ExtraArgs={"ContentType": content_type},
            Config=_TRANSFER,
        )
        return digest

    def put_stream(
        self, bucket: Bucket, key: str, *, chunks: Iterable[bytes], limit_bytes: int
    ) -> int:
        """Store chunks as they come, as a multipart upload; return the number of bytes.

        Memory holds one part. Raises: ValueError once more than `limit_bytes` came; whatever
        `chunks` raises. Nothing is stored then.
        """
        name = self.bucket(bucket)
        upload_id = self._client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
        parts: list[tuple[int, str]] = []
        total = 0
        try:
            for number, part in enumerate(in_parts(chunks, self._settings.part_bytes), start=1):
                total = _added(total, len(part), limit_bytes)
                answer = self._client.upload_part(
                    Bucket=name, Key=key, UploadId=upload_id, PartNumber=number, Body=part
                )
                parts.append((number, answer["ETag"]))
            self.complete_multipart(bucket, key, upload_id=upload_id, parts=parts)
        except BaseException:
            self.abort_multipart(bucket, key, upload_id=upload_id)
            raise
        return total

    def get_to_file(
        self, bucket: Bucket, key: str, *, path: Path, sha256: str | None = None
    ) -> None:
        """Stream an object into a file; with `sha256`, keep it only if its bytes match.

        Raises: ObjectMissing; DigestMismatch, and the file is gone.
        """
        self.head(bucket, key)
        self._client.download_file(self.bucket(bucket), key, str(path), Config=_TRANSFER)
        if sha256 is not None and (found := file_sha256(path)) != sha256:
            path.unlink()
            raise DigestMismatch(
                f"Object {key} was refused: its SHA-256 is {found}, {sha256} was recorded. "
                "It was changed in the object store; restore it from a backup."
            )

    def get_bytes(
        self, bucket: Bucket, key: str, *, sha256: str | None = None, limit_bytes: int = 1 << 28
    ) -> bytes:
        """Return a small object.  Raises: ObjectMissing, DigestMismatch, ValueError if large."""
        info = self.head(bucket, key)
        if info.size > limit_bytes:
            raise ValueError(f"object {key} has {info.size} bytes, the limit is {limit_bytes}")
        answer = self._client.get_object(Bucket=self.bucket(bucket), Key=key)
        body = answer["Body"].read()
        if sha256 is not None and hashlib.sha256(body).hexdigest() != sha256:
            raise DigestMismatch(
                f"Object {key} was refused: its bytes differ from the recorded SHA-256 {sha256}."
            )
        return body

    def open_range(
        self, bucket: Bucket, key: str, *, first: int = 0, last: int | None = None
    ) -> Iterator[bytes]:
        """Yield the bytes from `first` to `last`, both included, in chunks of 1 MiB."""
        span = f"bytes={first}-{'' if last is None else last}"
        try:
            answer = self._client.get_object(Bucket=self.bucket(bucket), Key=key, Range=span)
        except ClientError as error:
            raise _translated(error, key) from error
        body = answer["Body"]
        with contextlib.closing(body):
            yield from body.iter_chunks(CHUNK_BYTES)

    def head(self, bucket: Bucket, key: str) -> ObjectInfo:
        """Return size and time of an object.  Raises: ObjectMissing."""
        try:
            answer = self._client.head_object(Bucket=self.bucket(bucket), Key=key)
        except ClientError as error:
            raise _translated(error, key) from error
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"])

    def exists(self, bucket: Bucket, key: str) -> bool:
        """Tell whether an object has this key."""
        try:
            self.head(bucket, key)
        except ObjectMissing:
            return False
        return True

    def list_keys(self, bucket: Bucket, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the keys under `prefix` that sort behind `after`, in order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket(bucket), Prefix=prefix, StartAfter=after
        )
        for page in pages:
            for entry in page.get("Contents", []):
                yield entry["Key"]

    def list_objects(self, bucket: Bucket) -> Iterator[ObjectInfo]:
        """Yield everything in a bucket with its size, in the order of the keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket(bucket))
        for page in pages:
            for entry in page.get("Contents", []):
                yield ObjectInfo(entry["Key"], entry["Size"], entry["LastModified"])

    def delete(self, bucket: Bucket, key: str) -> None:
        """Delete an object; one that is not there is fine."""
        self._client.delete_object(Bucket=self.bucket(bucket), Key=key)

    def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        """Delete everything under `prefix`; return how many objects went."""
        keys = list(self.list_keys(bucket, prefix))
        for key in keys:
            self.delete(bucket, key)
        return len(keys)

    def move(self, key: str, *, source: Bucket, target: Bucket) -> None:
        """Copy, compare sizes, then delete the source. Safe to repeat after an interruption."""
        if self.exists(source, key):
            origin = {"Bucket": self.bucket(source), "Key": key}
            self._client.copy(cast("Any", origin), self.bucket(target), key, Config=_TRANSFER)
            if self.head(target, key).size != self.head(source, key).size:
                raise DigestMismatch(f"Moving {key} was refused: the copy has another size.")
            self.delete(source, key)
        elif not self.exists(target, key):
            raise ObjectMissing(f"object {key} is in neither {source} nor {target}")

    def put_immutable(self, key: str, body: bytes, *, retention_days: int = 0) -> None:
        """Store into the journal's bucket, never over an existing object.

        With `retention_days`, nobody can delete it before (object lock, COMPLIANCE), if the bucket
        was made with object lock; `create_buckets` warns where the store has none.
        """
        options: dict[str, Any] = {}
        if retention_days and self._locks_journal():
            until = datetime.now(UTC) + timedelta(days=retention_days)
            options = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
            options["ChecksumAlgorithm"] = "SHA256"
        try:
            self._client.put_object(
                Bucket=self.bucket(Bucket.JOURNAL),
                Key=key,
                Body=body,
                ContentType="application/json",
                IfNoneMatch="*",
                **options,
            )
        except ClientError as error:
            # The key holds the digest, so an object that is there already is this very one.
            if error.response["Error"]["Code"] not in {"PreconditionFailed", "412"}:
                raise

    def presign_get(self, bucket: Bucket, key: str, *, seconds: int, file_name: str) -> str:
        """Return a URL that downloads one object under `file_name` for a short time."""
        return self._public_client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket(bucket),
                "Key": key,
                "ResponseContentDisposition": f'attachment; filename="{file_name}"',
            },
            ExpiresIn=seconds,
        )

    def start_multipart(self, bucket: Bucket, key: str) -> str:
        """Start a multipart upload; return its id."""
        answer = self._client.create_multipart_upload(Bucket=self.bucket(bucket), Key=key)
        return answer["UploadId"]

    def presign_part(
        self, bucket: Bucket, key: str, *, upload_id: str, number: int, seconds: int
    ) -> str:
        """Return a URL that takes one part by PUT."""
        return self._public_client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": self.bucket(bucket),
                "Key": key,
                "UploadId": upload_id,
                "PartNumber": number,
            },
            ExpiresIn=seconds,
        )

    def put_part(
        self, bucket: Bucket, key: str, *, upload_id: str, number: int, body: bytes
    ) -> str:
        """Store one part of a multipart upload; return its ETag.  Raises: ObjectMissing."""
        try:
            answer = self._client.upload_part(
                Bucket=self.bucket(bucket),
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
            )
        except ClientError as error:
            raise _translated(error, key) from error
        return answer["ETag"]

    def list_parts(self, bucket: Bucket, key: str, *, upload_id: str) -> list[PartInfo]:
        """Return the parts that have arrived, in order.  Raises: ObjectMissing."""
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self.bucket(bucket), Key=key, UploadId=upload_id
        )
        try:
            return [
                PartInfo(part["PartNumber"], part["Size"], part["ETag"])
                for page in pages
                for part in page.get("Parts", [])
            ]
        except ClientError as error:
            raise _translated(error, key) from error

    def complete_multipart(
        self, bucket: Bucket, key: str, *, upload_id: str, parts: Iterable[tuple[int, str]]
    ) -> None:
        """Join the parts, given as (number, ETag)."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(parts)]
        self._client.complete_multipart_upload(
            Bucket=self.bucket(bucket),
            Key=key,
            UploadId=upload_id,
            MultipartUpload=cast("Any", {"Parts": listed}),
        )

    def abort_multipart(self, bucket: Bucket, key: str, *, upload_id: str) -> None:
        """Drop the parts of an upload; one that is gone already is fine."""
        with contextlib.suppress(ClientError):
            self._client.abort_multipart_upload(
                Bucket=self.bucket(bucket), Key=key, UploadId=upload_id
            )

    def _has_bucket(self, name: str) -> bool:
        try:
            self._client.head_bucket(Bucket=name)
        except ClientError:
            return False
        return True

    def _create(self, name: str, *, lock: bool) -> bool:
        options: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if lock else {}
        try:
            self._client.create_bucket(Bucket=name, **options)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _EXISTS:
                return True
            if not lock:
                raise
            _log.warning("the store has no object lock; anchors can be deleted", code=code)
            return False
        return True


def _added(total: int, more: int, limit: int) -> int:
    if total + more > limit:
        raise ValueError(f"more than {limit} bytes came")
    return total + more


def _translated(error: ClientError, key: str) -> Exception:
    if error.response["Error"]["Code"] in _MISSING:
        return ObjectMissing(f"no object has the key {key}")
    return error
