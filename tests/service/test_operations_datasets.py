"""Datasets, cohorts, uploads, ingest and the withdrawal of a person."""

import secrets
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
import sqlalchemy as sa

from privacy.mechanisms import UnitOfPrivacy
from service.domain.datasets import Dataset, DatasetVersion, VersionState
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    LeaseLost,
    NotFound,
    QuotaExceeded,
)
from service.domain.jobs import Job, JobState
from service.domain.persons import canonical_person, is_missing
from service.domain.releases import ReleaseState
from service.operations import datasets, jobs
from service.store import tables
from service.store.objects import Bucket
from tests.factories import SCHEMA, Walk, content_digests, copied_clock, person_digests

MEBIBYTE = 1024 * 1024


def stored_version(walk: Walk, version_id: str) -> DatasetVersion:
    """Return a version as it is now."""
    with walk.application.uow(read_only=True) as uow:
        return datasets.load_version(uow, version_id)


def persons_in(walk: Walk, dataset: Dataset) -> int:
    """Return how many persons a dataset's cohort has."""
    statement = sa.select(sa.func.count()).where(
        tables.cohort_persons.c.cohort_id == dataset.cohort_id
    )
    with walk.application.engine.connect() as connection:
        return connection.execute(statement).scalar_one()


def start(walk: Walk, dataset: Dataset, **options: object) -> DatasetVersion:
    """Start an upload."""
    options = {"suffix": ".zip", "size_bytes": 100, **options}
    with walk.application.uow() as uow:
        return datasets.start_upload(uow, walk.owner, dataset_id=dataset.id, **options)


def put(walk: Walk, version: DatasetVersion, *chunks: bytes) -> Job:
    """Upload a plain body."""
    with walk.application.uow() as uow:
        return datasets.put_upload(uow, walk.owner, version_id=version.id, chunks=chunks)


def erased(walk: Walk, dataset: Dataset, patient_id: str, *, persons_left: int) -> Job:
    """Withdraw a person, and play the worker that erases them."""
    with walk.application.uow() as uow:
        job = datasets.withdraw_person(
            uow, walk.owner, dataset_id=dataset.id, patient_id=patient_id
        )
    token = walk.claim(job)
    with walk.application.uow() as uow:
        manifest = walk.manifest(dataset, job.payload["number"], persons_left)
        datasets.finish_erase(uow, job.id, token=token, manifest=manifest)
    walk.succeed(job, token, {"digest": manifest.digest()})
    return job


@pytest.mark.parametrize("delta", ["0.0001001", "0", "0.5"])
def test_a_budget_delta_that_could_release_a_whole_person_is_refused(
    sqlite_walk: Walk, delta: str
) -> None:
    with pytest.raises(InputRefused, match=r"1000 declared persons allow at most 0\.0001"):
        sqlite_walk.dataset(delta=delta)
    assert sqlite_walk.dataset(delta="0.0001").declared["declared_count"] == 1000


@pytest.mark.parametrize(
    "options", [{"epsilon": "0"}, {"epsilon": "nan"}, {"epsilon": "1000"}, {"rule": "hopeful"}]
)
def test_a_budget_that_means_nothing_is_refused(sqlite_walk: Walk, options: dict[str, str]) -> None:
    with pytest.raises(InputRefused):
        sqlite_walk.dataset(**options)


def test_a_name_is_taken_once_per_tenant(sqlite_walk: Walk) -> None:
    sqlite_walk.dataset("knees")
    with pytest.raises(Conflict):
        sqlite_walk.dataset("knees")
    Walk(sqlite_walk.application).dataset("knees")


def test_another_tenant_sees_nothing_of_a_dataset(walk: Walk) -> None:
    dataset = walk.dataset()
    stranger = Walk(walk.application)
    version = walk.version(dataset)
    for read in (
        lambda uow: datasets.get_dataset(uow, stranger.owner, dataset_id=dataset.id),
        lambda uow: datasets.get_budget(uow, stranger.owner, dataset_id=dataset.id),
        lambda uow: datasets.get_version(uow, stranger.owner, version_id=version.id),
        lambda uow: datasets.list_versions(uow, stranger.owner, dataset_id=dataset.id),
    ):
        with pytest.raises(NotFound), walk.application.uow(read_only=True) as uow:
            read(uow)
    with walk.application.uow(read_only=True) as uow:
        assert datasets.list_datasets(uow, stranger.owner).items == []


def test_pages_hold_every_dataset_once_newest_first(sqlite_walk: Walk) -> None:
    made = [sqlite_walk.dataset().id for _ in range(5)]
    seen, cursor = [], None
    while True:
        with sqlite_walk.application.uow(read_only=True) as uow:
            page = datasets.list_datasets(uow, sqlite_walk.owner, cursor=cursor, limit=2)
        seen += [dataset.id for dataset in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)
    assert seen == sorted(made, reverse=True)


def test_an_upload_by_presigned_parts_becomes_an_ingest_job(walk: Walk) -> None:
    body = secrets.token_bytes(6 * MEBIBYTE)
    version = start(walk, walk.dataset(), size_bytes=len(body))
    assert version.part_count == 2
    with walk.application.uow(read_only=True) as uow:
        urls = datasets.presign_upload_parts(
            uow, walk.owner, version_id=version.id, part_numbers=[1, 2]
        )
    size = version.part_bytes
    parts = [
        (number, httpx.put(url, content=body[(number - 1) * size : number * size]).headers["ETag"])
        for number, url in urls.items()
    ]
    with walk.application.uow() as uow:
        job = datasets.complete_upload(uow, walk.owner, version_id=version.id, parts=parts)
    raw = walk.application.objects.get_bytes(Bucket.WORK, job.payload["raw_key"])
    assert raw == body
    assert stored_version(walk, version.id).state is VersionState.INGESTING


def test_missing_or_invented_parts_are_refused(sqlite_walk: Walk) -> None:
    version = start(sqlite_walk, sqlite_walk.dataset(), size_bytes=6 * MEBIBYTE)
    for parts in ([], [(1, '"x"')], [(1, '"x"'), (1, '"x"')], [(1, '"x"'), (2, '"y"')]):
        with pytest.raises(InputRefused), sqlite_walk.application.uow() as uow:
            datasets.complete_upload(uow, sqlite_walk.owner, version_id=version.id, parts=parts)
    with pytest.raises(InputRefused), sqlite_walk.application.uow(read_only=True) as uow:
        datasets.presign_upload_parts(
            uow, sqlite_walk.owner, version_id=version.id, part_numbers=[3]
        )


def test_more_bytes_than_announced_are_refused_and_not_stored(sqlite_walk: Walk) -> None:
    version = start(sqlite_walk, sqlite_walk.dataset(), size_bytes=10)
    with pytest.raises(InputRefused, match="10 bytes were announced"):
        put(sqlite_walk, version, b"0123456789", b"x")
    assert not sqlite_walk.application.objects.exists(Bucket.WORK, str(version.raw_key))
    assert put(sqlite_walk, version, b"0123456789").version_id == version.id


def test_parts_that_are_larger_than_announced_end_the_upload(sqlite_walk: Walk) -> None:
    version = start(sqlite_walk, sqlite_walk.dataset(), size_bytes=10)
    with sqlite_walk.application.uow(read_only=True) as uow:
        urls = datasets.presign_upload_parts(
            uow, sqlite_walk.owner, version_id=version.id, part_numbers=[1]
        )
    etag = httpx.put(urls[1], content=b"x" * 11).headers["ETag"]
    with (
        pytest.raises(InputRefused, match="11 bytes arrived"),
        sqlite_walk.application.uow() as uow,
    ):
        datasets.complete_upload(uow, sqlite_walk.owner, version_id=version.id, parts=[(1, etag)])
    found = stored_version(sqlite_walk, version.id)
    assert found.state is VersionState.REFUSED
    assert found.problem is not None
    assert "11 bytes arrived" in found.problem["detail"]
    assert not sqlite_walk.application.objects.exists(Bucket.WORK, str(version.raw_key))
    with pytest.raises(IllegalTransition, match="Start a new upload"):
        put(sqlite_walk, version, b"0123456789")


@pytest.mark.parametrize(
    "spelling", ["\uff11\uff12", "1\u200b2", " 12\u200f", "\ufeff12", "1\u00ad2"]
)
def test_ids_that_look_the_same_are_one_person(spelling: str) -> None:
    assert canonical_person(spelling) == canonical_person("12")
    assert is_missing("n\u200bone")
    assert not is_missing(spelling)


def test_an_upload_is_completed_once(sqlite_walk: Walk) -> None:
    version = start(sqlite_walk, sqlite_walk.dataset())
    put(sqlite_walk, version, b"bytes")
    with pytest.raises(IllegalTransition, match="Start a new upload"):
        put(sqlite_walk, version, b"other bytes")


@pytest.mark.parametrize(
    "options",
    [{"suffix": ".exe"}, {"suffix": "../x.zip"}, {"size_bytes": 0}, {"size_bytes": 2**60}],
)
def test_an_upload_of_the_wrong_kind_or_size_is_refused(
    sqlite_walk: Walk, options: dict[str, object]
) -> None:
    with pytest.raises(InputRefused):
        start(sqlite_walk, sqlite_walk.dataset(), **options)


def test_the_raw_upload_is_erased_after_ingest_and_that_is_recorded(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    version = stored_version(walk, version.id)
    assert version.raw_erased_at is not None
    assert not walk.application.objects.exists(Bucket.WORK, str(version.raw_key))
    assert walk.application.objects.exists(Bucket.WORK, version.prefix + "images.npy")


def test_a_refused_upload_leaves_nothing_but_the_problem(walk: Walk) -> None:
    dataset = walk.dataset()
    job = walk.uploaded(dataset)
    token = walk.claim(job)
    problem = {"type": "input-refused", "detail": "The image was refused."}
    walk.application.objects.put_bytes(
        Bucket.WORK, f"versions/{job.version_id}/images.npy", body=b"half"
    )
    with walk.application.uow() as uow:
        jobs.fail_job(uow, job.id, token=token, problem=problem)
    version = stored_version(walk, str(job.version_id))
    assert (version.state, version.problem) == (VersionState.REFUSED, problem)
    assert list(walk.application.objects.list_keys(Bucket.WORK, "")) == []
    assert persons_in(walk, dataset) == 0


def test_the_same_persons_cannot_buy_a_second_budget(walk: Walk) -> None:
    walk.version(walk.dataset(), persons=["p1", "p2", "p3"])
    second = walk.dataset()
    with pytest.raises(InputRefused, match=r"some person\(s\).*join_dataset_id"):
        walk.version(second, persons=["p2", "p3", "p4"])
    assert persons_in(walk, second) == 0


def test_a_dataset_that_joins_may_hold_the_same_persons_and_shares_the_budget(walk: Walk) -> None:
    first = walk.dataset()
    walk.version(first, persons=["p1", "p2"])
    second = walk.dataset(join_dataset_id=first.id)
    walk.training(walk.version(second, persons=["p2", "p3"]))
    assert persons_in(walk, first) == 3
    with walk.application.uow(read_only=True) as uow:
        budget = datasets.get_budget(uow, walk.owner, dataset_id=first.id)
    assert budget.epsilon.reserved > 0


def test_the_same_person_of_another_tenant_is_another_digest(sqlite_walk: Walk) -> None:
    sqlite_walk.version(sqlite_walk.dataset(), persons=["p1"])
    stranger = Walk(sqlite_walk.application)
    stranger.version(stranger.dataset(), persons=["p1"])


def test_a_dataset_of_another_unit_cannot_join(sqlite_walk: Walk) -> None:
    first = sqlite_walk.dataset()
    per_image = SCHEMA.model_copy(update={"unit": UnitOfPrivacy.RECORD})
    with pytest.raises(InputRefused, match="same unit of privacy"):
        sqlite_walk.dataset(schema=per_image, join_dataset_id=first.id)


def test_thousands_of_persons_join_in_chunks(walk: Walk) -> None:
    dataset = walk.dataset()
    walk.version(dataset, persons=[f"p{n}" for n in range(1203)])
    walk.version(dataset, persons=[f"p{n}" for n in range(1000, 1300)])
    assert persons_in(walk, dataset) == 1300


def test_finishing_an_ingest_twice_changes_nothing_and_needs_the_token(walk: Walk) -> None:
    dataset = walk.dataset()
    job = walk.uploaded(dataset)
    token = walk.claim(job)
    digests = person_digests(walk.application, walk.tenant_id, ["p1"])
    for _ in range(2):
        with walk.application.uow() as uow:
            datasets.finish_ingest(
                uow,
                job.id,
                token=token,
                manifest=walk.manifest(dataset, 1, 1),
                person_digests=digests,
                content_digests=content_digests(digests),
            )
    with pytest.raises(LeaseLost), walk.application.uow() as uow:
        datasets.finish_ingest(
            uow,
            job.id,
            token="stolen",
            manifest=walk.manifest(dataset, 1, 1),
            person_digests=digests,
            content_digests=content_digests(digests),
        )


def test_a_withdrawn_person_is_erased_listed_and_refused_later(walk: Walk) -> None:
    dataset = walk.dataset()
    old = walk.version(dataset, persons=["p1", "p2", "p3"])
    audit = walk.audited(old)
    release = walk.release(ReleaseState.PUBLISHED, audit=audit)
    with walk.application.uow(read_only=True) as uow:
        before = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id).epsilon.spent
    job = erased(walk, dataset, "p2", persons_left=2)
    new = stored_version(walk, str(job.version_id))
    assert (new.state, new.number) == (VersionState.READY, 2)
    assert new.ingest_report["affected_releases"] == [release.id]
    gone = stored_version(walk, old.id)
    assert gone.state is VersionState.ERASED
    assert gone.blobs_erased_at is not None
    assert list(walk.application.objects.list_keys(Bucket.WORK, old.prefix)) == []
    with walk.application.uow(read_only=True) as uow:
        after = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id).epsilon.spent
    assert after == before > 0
    with pytest.raises(IllegalTransition):
        walk.training(gone)
    with pytest.raises(InputRefused, match=r"1 person\(s\) in it were withdrawn"):
        walk.version(dataset, persons=["p1", "p2"])


def test_the_id_of_a_withdrawn_person_is_stored_nowhere(sqlite_walk: Walk) -> None:
    dataset = sqlite_walk.dataset()
    patient = "patient-quokka-müller"
    sqlite_walk.version(dataset, persons=["p1", patient])
    erased(sqlite_walk, dataset, patient, persons_left=1)
    with sqlite_walk.application.engine.connect() as connection:
        for table in tables.metadata.tables.values():
            for row in connection.execute(sa.select(table)):
                assert "quokka" not in repr(row)


def test_nobody_is_withdrawn_by_a_wrong_id_or_while_a_job_reads_the_data(walk: Walk) -> None:
    dataset = walk.dataset()
    version = walk.version(dataset, persons=["p1"])
    with pytest.raises(InputRefused, match="leading zeros"), walk.application.uow() as uow:
        datasets.withdraw_person(uow, walk.owner, dataset_id=dataset.id, patient_id="P1")
    walk.training(version)
    with pytest.raises(Conflict, match="still reads"), walk.application.uow() as uow:
        datasets.withdraw_person(uow, walk.owner, dataset_id=dataset.id, patient_id="p1")


def test_an_interrupted_erasure_is_finished_by_the_reaper(walk: Walk) -> None:
    dataset = walk.dataset()
    version = walk.version(dataset)
    key = version.prefix + "images.npy"
    with walk.application.uow() as uow:
        found = datasets.load_version(uow, version.id)
        found.move_to(VersionState.ERASED)
        uow.without_trail("the test plays a crash")
    assert walk.application.objects.exists(Bucket.WORK, key)
    with walk.application.uow() as uow:
        assert jobs.reap(uow).swept_versions == 1
    assert not walk.application.objects.exists(Bucket.WORK, key)


def test_an_upload_that_nobody_completes_expires_and_frees_its_quota(sqlite_walk: Walk) -> None:
    version = start(sqlite_walk, sqlite_walk.dataset())
    clock = sqlite_walk.application.parts.clock
    next_month = copied_clock(sqlite_walk.application, lambda: clock() + timedelta(days=30))
    with sqlite_walk.application.uow() as uow:
        assert jobs.reap(uow).expired_uploads == 0
    with next_month.uow() as uow:
        assert jobs.reap(uow).expired_uploads == 1
    assert stored_version(sqlite_walk, version.id).state is VersionState.REFUSED
    with pytest.raises(IllegalTransition):
        put(sqlite_walk, version, b"late")


def test_bytes_that_arrive_after_their_upload_expired_are_not_kept(sqlite_walk: Walk) -> None:
    version = start(sqlite_walk, sqlite_walk.dataset())
    clock = sqlite_walk.application.parts.clock
    next_month = copied_clock(sqlite_walk.application, lambda: clock() + timedelta(days=30))

    def slowly() -> Iterator[bytes]:
        yield b"half"
        with next_month.uow() as uow:
            assert jobs.reap(uow).expired_uploads == 1
        yield b"rest"

    with pytest.raises(Conflict, match="expired"), sqlite_walk.application.uow() as uow:
        datasets.put_upload(uow, sqlite_walk.owner, version_id=version.id, chunks=slowly())
    assert not sqlite_walk.application.objects.exists(Bucket.WORK, str(version.raw_key))


def test_a_cancelled_ingest_refuses_its_version(walk: Walk) -> None:
    job = walk.uploaded(walk.dataset())
    with walk.application.uow() as uow:
        assert jobs.cancel_job(uow, walk.owner, job_id=job.id).state is JobState.CANCELLED
    assert stored_version(walk, str(job.version_id)).state is VersionState.REFUSED


def test_quotas_are_refused_with_value_and_limit(sqlite_walk: Walk) -> None:
    settings = sqlite_walk.application.settings
    object.__setattr__(settings, "quota_datasets", 1)  # frozen for everybody but this test
    object.__setattr__(settings, "quota_upload_bytes", 150)
    dataset = sqlite_walk.dataset()
    with pytest.raises(QuotaExceeded) as refusal:
        sqlite_walk.dataset()
    assert refusal.value.extensions == {"value": 1, "limit": 1}
    start(sqlite_walk, dataset, size_bytes=100)
    with pytest.raises(QuotaExceeded) as refusal:
        start(sqlite_walk, dataset, size_bytes=100)
    assert refusal.value.extensions == {"value": 200, "limit": 150}


def test_a_budget_is_shown_in_exact_decimals(walk: Walk) -> None:
    dataset = walk.dataset()
    walk.training(walk.version(dataset))
    with walk.application.uow(read_only=True) as uow:
        view = datasets.get_budget(uow, walk.auditors[0], dataset_id=dataset.id)
    amounts = view.epsilon
    assert amounts.budget == Decimal(3)
    assert amounts.reserved + amounts.spent + amounts.remaining == amounts.budget
    assert view.entries[0].mechanisms[0]["kind"] == "gaussian"
