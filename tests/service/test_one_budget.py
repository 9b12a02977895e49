"""One budget for one set of data: whatever it is called, however it is declared or restored."""

import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from privacy import inclusion
from privacy.evidence import Arm
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from service.domain.datasets import Cohort, Dataset
from service.domain.errors import InputRefused, JournalBehind
from service.domain.jobs import Job, JobKind
from service.operations import datasets, jobs
from service.operations import journal as operation
from service.store import tables
from service.store.objects import Bucket
from tests.components import ObjectStoreServer
from tests.factories import (
    SCHEMA,
    Walk,
    application_for,
    content_digests,
    person_digests,
    remove_buckets,
    settings_for,
)
from tests.service.test_journal import back_up, restored


def declared(**changes: object) -> DatasetSchema:
    """Return the usual declaration with changes."""
    return DatasetSchema.model_validate({**SCHEMA.model_dump(), **changes})


def ingest(walk: Walk, dataset: Dataset, *, names: list[str], images_of: list[str]) -> None:
    """Ingest persons with these names and the images that belong to other names."""
    persons = person_digests(walk.application, walk.tenant_id, names)
    images = content_digests(person_digests(walk.application, walk.tenant_id, images_of))
    job = walk.uploaded(dataset)
    token = walk.claim(job)
    manifest = walk.manifest(dataset, job.payload.get("number", 1), len(persons))
    with walk.application.uow() as uow:
        datasets.finish_ingest(
            uow,
            job.id,
            token=token,
            manifest=manifest,
            person_digests=persons,
            content_digests=images,
        )


@pytest.mark.parametrize("unit", list(UnitOfPrivacy))
def test_the_same_images_buy_no_second_budget_under_other_ids_or_units(
    walk: Walk, unit: UnitOfPrivacy
) -> None:
    ingest(walk, walk.dataset(), names=["p1", "p2"], images_of=["p1", "p2"])
    second = walk.dataset(schema=declared(unit=unit))
    with pytest.raises(InputRefused, match=r"some image\(s\) in it are also in the cohort.*join"):
        ingest(walk, second, names=["x1", "x2"], images_of=["p2", "p3"])
    ingest(walk, second, names=["x1", "x2"], images_of=["p3", "p4"])


def test_images_may_come_back_within_their_own_budget(sqlite_walk: Walk) -> None:
    first = sqlite_walk.dataset()
    ingest(sqlite_walk, first, names=["p1", "p2"], images_of=["p1", "p2"])
    joined = sqlite_walk.dataset(join_dataset_id=first.id)
    ingest(sqlite_walk, joined, names=["renamed", "p2"], images_of=["p1", "p2"])


def test_an_ingest_that_leaves_out_its_images_is_refused(sqlite_walk: Walk) -> None:
    with pytest.raises(InputRefused, match="another dataset"):
        ingest(sqlite_walk, sqlite_walk.dataset(), names=["p1", "p2"], images_of=["p1"])


def test_a_restored_and_replayed_database_still_knows_who_belongs_to_which_budget(
    tmp_path: Path, object_store: ObjectStoreServer
) -> None:
    walk = Walk(application_for(settings_for(tmp_path, object_store)))
    old = walk.dataset()
    walk.version(old, persons=["p1"])
    back_up(walk.application, tmp_path / "backup")
    walk.version(old, persons=["p1", "p2"])
    lost = walk.dataset("lost with the database", epsilon="2")
    walk.version(lost, persons=["q1", "q2"])
    with walk.application.uow() as uow:
        job = datasets.withdraw_person(uow, walk.owner, dataset_id=old.id, patient_id="p1")
    token = walk.claim(job)
    with walk.application.uow() as uow:
        manifest = walk.manifest(old, job.payload["number"], 1)
        datasets.finish_erase(uow, job.id, token=token, manifest=manifest)

    walk.application = restored(walk.application, tmp_path, tmp_path / "backup")
    behind = walk.application
    with pytest.raises(JournalBehind):
        walk.dataset("a second budget before the replay")
    with pytest.raises(JournalBehind):
        walk.version(old, persons=["p3"])
    with behind.uow() as uow:
        assert operation.replay(uow, walk.operator).reopened_cohorts == [lost.cohort_id]
    second = walk.dataset("a second budget")
    for persons in (["q1"], ["p2"]):
        with pytest.raises(InputRefused, match="may not buy a second budget"):
            walk.version(second, persons=persons)
    with pytest.raises(InputRefused, match="may not buy a second budget under other ids"):
        ingest(walk, second, names=["renamed"], images_of=["q2"])
    with pytest.raises(InputRefused, match=r"1 person\(s\) in it were withdrawn"):
        walk.version(old, persons=["p1"])
    again = walk.dataset(join_dataset_id=lost.cohort_id)
    assert walk.version(again, persons=["q1", "q2"]).dataset_id == again.id
    with behind.uow(read_only=True) as uow:
        budget = datasets.get_budget(uow, walk.owner, dataset_id=again.id)
        assert operation.verify(uow) == []
    assert budget.epsilon.budget == Decimal(2)
    behind.close()
    remove_buckets(behind)


def test_members_lie_beside_the_anchors_and_their_number_is_in_no_row(sqlite_walk: Walk) -> None:
    sqlite_walk.version(sqlite_walk.dataset(), persons=["p1", "p2", "p3"])
    objects = sqlite_walk.application.objects
    (key,) = objects.list_keys(Bucket.JOURNAL, "members/")
    body = objects.get_bytes(Bucket.JOURNAL, key)
    digests = person_digests(sqlite_walk.application, sqlite_walk.tenant_id, ["p1", "p2", "p3"])
    assert len(body) == 8 + 32 * (3 + 6)
    assert all(row.tobytes() in body for row in digests)
    with sqlite_walk.application.uow(read_only=True) as uow:
        rows = operation.list_rows(uow, sqlite_walk.operator, limit=1000)
    (join,) = [row["body"] for row in rows if row["body"]["event"] == "join"]
    assert set(join["details"]) == {"tenant", "unit", "members_sha256"}


def test_operators_read_no_digest_of_a_private_document(sqlite_walk: Walk) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset())
    audit = sqlite_walk.audited(version)
    with sqlite_walk.application.uow(read_only=True) as uow:
        rows = operation.list_rows(uow, sqlite_walk.operator, limit=1000)
        kept = [row.document for row in operation.journal.read_rows(uow.session)]
        committed = jobs.load_job(uow, audit.payload["train_job_id"]).payload["commitment"]
    private = {str(version.manifest_digest), "1" * 64, "2" * 64, "3" * 64}
    assert not [digest for digest in private if digest in str(kept)]  # sealed before they are kept
    assert not [digest for digest in private if digest in str([row["body"] for row in rows])]
    assert committed in str(rows)


def test_a_joined_dataset_cannot_escape_the_limit_on_delta(sqlite_walk: Walk) -> None:
    small = sqlite_walk.dataset(schema=declared(declared_count=50), delta="0.002")
    with pytest.raises(InputRefused, match="1000000 declared persons allow at most"):
        sqlite_walk.dataset(schema=declared(declared_count=10**6), join_dataset_id=small.id)


@pytest.mark.parametrize("count", [513, 1234, 70_001])
def test_an_exact_count_is_not_declared(sqlite_walk: Walk, count: int) -> None:
    with pytest.raises(InputRefused, match="at most 2 significant digits") as refusal:
        sqlite_walk.dataset(schema=declared(declared_count=count))
    rounded = int(str(refusal.value.extensions["remedy"]).rpartition(" ")[2])
    assert sqlite_walk.dataset(schema=declared(declared_count=rounded), delta="0.000001")


def test_a_person_held_out_for_reference_is_held_out_of_every_joined_dataset(
    sqlite_walk: Walk,
) -> None:
    first = sqlite_walk.dataset(schema=declared(declared_count=2500), delta="0.00001")
    joined = sqlite_walk.dataset(schema=declared(declared_count=50), join_dataset_id=first.id)
    target = PrivacyTarget(epsilon=1.0, delta=1e-6)
    digests = np.random.default_rng(0).integers(0, 256, (3000, 32)).astype(np.uint8)
    held = []
    for dataset, person in ((first, "p1"), (joined, "p2")):
        job = sqlite_walk.training(sqlite_walk.version(dataset, persons=[person]), target=target)
        arms = inclusion.assign_arms(
            digests,
            reference_key=sqlite_walk.application.keys.reference_key(first.cohort_id),
            run_key=sqlite_walk.application.keys.run_key(job.id),
            rates=inclusion.Rates(**job.payload["rates"]),
        )
        held.append(np.isin(arms, (Arm.REFERENCE_A, Arm.REFERENCE_B)))
    assert held[0].sum() > 500
    np.testing.assert_array_equal(held[0], held[1])


def test_audits_are_numbered_under_the_lock_of_their_cohort(walk: Walk) -> None:
    dataset = walk.dataset()
    train = walk.training(walk.version(dataset))
    token = walk.claim(train)
    walk.charge(train, token)
    walk.succeed(train, token, {"generator_manifest": "k", "digest": "1" * 64})
    sample = walk.child_of(train)
    token = walk.claim(sample)
    ended = threading.Event()

    def end() -> None:
        walk.succeed(sample, token, {"samples_manifest": "k", "digest": "2" * 64})
        ended.set()

    thread = threading.Thread(target=end)
    with walk.application.uow() as uow:
        uow.get(Cohort, dataset.cohort_id, lock=True)
        thread.start()
        assert not ended.wait(1)  # second
        audits = sa.select(sa.func.count()).where(tables.jobs.c.kind == JobKind.AUDIT)
        assert uow.session.execute(audits).scalar_one() == 0
    thread.join(60)
    assert ended.is_set()
    with walk.application.uow(read_only=True) as uow:
        audit = uow.get(Job, walk.child_of(sample).id)
    assert audit is not None
    assert audit.payload["attempt"] == 1
