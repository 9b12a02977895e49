"""Rows with an image each from an upload to a withdrawal, through real children, database and object store."""

import io
import json

import numpy as np
import pytest

from privacy.manifests import DatasetManifest
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.jobs import Job, JobState
from service.operations import datasets
from service.store.objects import Bucket
from tests.workers.joint_uploads import FILE, joint_schema, joint_zip
from tests.workers.service_stack import Service, running_service
from tests.workers.table_uploads import SECRET

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("joint_pipeline"),
    pytest.mark.timeout(900),
]

PERSONS = 200
SCHEMA = joint_schema(declared_count=PERSONS)


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    with running_service(tmp_path_factory.mktemp("service"), object_store) as found:
        yield found


@pytest.fixture(scope="module")
def ingested(service, tmp_path_factory) -> Job:
    path = joint_zip(PERSONS).write(tmp_path_factory.mktemp("upload") / "clinic.zip")
    job = service.upload(path, SCHEMA, delta="0.0001")
    service.work()
    return service.job(job.id)


def version_of(service: Service, job: Job) -> DatasetVersion:
    with service.application.uow(read_only=True) as uow:
        return datasets.load_version(uow, job.version_id)


def array(service: Service, key: str):
    content = service.application.objects.get_bytes(Bucket.WORK, key)
    return np.load(io.BytesIO(content), allow_pickle=False)


def test_a_zip_becomes_a_version_without_identifiers(service, ingested):
    assert ingested.state is JobState.SUCCEEDED, ingested.problem
    version = version_of(service, ingested)
    assert version.state is VersionState.READY
    manifest = DatasetManifest.model_validate(version.manifest)
    assert manifest.declared == SCHEMA
    assert (manifest.person_count, manifest.record_count) == (PERSONS, PERSONS * 3 // 2)
    report = version.ingest_report
    assert report["duplicates"]["images"] == 0
    assert sum(report["labels"].values()) == manifest.record_count
    objects = service.application.objects
    stored = [
        objects.get_bytes(Bucket.WORK, key) for key in objects.list_keys(Bucket.WORK, "versions/")
    ]
    assert not any(SECRET.encode() in content for content in stored)
    assert SECRET not in json.dumps([version.manifest, report])
    assert not list(objects.list_keys(Bucket.WORK, "raw/"))


def test_a_withdrawn_person_is_gone_from_rows_and_images(service, ingested):
    version = version_of(service, ingested)
    before = {name: array(service, f"{version.prefix}{name}.npy") for name in ("table", "images")}
    with service.application.uow() as uow:
        job = datasets.withdraw_person(
            uow, service.owner, dataset_id=version.dataset_id, patient_id=f"{SECRET}-0-13"
        )
    service.work()
    erased = service.job(job.id)
    assert erased.state is JobState.SUCCEEDED, erased.problem
    after = version_of(service, erased)
    person = 13
    gone = slice(person + person // 2, person + person // 2 + 2)  # two rows: the number is odd
    for name, blob in before.items():
        kept = array(service, f"{after.prefix}{name}.npy")
        left = np.delete(blob, np.arange(len(blob))[gone], axis=0)
        np.testing.assert_array_equal(kept, left)
    assert not list(service.application.objects.list_keys(Bucket.WORK, version.prefix))


def test_an_image_that_is_missing_refuses_the_upload_by_its_row(service, tmp_path):
    made = joint_zip(PERSONS, seed=3)
    del made.files[f"clinic/{made.rows[7][FILE]}"]
    job = service.upload(made.write(tmp_path / "bad.zip"), SCHEMA, delta="0.0001")
    service.work()
    refused = service.job(job.id)
    assert refused.state is JobState.FAILED
    assert "row 8, column 'file'" in refused.problem["detail"]
    assert SECRET not in json.dumps(refused.problem)


def test_the_images_of_a_zip_under_other_ids_buy_no_second_budget(service, ingested, tmp_path):
    assert ingested.state is JobState.SUCCEEDED
    made = joint_zip(PERSONS)
    for row in made.rows:
        row |= {"patient_id": f"other {row['patient_id']}", "age": 40 + hash(row[FILE]) % 50}
    job = service.upload(made.write(tmp_path / "again.zip"), SCHEMA, delta="0.0001")
    service.work()
    refused = service.job(job.id)
    assert refused.state is JobState.FAILED
    assert "pixel for pixel" in refused.problem["detail"]
