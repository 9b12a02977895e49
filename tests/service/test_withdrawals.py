"""A person who withdraws is used no more: not in training, not in what was trained before."""

import pytest

from service import documents
from service.domain.datasets import Dataset, DatasetVersion, VersionState
from service.domain.errors import Conflict, InputRefused, NotFound
from service.domain.jobs import Job
from service.domain.releases import ReleaseState
from service.operations import datasets, jobs, releases
from service.store import journal
from service.store.objects import Bucket
from tests.factories import TARGET, Walk


def withdraw(walk: Walk, dataset: Dataset, patient_id: str) -> Job:
    """Queue a withdrawal."""
    with walk.application.uow() as uow:
        return datasets.withdraw_person(
            uow, walk.owner, dataset_id=dataset.id, patient_id=patient_id
        )


def erase(walk: Walk, dataset: Dataset, job: Job, *, persons_left: int) -> DatasetVersion:
    """Play the worker that erases the person."""
    token = walk.claim(job)
    with walk.application.uow() as uow:
        manifest = walk.manifest(dataset, job.payload["number"], persons_left)
        version = datasets.finish_erase(uow, job.id, token=token, manifest=manifest)
    walk.succeed(job, token, {"digest": manifest.digest()})
    return version


def states(walk: Walk, dataset: Dataset) -> list[str]:
    """Return the states of a dataset's versions, oldest first."""
    with walk.application.uow(read_only=True) as uow:
        page = datasets.list_versions(uow, walk.owner, dataset_id=dataset.id)
    return [version.state.value for version in reversed(page.items)]


def test_every_withdrawal_lists_what_was_trained_on_the_person_ever(walk: Walk) -> None:
    dataset = walk.dataset()
    old = walk.version(dataset, persons=["p1", "p2", "p3"])
    release = walk.release(ReleaseState.PUBLISHED, audit=walk.audited(old))
    first = erase(walk, dataset, withdraw(walk, dataset, "p1"), persons_left=2)
    second = erase(walk, dataset, withdraw(walk, dataset, "p2"), persons_left=1)
    assert first.ingest_report["affected_releases"] == [release.id]
    assert second.ingest_report["affected_releases"] == [release.id]


def test_nobody_trains_while_a_person_is_being_withdrawn(walk: Walk) -> None:
    dataset = walk.dataset()
    version = walk.version(dataset, persons=["p1", "p2"])
    joined = walk.dataset(join_dataset_id=dataset.id)
    sibling = walk.version(joined, persons=["p1"])
    job = withdraw(walk, dataset, "p1")
    for used in (version, sibling):
        with pytest.raises(Conflict, match=f"job {job.id} is withdrawing a person"):
            walk.training(used)
    with walk.application.uow() as uow:
        jobs.cancel_job(uow, walk.owner, job_id=job.id)
    assert walk.training(version).version_id == version.id


def test_another_dataset_of_the_cohort_is_not_trained_on_while_it_holds_the_person(
    walk: Walk,
) -> None:
    dataset = walk.dataset()
    walk.version(dataset, persons=["p1", "p2"])
    joined = walk.dataset(join_dataset_id=dataset.id)
    sibling = walk.version(joined, persons=["p1", "p3"])
    report = erase(walk, dataset, withdraw(walk, dataset, "p1"), persons_left=1).ingest_report
    assert report["also_in_datasets"] == [joined.id]
    with pytest.raises(Conflict, match=r"holds 1 person\(s\) who were withdrawn"):
        walk.training(sibling)
    with walk.application.uow(read_only=True) as uow:
        plan = jobs.plan_training(
            uow,
            walk.owner,
            version_id=sibling.id,
            generator="statistics",
            config={},
            target=TARGET,
        )
    assert plan.refusal is not None
    assert "withdrawn" in plan.refusal
    without = erase(walk, joined, withdraw(walk, joined, "p1"), persons_left=1)
    assert without.ingest_report["also_in_datasets"] == []
    assert walk.training(without).version_id == without.id


def test_a_candidate_trained_on_a_withdrawn_person_is_neither_submitted_nor_published(
    walk: Walk,
) -> None:
    dataset = walk.dataset()
    version = walk.version(dataset, persons=["p1", "p2"])
    late, approved = walk.audited(version), walk.audited(version)
    release = walk.release(ReleaseState.APPROVED, audit=approved)
    erase(walk, dataset, withdraw(walk, dataset, "p1"), persons_left=1)
    draft = walk.release(audit=late)
    with pytest.raises(Conflict, match=r"Submitting was refused.*withdrawn"):
        walk.submitted(draft)
    with (
        pytest.raises(Conflict, match=r"Publishing was refused.*withdrawn"),
        walk.application.uow() as uow,
    ):
        releases.publish_release(uow, walk.owner, release_id=release.id, if_match=release.etag)


def test_a_person_in_an_older_version_only_is_withdrawn_as_well(walk: Walk) -> None:
    dataset = walk.dataset()
    walk.version(dataset, persons=["p1", "p2"])
    walk.version(dataset, persons=["p2", "p3"])
    new = erase(walk, dataset, withdraw(walk, dataset, "p1"), persons_left=2)
    assert states(walk, dataset) == [VersionState.ERASED, VersionState.ERASED, VersionState.READY]
    assert walk.training(new).version_id == new.id
    with pytest.raises(InputRefused, match=r"1 person\(s\) in it were withdrawn"):
        walk.version(dataset, persons=["p1"])


def test_a_person_of_another_dataset_is_withdrawn_there(sqlite_walk: Walk) -> None:
    first = sqlite_walk.dataset()
    sqlite_walk.version(first, persons=["p1"])
    second = sqlite_walk.dataset(join_dataset_id=first.id)
    sqlite_walk.version(second, persons=["p2"])
    with pytest.raises(InputRefused, match=f"They are in {first.id}: withdraw them there"):
        withdraw(sqlite_walk, second, "p1")


def test_pages_with_real_pictures_go_with_the_version_and_the_json_stays(walk: Walk) -> None:
    dataset = walk.dataset()
    audit = walk.audited(walk.version(dataset, persons=["p1", "p2"]))
    prefix = f"candidate/{audit.id}/1/"
    objects = walk.application.objects
    for name in ("report.html", "report.json", "nearest.png"):
        objects.put_bytes(Bucket.WORK, prefix + name, body=b"{}")
    keys = {"report": prefix + "report.json", "report_html": prefix + "report.html"}
    with walk.application.uow() as uow:
        uow.without_trail("the test plays the worker that stored a report")
        found = uow.get(Job, audit.id)
        found.result = {**found.result, **keys}
    erase(walk, dataset, withdraw(walk, dataset, "p1"), persons_left=1)
    assert list(objects.list_keys(Bucket.WORK, f"candidate/{audit.id}/")) == [keys["report"]]
    with walk.application.uow() as uow:
        read = documents.read_report(uow, walk.owner, audit_job_id=audit.id, form="report")
    assert read == b"{}"
    with pytest.raises(NotFound, match="erased: it showed real"), walk.application.uow() as uow:
        documents.read_report(uow, walk.owner, audit_job_id=audit.id, form="report_html")
    with walk.application.uow(read_only=True) as uow:
        assert jobs.load_job(uow, audit.id).result["digest"] == "3" * 64
        events = [
            row.document["body"]["event"]
            for row in journal.read_rows(uow.session, subject=audit.id)
        ]
    assert "report:erase_pictures" in events


def test_a_person_stored_as_a_float_in_earlier_days_is_found_by_either_spelling(
    sqlite_walk: Walk,
) -> None:
    dataset = sqlite_walk.dataset()
    version = sqlite_walk.version(dataset, persons=["17.0", "18.0", "p3"])
    erase(sqlite_walk, dataset, withdraw(sqlite_walk, dataset, "17"), persons_left=2)
    erase(sqlite_walk, dataset, withdraw(sqlite_walk, dataset, "18.0"), persons_left=1)
    assert states(sqlite_walk, dataset) == ["erased", "erased", "ready"]
    assert version.number == 1
    with pytest.raises(InputRefused, match="nobody in this dataset's cohort"):
        withdraw(sqlite_walk, dataset, "19")


def test_a_person_who_is_stored_in_two_spellings_is_withdrawn_in_turn(sqlite_walk: Walk) -> None:
    dataset = sqlite_walk.dataset()
    sqlite_walk.version(dataset, persons=["17", "17.0", "p3"])
    first = withdraw(sqlite_walk, dataset, "17")
    erase(sqlite_walk, dataset, first, persons_left=2)
    second = withdraw(sqlite_walk, dataset, "17")
    assert first.payload["person_digest"] != second.payload["person_digest"]


def test_a_version_without_somebody_still_says_that_the_budget_knew_nobody(
    sqlite_walk: Walk,
) -> None:
    first = sqlite_walk.dataset()
    sqlite_walk.version(first, persons=["17", "18"])
    joined = sqlite_walk.dataset(join_dataset_id=first.id)
    told = sqlite_walk.version(joined, persons=["017", "018"]).ingest_report["nobody_known"]
    version = erase(sqlite_walk, joined, withdraw(sqlite_walk, joined, "017"), persons_left=1)
    assert version.ingest_report["nobody_known"] == told
