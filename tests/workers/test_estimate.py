"""ESTIMATE through a real child process: time and memory without a record and without a charge."""

import threading

import numpy as np
import pytest

from privacy.mechanisms import PrivacyTarget
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.jobs import JobKind, JobState
from service.operations import budgets, jobs
from tests.workers.service_stack import phantom_schema, running_service
from workers import lifecycle

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(300)]
PERSONS = 80


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    with running_service(tmp_path_factory.mktemp("service"), object_store) as found:
        yield found


@pytest.fixture(scope="module")
def version_id(service, tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("upload") / "upload.npz"
    np.savez(
        path,
        train_images=rng.integers(0, 255, (PERSONS, 32, 32)).astype(np.uint8),
        train_labels=(np.arange(PERSONS) % 5).astype(np.int64),
        train_patient_ids=np.array([f"patient-{n}" for n in range(PERSONS)]),
    )
    job = service.upload(path, phantom_schema(PERSONS))
    service.work()
    return service.job(job.id).version_id


def ask(service, version_id, **changes) -> jobs.Estimate:
    asked = {
        "generator": "statistics",
        "config": {},
        "target": PrivacyTarget(epsilon=2.0, delta=1e-5),
        "samples": 60,
    } | changes
    with service.application.uow(read_only=True) as uow:
        plan = jobs.plan_training(uow, service.owner, version_id=version_id, **asked)
    assert plan.planned is not None, plan.refusal
    with service.application.uow() as uow:
        return jobs.request_estimate(
            uow, service.owner, version_id=version_id, planned=plan.planned
        )


def test_a_worker_tells_time_and_memory_and_spends_nothing(service, version_id):
    assert ask(service, version_id).state == "pending"
    service.work()
    found = ask(service, version_id)
    assert found.state == "ready", found.reason
    assert 0 < found.result["seconds"] < 300
    assert found.result["peak_bytes"] > 10**7
    assert "cores" in found.result["device"]
    with service.application.uow(read_only=True) as uow:
        assert list(budgets.load_reservations(uow, _cohort(service, uow, version_id))) == []
    assert not service.jobs_of(JobKind.SAMPLE)


def test_a_dry_run_that_cannot_work_ends_with_a_reason(service, version_id):
    pending = ask(service, version_id, samples=61)
    with service.application.uow() as uow:
        uow.without_trail("a payload of a newer version, say")
        job = jobs.load_job(uow, pending.job_id)
        job.payload = job.payload | {"generator": "unheard_of"}
    lifecycle.run_job(service.application, pending.job_id, stopping=threading.Event())
    service.dispatcher.sent.clear()
    assert service.job(pending.job_id).state is JobState.FAILED
    failed = ask(service, version_id, samples=61)
    assert failed.state == "failed"
    assert "'unheard_of' was refused" in str(failed.reason)


def _cohort(service, uow, version_id: str) -> str:
    return uow.get(Dataset, uow.get(DatasetVersion, version_id).dataset_id).cohort_id
