"""The STUDY job through a real child: which pictures readers will see, and that their list is locked."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from service.domain.jobs import Job, JobKind, JobState
from service.domain.studies import REAL, Study, StudyCase, StudyState
from service.operations import jobs, studies
from service.store.objects import Bucket
from tests.workers.service_stack import Service, phantom_schema, running_service
from tests.workers.test_pipeline import write_upload
from workers.split import draw_split
from workers.study import HELD_OUT, list_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PLAN = {"question": "Can readers tell?", "cases_per_class": 6, "scale": ["0", "1"]}


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    with running_service(tmp_path_factory.mktemp("service"), object_store) as found:
        yield found


@pytest.fixture(scope="module")
def upload(tmp_path_factory):
    return write_upload(tmp_path_factory.mktemp("upload") / "upload.npz")


@pytest.fixture(scope="module")
def audited(service: Service, upload) -> Job:
    ingest = service.upload(upload, phantom_schema(80))
    service.work()
    service.train(service.job(ingest.id).version_id, samples=60)
    service.work(until=JobKind.SAMPLE)
    (audit,) = service.jobs_of(JobKind.AUDIT)
    service.dispatcher.sent.clear()  # the battery takes minutes and nothing here reads its report
    with service.application.uow() as uow:
        jobs.claim_job(uow, audit.id, token="t" * 16, lease_seconds=60)
    with service.application.uow() as uow:
        result = {"report": "k", "digest": "3" * 64, "verdict": "INCONCLUSIVE"}
        return jobs.succeed_job(uow, audit.id, token="t" * 16, result=result)


def drawn(service: Service, audit: Job, **plan) -> Study:
    with service.application.uow() as uow:
        study = studies.create_study(
            uow, service.owner, audit_job_id=audit.id, name="s", plan={**PLAN, **plan}
        )
    with service.application.uow() as uow:
        study = studies.register_study(uow, service.owner, study_id=study.id)
    for auditor in service.auditors:
        with service.application.uow() as uow:
            studies.consent_to_study(
                uow, auditor, study_id=study.id, plan_digest=str(study.plan_digest)
            )
    service.work()
    with service.application.uow(read_only=True) as uow:
        return studies.get_study(uow, service.owner, study_id=study.id).study


def test_real_cases_are_pictures_of_held_out_persons_and_the_list_is_locked(
    service: Service, audited: Job, upload
) -> None:
    study = drawn(service, audited)
    assert study.state is StudyState.OPEN, service.job(str(study.job_id)).problem
    with service.application.uow(read_only=True) as uow:
        cases = [uow.get(StudyCase, (study.id, number)) for number in range(1, 13)]
    assert list_digest(cases) == study.cases_digest
    with np.load(upload, allow_pickle=False) as arrays:
        images, people = arrays["train_images"], arrays["train_patient_ids"]
    owners = {image.tobytes(): str(person) for image, person in zip(images, people, strict=True)}
    training = service.job(audited.payload["train_job_id"])
    names = sorted(set(owners.values()))
    keys = service.application.keys
    digests = [keys.person_digest(training.tenant_id, name.encode()) for name in names]
    with service.application.uow(read_only=True) as uow:
        from service.domain.datasets import Dataset

        cohort_id = uow.get(Dataset, training.dataset_id).cohort_id
    split = draw_split(
        service.application,
        training,
        cohort_id=cohort_id,
        person_digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
    )
    arm_of = dict(zip(names, split.arms.tolist(), strict=True))
    shown = []
    for case in cases:
        body = service.application.objects.get_bytes(Bucket.WORK, case.key)
        assert hashlib.sha256(body).hexdigest() == case.digest
        pixels = np.asarray(Image.open(io.BytesIO(body)))
        assert (pixels.shape, pixels.dtype) == ((32, 32), np.uint8)
        owner = owners.get(pixels.tobytes())
        assert (owner is not None) == (case.truth == REAL)
        if owner is not None:
            shown.append(owner)
            assert arm_of[owner] in HELD_OUT
    assert len(set(shown)) == len(shown) == 6  # each person once


def test_a_plan_for_more_cases_than_there_are_fails_with_the_number_and_may_be_cancelled(
    service: Service, audited: Job
) -> None:
    study = drawn(service, audited, cases_per_class=60)
    assert study.state is StudyState.PREPARING
    job = service.job(str(study.job_id))
    assert job.state is JobState.FAILED
    assert "60 are needed" in job.problem["detail"]
    with service.application.uow() as uow:
        studies.cancel_study(uow, service.owner, study_id=study.id)
