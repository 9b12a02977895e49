"""Claim, watch, finish: with real children, a real database and a real object store."""

import threading

import psutil
import pytest

from service.domain.jobs import Job, JobState
from service.operations import jobs
from service.store.objects import Bucket
from tests.workers.service_stack import phantom_schema, running_service, wait_until
from workers import lifecycle
from workers.workspace import scratch_root

pytestmark = [pytest.mark.xdist_group("lifecycle"), pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, object_store, KAIMA_LEASE_SECONDS="20") as found:
        yield found


@pytest.fixture
def job(service, tmp_path) -> Job:
    path = tmp_path / "upload.npz"
    path.write_bytes(b"no zip at all")
    service.dispatcher.sent.clear()
    return service.upload(path, phantom_schema(60))


def test_a_second_message_about_a_job_finds_nothing_to_claim(service, job):
    service.work()
    ended = service.job(job.id)
    lifecycle.run_job(service.application, job.id, stopping=threading.Event())
    again = service.job(job.id)
    assert (again.attempt, again.finished_at) == (1, ended.finished_at)


def test_a_worker_that_is_stopping_claims_nothing(service, job):
    stopping = threading.Event()
    stopping.set()
    lifecycle.run_job(service.application, job.id, stopping=stopping)
    assert service.job(job.id).state is JobState.QUEUED


def test_an_internal_error_fails_the_job_without_its_text(service, job):
    service.application.objects.delete(Bucket.WORK, job.payload["raw_key"])
    service.work()
    ended = service.job(job.id)
    assert ended.state is JobState.FAILED
    assert ended.problem["type"] == "internal"
    assert job.payload["raw_key"] not in ended.problem["detail"]


def test_scratch_is_empty_when_a_job_has_ended(service, job):
    service.work()
    assert service.job(job.id).state is JobState.FAILED
    assert not list(scratch_root(service.application.settings).iterdir())


def work_in_background(service, job: Job, stopping: threading.Event) -> threading.Thread:
    thread = threading.Thread(
        target=lifecycle.run_job,
        args=(service.application, job.id),
        kwargs={"stopping": stopping},
    )
    thread.start()
    return thread


def only_child() -> psutil.Process:
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = [
            child
            for child in psutil.Process().children()
            if "workers.job" in " ".join(child.cmdline())
        ]
        return bool(found)

    wait_until(is_there, seconds=120, what="the child starts")
    return found[0]


def test_a_killed_job_that_is_no_training_fails_with_a_sentence_about_memory(service, job):
    thread = work_in_background(service, job, threading.Event())
    only_child().kill()
    thread.join(30)
    ended = service.job(job.id)
    assert ended.state is JobState.FAILED
    assert "ran out of memory" in ended.problem["detail"]
    assert "signal 9" in ended.problem["detail"]


def test_a_stopping_worker_hands_its_job_back(service, job):
    stopping = threading.Event()
    thread = work_in_background(service, job, stopping)
    child = only_child()
    stopping.set()
    thread.join(30)
    assert not child.is_running()
    handed_back = service.job(job.id)
    assert (handed_back.state, handed_back.owner) == (JobState.QUEUED, None)
    assert service.dispatcher.sent[-1] == (job.kind, job.id)


def test_a_worker_whose_job_was_given_to_another_kills_its_child_and_writes_nothing(service, job):
    thread = work_in_background(service, job, threading.Event())
    child = only_child()
    with service.application.uow() as uow:
        uow.without_trail("a test gives the job to somebody else")
        taken = jobs.load_job(uow, job.id)
        taken.owner = "somebody else"
    thread.join(30)
    assert not child.is_running()
    now = service.job(job.id)
    assert (now.state, now.owner, now.problem) == (JobState.RUNNING, "somebody else", None)
