"""A twin is asked for, charged and audited inside, and nothing follows from it."""

import numpy as np
import pytest

from service.domain.errors import InputRefused
from service.domain.jobs import JobKind
from service.operations import jobs
from tests.workers.service_stack import phantom_schema, running_service

pytestmark = [pytest.mark.xdist_group("twin"), pytest.mark.timeout(300)]

PERSONS = 80
CANARIES = 120


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    with running_service(tmp_path_factory.mktemp("service"), object_store) as found:
        yield found


@pytest.fixture(scope="module")
def version_id(service, tmp_path_factory):
    path = tmp_path_factory.mktemp("upload") / "upload.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        train_images=rng.integers(0, 256, (PERSONS, 32, 32)).astype(np.uint8),
        train_labels=np.arange(PERSONS) % 5,
        train_patient_ids=np.array([f"patient-{n}" for n in range(PERSONS)]),
    )
    ingest = service.upload(path, phantom_schema(PERSONS))
    service.work()
    return service.job(ingest.id).version_id


@pytest.fixture(scope="module")
def twin(service, version_id):
    asked = service.train(version_id, canaries=CANARIES)
    service.work()
    return service.job(asked.id)


def test_a_twin_is_charged_like_a_training(service, twin):
    with service.application.uow(read_only=True) as uow:
        stored = jobs.load_reservation(uow, twin.id)
        assert stored.charged == [m.get("steps", 1) for m in stored.mechanisms]


def test_a_twin_says_what_its_canaries_showed_and_never_passes(twin):
    summary = twin.result["summary"]
    assert summary["canaries"] == CANARIES
    assert 0 <= summary["epsilon_lower_bound"] <= summary["epsilon_max_certifiable"]
    assert summary["epsilon_claimed"] == pytest.approx(2.0, abs=0.1)
    assert twin.result["verdict"] == "INCONCLUSIVE"


def test_nothing_follows_from_a_twin_and_no_weights_are_kept(service, twin):
    assert not service.jobs_of(JobKind.SAMPLE)
    assert "weights" not in twin.result
    assert "generator_manifest" not in twin.result


def test_canaries_are_part_of_what_is_committed_to(twin):
    assert twin.payload["plan"]["canaries"] == CANARIES


@pytest.mark.parametrize("canaries", [-1, 1, 99, 2001])
def test_too_few_or_too_many_canaries_are_refused(service, version_id, canaries):
    with pytest.raises(InputRefused, match="canaries were refused"):
        service.train(version_id, canaries=canaries)
