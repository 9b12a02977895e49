"""The object store against a real S3 server: streams, ranges, digests, presigned URLs, moves."""

import hashlib
import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from privacy.errors import DigestMismatch
from service.store.objects import Bucket, ObjectMissing, ObjectStore
from service.wiring import Application

MEBIBYTE = 1024 * 1024


@pytest.fixture
def objects(sqlite_application: Application) -> ObjectStore:
    """Return a store with buckets of its own."""
    return sqlite_application.objects


def test_making_buckets_twice_changes_nothing(objects: ObjectStore) -> None:
    objects.put_bytes(Bucket.WORK, "kept", body=b"1")
    objects.create_buckets()
    assert objects.get_bytes(Bucket.WORK, "kept") == b"1"


def test_a_file_comes_back_with_its_digest(objects: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(secrets.token_bytes(3 * MEBIBYTE))
    digest = objects.put_file(Bucket.WORK, "a/b", path=source)
    target = tmp_path / "target"
    objects.get_to_file(Bucket.WORK, "a/b", path=target, sha256=digest)
    assert target.read_bytes() == source.read_bytes()


def test_a_changed_object_is_refused_and_leaves_no_file(
    objects: ObjectStore, tmp_path: Path
) -> None:
    digest = objects.put_bytes(Bucket.WORK, "k", body=b"before")
    objects.put_bytes(Bucket.WORK, "k", body=b"after")
    target = tmp_path / "target"
    with pytest.raises(DigestMismatch):
        objects.get_to_file(Bucket.WORK, "k", path=target, sha256=digest)
    assert not target.exists()
    with pytest.raises(DigestMismatch):
        objects.get_bytes(Bucket.WORK, "k", sha256=digest)


def test_a_stream_is_stored_in_parts_and_its_size_counted(objects: ObjectStore) -> None:
    chunks = [secrets.token_bytes(700_000) for _ in range(20)]
    size = objects.put_stream(Bucket.WORK, "s", chunks=chunks, limit_bytes=14_000_000)
    whole = hashlib.sha256(b"".join(chunks)).hexdigest()
    stored = hashlib.sha256(b"".join(objects.open_range(Bucket.WORK, "s"))).hexdigest()
    assert (size, stored) == (14_000_000, whole)


def test_a_stream_over_its_limit_stops_early_and_stores_nothing(objects: ObjectStore) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in itertools.count():
            sent += MEBIBYTE
            yield bytes(MEBIBYTE)

    with pytest.raises(ValueError, match="more than"):
        objects.put_stream(Bucket.WORK, "s", chunks=endless(), limit_bytes=8 * MEBIBYTE)
    assert sent < 20 * MEBIBYTE
    assert not objects.exists(Bucket.WORK, "s")


def test_a_range_holds_both_ends(objects: ObjectStore) -> None:
    objects.put_bytes(Bucket.WORK, "k", body=b"0123456789")
    assert b"".join(objects.open_range(Bucket.WORK, "k", first=2, last=5)) == b"2345"
    assert b"".join(objects.open_range(Bucket.WORK, "k", first=8)) == b"89"


def test_what_is_missing_is_said_to_be_missing(objects: ObjectStore, tmp_path: Path) -> None:
    for read in (
        lambda: objects.head(Bucket.WORK, "no"),
        lambda: objects.get_bytes(Bucket.WORK, "no"),
        lambda: objects.get_to_file(Bucket.WORK, "no", path=tmp_path / "t"),
        lambda: b"".join(objects.open_range(Bucket.WORK, "no")),
        lambda: objects.move("no", source=Bucket.RELEASED, target=Bucket.QUARANTINE),
    ):
        with pytest.raises(ObjectMissing):
            read()
    objects.delete(Bucket.WORK, "no")


def test_a_move_can_be_repeated_after_an_interruption(objects: ObjectStore) -> None:
    objects.put_bytes(Bucket.RELEASED, "k", body=b"bundle")
    for _ in range(2):
        objects.move("k", source=Bucket.RELEASED, target=Bucket.QUARANTINE)
    assert not objects.exists(Bucket.RELEASED, "k")
    assert objects.get_bytes(Bucket.QUARANTINE, "k") == b"bundle"


def test_parts_go_straight_to_the_store_by_presigned_urls(objects: ObjectStore) -> None:
    upload = objects.start_multipart(Bucket.WORK, "m")
    bodies = [secrets.token_bytes(5 * MEBIBYTE), b"the end"]
    parts = []
    for number, body in enumerate(bodies, start=1):
        url = objects.presign_part(Bucket.WORK, "m", upload_id=upload, number=number, seconds=60)
        parts.append((number, httpx.put(url, content=body).raise_for_status().headers["ETag"]))
    objects.complete_multipart(Bucket.WORK, "m", upload_id=upload, parts=parts)
    assert objects.get_bytes(Bucket.WORK, "m") == b"".join(bodies)


def test_a_presigned_download_has_a_name_resumes_and_cannot_be_altered(
    objects: ObjectStore,
) -> None:
    objects.put_bytes(Bucket.RELEASED, "k", body=b"0123456789")
    url = objects.presign_get(Bucket.RELEASED, "k", seconds=60, file_name="knees-1.0.0.zip")
    whole = httpx.get(url)
    assert whole.content == b"0123456789"
    assert 'filename="knees-1.0.0.zip"' in whole.headers["Content-Disposition"]
    assert httpx.get(url, headers={"Range": "bytes=4-"}).content == b"456789"
    assert httpx.get(url.replace("/k?", "/other?")).status_code == httpx.codes.FORBIDDEN
