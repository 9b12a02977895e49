"""Lost messages and expired leases are mended, and an unreachable component is survived."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from service.domain.jobs import Job, JobState
from service.operations import jobs
from service.wiring import build
from tests.workers.service_stack import phantom_schema, running_service
from workers.reconcile import reconcile

pytestmark = pytest.mark.xdist_group("reconcile")


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, object_store, KAIMA_RESEND_SECONDS="0.2") as found:
        yield found


@pytest.fixture
def job(service, tmp_path) -> Job:
    path = tmp_path / "upload.npz"
    path.write_bytes(b"not looked at here")
    made = service.upload(path, phantom_schema(60))
    service.dispatcher.sent.clear()
    return made


def test_a_job_whose_message_was_lost_gets_another_one(service, job):
    reconcile(service.application)
    assert service.dispatcher.sent == []
    time.sleep(0.3)
    reconcile(service.application)
    assert (job.kind, job.id) in service.dispatcher.sent


def test_two_reconcilers_take_an_expired_lease_back_once(service, job):
    with service.application.uow() as uow:
        assert jobs.claim_job(uow, job.id, token="gone", lease_seconds=0.05)
    time.sleep(0.1)
    other = build(service.application.settings, dispatcher=service.dispatcher)
    reconcile(service.application)
    reconcile(other)
    other.close()
    now = service.job(job.id)
    assert (now.state, now.attempt, now.owner) == (JobState.QUEUED, 1, None)
    assert service.dispatcher.sent.count((job.kind, job.id)) == 1


def test_a_database_that_does_not_answer_is_survived(service, tmp_path):
    settings = replace(service.application.settings, database_url=f"sqlite:///{tmp_path}/none/x")
    lost = build(settings, dispatcher=service.dispatcher)
    reconcile(lost)
    lost.close()


def test_the_loop_ends_when_it_is_told_to(service):
    command = [sys.executable, "-m", "workers.reconcile"]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE) as process:
        assert b"Reconciling" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, process.stderr.read()
