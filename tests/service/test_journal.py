"""The journal: one chain, tampering is found, anchors hold what the database may not lose."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError
from sqlalchemy.orm import Session

from privacy.mechanisms import PrivacyTarget
from service.config import Settings
from service.domain.accounts import BOOTSTRAP
from service.domain.errors import Conflict, JournalBehind
from service.domain.releases import ReleaseState
from service.operations import accounts, datasets, jobs
from service.operations import journal as operation
from service.store import journal, tables
from service.store.objects import Bucket
from service.wiring import Application, build
from tests.components import ObjectStoreServer
from tests.databases import fresh_database
from tests.factories import (
    RecordingDispatcher,
    Walk,
    application_for,
    remove_buckets,
    settings_for,
)

TAMPERINGS: dict[str, Callable[[Session], object]] = {
    "a flipped byte": lambda session: session.execute(
        sa.update(tables.journal)
        .where(tables.journal.c.seq == 5)
        .values(row=sa.func.replace(tables.journal.c.row, '"seq":5', '"seq":6'))
    ),
    "a deleted row": lambda session: session.execute(
        sa.delete(tables.journal).where(tables.journal.c.seq == 5)
    ),
    "two rows exchanged": lambda session: exchange(session, 5, 6),
    "a relabelled row": lambda session: session.execute(
        sa.update(tables.journal).where(tables.journal.c.seq == 5).values(subject="another")
    ),
    "a truncated tail": lambda session: truncate(session, keep=8),
    "a rewritten tail": lambda session: rewrite(session, after=5),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database of each kind: what is tested here depends on it."""
    with fresh_database(request.param, request) as url:
        yield url


def exchange(session: Session, left: int, right: int) -> None:
    """Exchange two rows."""
    for before, after in ((left, -1), (right, left), (-1, right)):
        session.execute(
            sa.update(tables.journal).where(tables.journal.c.seq == before).values(seq=after)
        )


def truncate(session: Session, *, keep: int) -> None:
    """Cut the tail off and mend the head, as somebody who knows the format would."""
    journal.cut(session, keep=keep)
    session.execute(
        sa.update(tables.journal_head).values(
            seq=keep, digest=journal.digest_at(session, keep), anchored_seq=0
        )
    )


def rewrite(session: Session, *, after: int) -> None:
    """Replace the tail by another valid chain of the same length: a fork."""
    rows = list(journal.read_rows(session, after=after))
    truncate(session, keep=after)
    digest = journal.digest_at(session, after)
    made = []
    for row in rows:
        document = row.document
        entry = journal.Entry("trail", row.subject, {**document["body"], "actor": "nobody"})
        made.append(journal.make_row(entry, seq=row.seq, at=document["at"], previous=digest))
        digest = made[-1].digest
    journal.insert_rows(session, made)
    session.execute(sa.update(tables.journal_head).values(seq=made[-1].seq, digest=digest))


def tamper(application: Application, change: Callable[[Session], object]) -> None:
    """Change the database behind the service's back."""
    with Session(application.engine) as session:
        change(session)
        session.commit()


def anchor_keys(application: Application) -> list[str]:
    """Return the keys of all anchors."""
    return list(application.objects.list_keys(Bucket.JOURNAL, journal.PREFIX))


def restored(application: Application, folder: Path, backup: Path) -> Application:
    """Return the application after its database was restored from `backup`."""
    application.close()
    for name in ("kaima.sqlite3-wal", "kaima.sqlite3-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(backup, folder / "kaima.sqlite3")
    return build(application.settings, dispatcher=RecordingDispatcher())


def back_up(application: Application, path: Path) -> None:
    """Copy the SQLite database, as an operator would."""
    with application.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql(f"VACUUM INTO '{path}'")
        connection.exec_driver_sql("BEGIN")


@pytest.mark.parametrize("name", TAMPERINGS)
def test_verify_finds_tampering(walk: Walk, name: str) -> None:
    walk.training(walk.version(walk.dataset()))
    with walk.application.uow(read_only=True) as uow:
        assert operation.verify(uow) == []
    tamper(walk.application, TAMPERINGS[name])
    with walk.application.uow(read_only=True) as uow:
        assert operation.verify(uow) != []


@pytest.mark.parametrize("name", ["a truncated tail", "a rewritten tail"])
def test_only_anchors_can_show_a_consistent_rewrite(sqlite_walk: Walk, name: str) -> None:
    sqlite_walk.training(sqlite_walk.version(sqlite_walk.dataset()))
    tamper(sqlite_walk.application, TAMPERINGS[name])
    with sqlite_walk.application.uow(read_only=True) as uow:
        assert operation.verify(uow, with_anchors=False) == []
        assert operation.verify(uow) != []


def test_a_charge_is_anchored_before_it_returns(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job)
    before = anchor_keys(walk.application)
    with walk.application.uow() as uow:
        jobs.charge_steps(uow, job.id, token=token, index=0, steps=1)
        inside = anchor_keys(walk.application)
    assert len(inside) == len(before) + 1
    rows = journal.read_anchor(walk.application.objects, inside[-1])
    charge = next(row.document["body"] for row in rows if row.kind == "ledger")
    assert charge["details"]["mechanism"]["kind"] == "gaussian"


def test_anchors_together_hold_every_row_up_to_the_last_one(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    walk.charge(job, walk.claim(job))
    anchored = {
        row.seq
        for key in anchor_keys(walk.application)
        for row in journal.read_anchor(walk.application.objects, key)
    }
    assert anchored == set(range(1, max(anchored) + 1))


def test_an_anchor_is_never_overwritten(sqlite_walk: Walk) -> None:
    sqlite_walk.dataset()
    objects = sqlite_walk.application.objects
    key = anchor_keys(sqlite_walk.application)[-1]
    before = objects.get_bytes(Bucket.JOURNAL, key)
    objects.put_immutable(key, b"{}")
    assert objects.get_bytes(Bucket.JOURNAL, key) == before


def test_the_journal_bucket_has_object_lock(sqlite_application: Application) -> None:
    assert sqlite_application.objects.has_object_lock()


def test_anchors_are_locked_by_default_where_the_store_can(
    tmp_path: Path, object_store: ObjectStoreServer
) -> None:
    default = Settings().journal_retention_days
    assert default > 0
    settings = settings_for(tmp_path, object_store, journal_retention_days=default)
    application = application_for(settings)
    walk = Walk(application)
    walk.dataset()
    (key, *_) = anchor_keys(application)
    client, bucket = application.objects._client, application.objects.bucket(Bucket.JOURNAL)
    (version,) = client.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    with pytest.raises(ClientError):
        client.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    assert application.objects.exists(Bucket.JOURNAL, key)
    application.close()


def test_a_journal_bucket_that_was_emptied_stops_training(sqlite_walk: Walk) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset())
    objects = sqlite_walk.application.objects
    sqlite_walk.training(version)
    last = anchor_keys(sqlite_walk.application)[-1]
    body = objects.get_bytes(Bucket.JOURNAL, last)
    objects.delete(Bucket.JOURNAL, last)
    with pytest.raises(JournalBehind, match="lacks the anchor"):
        sqlite_walk.training(version)
    objects.put_immutable(last, body)
    sqlite_walk.training(version)


def test_a_lost_or_damaged_anchor_is_a_problem_with_a_sentence(sqlite_walk: Walk) -> None:
    sqlite_walk.dataset()
    sqlite_walk.dataset()
    objects = sqlite_walk.application.objects

    def problems() -> list[str]:
        with sqlite_walk.application.uow(read_only=True) as uow:
            return operation.verify(uow)

    assert problems() == []
    first, *_ = anchor_keys(sqlite_walk.application)
    body = objects.get_bytes(Bucket.JOURNAL, first)
    for damage in (b"no json", b"{}", b'{"rows": 3}'):
        objects.put_bytes(Bucket.JOURNAL, first, body=damage)
        assert (
            f"The anchor {first} is missing or damaged: object storage was changed." in problems()
        )
    objects.delete(Bucket.JOURNAL, first)
    (sentence,) = problems()
    assert sentence.startswith("Row 1 was anchored, and object storage holds no anchor with it")
    objects.put_bytes(Bucket.JOURNAL, first, body=body)
    objects.put_bytes(Bucket.JOURNAL, f"{journal.PREFIX}notes.txt", body=b"mine")
    assert len(problems()) == 1


def test_no_row_holds_or_shows_an_unsalted_digest_of_a_private_document(sqlite_walk: Walk) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset())
    release = sqlite_walk.release(ReleaseState.PUBLISHED, audit=sqlite_walk.audited(version))
    private = [str(version.manifest_digest), "1" * 64, "2" * 64, "3" * 64]
    with sqlite_walk.application.uow(read_only=True) as uow:
        stored = "".join(row.text for row in journal.read_rows(uow.session))
        shown = json.dumps(operation.list_rows(uow, sqlite_walk.operator, limit=1000))
    assert [digest for digest in private if digest in stored + shown] == []
    assert release.evidence["commitment"] in stored
    assert release.evidence["policy"] in stored


def test_many_writers_make_one_chain(walk: Walk) -> None:
    def write(number: int) -> None:
        for _ in range(3):
            with walk.application.uow() as uow:
                accounts.create_tenant(uow, BOOTSTRAP, name=f"{walk.tenant_id} {number} {_}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with walk.application.uow(read_only=True) as uow:
        assert operation.verify(uow) == []
        assert operation.position(uow).seq >= 24


def test_a_restored_older_database_neither_trains_nor_charges_until_it_is_replayed(
    tmp_path: Path, object_store: ObjectStoreServer
) -> None:
    application = application_for(settings_for(tmp_path, object_store))
    walk = Walk(application)
    dataset = walk.dataset(epsilon="1.5")
    version = walk.version(dataset)
    first = walk.training(version)
    token = walk.claim(first, lease_seconds=600)
    second = walk.training(version, target=PrivacyTarget(epsilon=0.3, delta=1e-6))
    back_up(application, tmp_path / "backup")
    walk.charge(first, token)
    lost = walk.version(walk.dataset("made after the backup"), persons=["q1"])
    walk.charge(late := walk.training(lost), walk.claim(late))

    walk.application = restored(application, tmp_path, tmp_path / "backup")
    with pytest.raises(JournalBehind, match="kaima journal replay"):
        walk.training(version)
    with pytest.raises(JournalBehind):
        walk.charge(first, token)
    with pytest.raises(JournalBehind):
        walk.claim(second)
    with walk.application.uow() as uow:
        accounts.create_tenant(uow, BOOTSTRAP, name="made after the restore")
    with pytest.raises(JournalBehind):
        walk.training(version)

    with walk.application.uow() as uow:
        report = operation.replay(uow, walk.operator)
    assert report.restored_rows > 0
    assert report.reattached_rows == 1
    assert report.closed_reservations == [late.id]
    with walk.application.uow(read_only=True) as uow:
        assert operation.verify(uow) == []
        assert jobs.load_reservation(uow, first.id).charged == [1]
        assert jobs.load_reservation(uow, late.id).charged == [1]
        budget = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id)
    assert budget.epsilon.spent > 0
    walk.succeed(first, token, {"digest": "1" * 64})
    walk.application.close()
    remove_buckets(walk.application)


def test_two_services_that_spent_one_budget_are_not_replayed_over_each_other(
    tmp_path: Path, object_store: ObjectStoreServer
) -> None:
    application = application_for(settings_for(tmp_path, object_store))
    walk = Walk(application)
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job, lease_seconds=600)
    back_up(application, tmp_path / "backup")
    walk.charge(job, token)
    walk.application = restored(application, tmp_path, tmp_path / "backup")
    with Session(walk.application.engine) as session:
        entry = journal.Entry("ledger", job.id, {"event": "charge"})
        journal.append(session, [entry], at=job.created_at)
        session.commit()
    with (
        pytest.raises(Conflict, match="two services have spent the same budget"),
        walk.application.uow() as uow,
    ):
        operation.replay(uow, walk.operator)
    walk.application.close()
    remove_buckets(walk.application)


def test_replay_of_a_current_database_changes_nothing(sqlite_walk: Walk) -> None:
    sqlite_walk.training(sqlite_walk.version(sqlite_walk.dataset()))
    with sqlite_walk.application.uow() as uow:
        before = operation.position(uow)
        assert operation.replay(uow, sqlite_walk.operator).restored_rows == 0
    with sqlite_walk.application.uow(read_only=True) as uow:
        assert operation.position(uow) == before


def test_a_row_is_canonical_json_and_names_the_row_before_it(sqlite_walk: Walk) -> None:
    with sqlite_walk.application.uow(read_only=True) as uow:
        first, second = list(journal.read_rows(uow.session, limit=2))
    assert first.document["previous"] == journal.GENESIS
    assert second.document["previous"] == first.digest
    assert json.dumps(first.document, sort_keys=True, separators=(",", ":")) == first.text
