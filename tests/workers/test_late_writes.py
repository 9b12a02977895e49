"""What a worker that lost its job may still store, and what becomes of it."""

import numpy as np
import pytest

from privacy.manifests import DatasetManifest
from service.domain.datasets import DatasetVersion
from service.domain.errors import LeaseLost
from service.domain.jobs import Job, JobState
from service.operations import jobs
from service.store.objects import Bucket
from tests.factories import Walk, application_for, remove_buckets, settings_for
from training.checkpoints import to_bytes
from workers.context import JobContext
from workers.ingest import store_version
from workers.ledger_run import LedgerRun


@pytest.fixture
def walk(tmp_path, object_store):
    application = application_for(settings_for(tmp_path, object_store))
    yield Walk(application)
    application.close()
    remove_buckets(application)


def context_of(walk: Walk, job: Job, token: str, scratch) -> JobContext:
    """Return the context of an attempt, with the job as the database has it."""
    with walk.application.uow(read_only=True) as uow:
        held = jobs.load_job(uow, job.id)
        uow.session.expunge_all()
    return JobContext(walk.application, held, token, scratch, lambda *_, **__: None)


def stored(walk: Walk, prefix: str) -> list[str]:
    """Return the keys under a prefix."""
    return list(walk.application.objects.list_keys(Bucket.WORK, prefix))


def test_a_late_ingest_cannot_bring_back_the_blobs_of_a_refused_version(walk, tmp_path):
    dataset = walk.dataset()
    job = walk.uploaded(dataset)
    token = walk.claim(job)
    context = context_of(walk, job, token, tmp_path)
    with walk.application.uow() as uow:
        version = uow.get(DatasetVersion, job.version_id)
    (tmp_path / "images.npy").write_bytes(b"pixels")
    manifest: DatasetManifest = walk.manifest(dataset, version.number, 2)
    store_version(context, version, manifest, folder=tmp_path)
    assert len(stored(walk, version.prefix)) == 2
    with walk.application.uow() as uow:
        jobs.fail_job(uow, job.id, token=token, problem={"type": "x", "detail": "y"})
    assert stored(walk, version.prefix) == []
    with pytest.raises(LeaseLost):
        store_version(context, version, manifest, folder=tmp_path)
    assert stored(walk, version.prefix) == []


def test_a_lease_that_ends_between_two_objects_leaves_none_of_a_refused_version(walk, tmp_path):
    dataset = walk.dataset()
    job = walk.uploaded(dataset)
    token = walk.claim(job)
    context = context_of(walk, job, token, tmp_path)
    with walk.application.uow() as uow:
        version = uow.get(DatasetVersion, job.version_id)

    class Interrupted(dict):
        """Blobs between which another worker ends the job."""

        def __iter__(self):
            """Yield the first name; then the job ends; then yield the second."""
            yield "images.npy"
            with walk.application.uow() as uow:
                jobs.fail_job(uow, job.id, token=token, problem={"type": "x", "detail": "y"})
            walk.application.objects.put_bytes(
                Bucket.WORK, f"{version.prefix}images.npy", body=b"written meanwhile"
            )
            yield "labels.npy"

    for name in ("images.npy", "labels.npy"):
        (tmp_path / name).write_bytes(b"pixels")
    manifest = walk.manifest(dataset, version.number, 2)
    manifest = manifest.model_copy(update={"blobs": Interrupted()})
    with pytest.raises(LeaseLost):
        store_version(context, version, manifest, folder=tmp_path)
    assert stored(walk, version.prefix) == []


def test_a_checkpoint_stays_until_the_training_has_ended_and_no_longer(walk, tmp_path):
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job)
    walk.charge(job, token)
    run = LedgerRun(context_of(walk, job, token, tmp_path), (), ())
    run.save_checkpoint({"step": np.arange(1)})
    with walk.application.uow() as uow:
        jobs.reap(uow)
        jobs.requeue_job(uow, job.id, token=token)
    second = walk.claim(job)
    again = LedgerRun(context_of(walk, job, second, tmp_path), (), ())
    assert again.load_checkpoint() is not None
    walk.succeed(job, second, {"generator_manifest": "k", "digest": "1" * 64})
    assert stored(walk, "checkpoints/") == []


@pytest.mark.parametrize("ending", ["fail_job", "cancel_finished"])
def test_checkpoints_of_a_training_that_came_to_nothing_are_deleted(walk, tmp_path, ending):
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job)
    LedgerRun(context_of(walk, job, token, tmp_path), (), ()).save_checkpoint({"a": np.arange(1)})
    more = {"problem": {"type": "x", "detail": "y"}} if ending == "fail_job" else {}
    with walk.application.uow() as uow:
        ended = getattr(jobs, ending)(uow, job.id, token=token, **more)
    assert ended.state in {JobState.FAILED, JobState.CANCELLED}
    assert stored(walk, "checkpoints/") == []


def test_the_reaper_deletes_a_checkpoint_that_was_stored_after_the_end(walk):
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job)
    with walk.application.uow() as uow:
        jobs.fail_job(uow, job.id, token=token, problem={"type": "x", "detail": "y"})
    late = to_bytes({"step": np.arange(1)})
    key = f"checkpoints/{job.id}/0001.safetensors"
    walk.application.objects.put_bytes(Bucket.WORK, key, body=late)
    with walk.application.uow() as uow:
        assert jobs.reap(uow).swept_checkpoints == 1
    assert stored(walk, "checkpoints/") == []


def test_two_attempts_keep_their_grids_apart(walk, tmp_path):
    job = walk.training(walk.version(walk.dataset()))
    images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    for _ in range(2):
        token = walk.claim(job)
        context = context_of(walk, job, token, tmp_path)
        LedgerRun(context, (), ()).show_samples(images, labels)
        with walk.application.uow() as uow:
            jobs.requeue_job(uow, job.id, token=token)
    assert len(stored(walk, f"candidate/{job.id}/")) == 2
