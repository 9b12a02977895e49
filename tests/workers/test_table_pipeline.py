"""A table travels from an upload to an audit, through real children, database and object store."""

import io
import json

import numpy as np
import pytest

from privacy import accounting
from privacy.manifests import DatasetManifest, GeneratorManifest, SamplesManifest
from privacy.report import AuditReport
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.jobs import Job, JobKind, JobState
from service.operations import datasets
from service.store.objects import Bucket
from tests.workers.service_stack import Service, running_service
from tests.workers.table_uploads import SECRET, clinic_rows, clinic_schema, write_csv

pytestmark = [pytest.mark.xdist_group("table_pipeline"), pytest.mark.timeout(900)]

PERSONS = 200
SAMPLES = 150


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    with running_service(tmp_path_factory.mktemp("service"), object_store) as found:
        yield found


@pytest.fixture(scope="module")
def ingested(service, tmp_path_factory) -> Job:
    path = write_csv(tmp_path_factory.mktemp("upload") / "clinic.csv", clinic_rows(PERSONS))
    job = service.upload(path, clinic_schema(), delta="0.0001")
    service.work()
    return service.job(job.id)


@pytest.fixture(scope="module")
def audited(service, ingested) -> Job:
    service.train(ingested.version_id, generator="independent_columns", samples=SAMPLES)
    service.work()
    return service.jobs_of(JobKind.AUDIT)[0]


def document(service: Service, job: Job, key: str) -> bytes:
    return service.application.objects.get_bytes(Bucket.WORK, job.result[key])


def version_of(service: Service, job: Job) -> DatasetVersion:
    with service.application.uow(read_only=True) as uow:
        return datasets.load_version(uow, job.version_id)


def array(service: Service, key: str):
    content = service.application.objects.get_bytes(Bucket.WORK, key)
    return np.load(io.BytesIO(content), allow_pickle=False)


def test_a_table_becomes_a_version_without_identifiers(service, ingested):
    assert ingested.state is JobState.SUCCEEDED, ingested.problem
    version = version_of(service, ingested)
    assert version.state is VersionState.READY
    manifest = DatasetManifest.model_validate(version.manifest)
    assert manifest.declared == clinic_schema()
    assert (manifest.person_count, manifest.record_count) == (PERSONS, PERSONS * 3 // 2)
    report = version.ingest_report
    assert report["ignored_columns"] == ["note"]
    assert report["columns"]["bmi"]["missing"] > 0
    assert sum(report["labels"].values()) == manifest.record_count
    assert report["violations"] == {"no cause without a grade": 0}
    objects = service.application.objects
    stored = [
        objects.get_bytes(Bucket.WORK, key) for key in objects.list_keys(Bucket.WORK, "versions/")
    ]
    assert not any(SECRET.encode() in content for content in stored)
    assert SECRET not in json.dumps([version.manifest, report])
    assert not list(objects.list_keys(Bucket.WORK, "raw/"))


@pytest.mark.slow
def test_the_synthetic_table_is_as_large_as_was_asked_for_and_keeps_to_the_declaration(
    service, audited
):
    sampling = service.job(audited.payload["sample_job_id"])
    samples = SamplesManifest.model_validate_json(document(service, sampling, "samples_manifest"))
    assert set(samples.blobs) == {"table.npy"}
    assert samples.label_distribution == "drawn"
    folder = sampling.result["samples_manifest"].rpartition("/")[0]
    values = array(service, f"{folder}/table.npy")
    schema = clinic_schema()
    assert values.shape == (SAMPLES, len(schema.columns))
    codes = schema.codes_of(values)
    assert (codes >= 0).all()
    assert (codes < np.asarray(schema.sizes)).all()
    shown = json.loads(service.application.objects.get_bytes(Bucket.WORK, f"{folder}/rows.json"))
    assert shown["columns"] == [column.name for column in schema.columns]
    assert set(shown["rows"][0][2]) <= set("fm")


@pytest.mark.slow
def test_an_audit_of_a_table_judges_it_and_names_what_it_is_about(service, ingested, audited):
    assert audited.state is JobState.SUCCEEDED, audited.problem
    training = service.job(audited.payload["train_job_id"])
    generator = GeneratorManifest.model_validate_json(
        document(service, training, "generator_manifest")
    )
    assert generator.dataset == version_of(service, ingested).manifest_digest
    assert accounting.epsilon(generator.mechanisms, 1e-5) <= training.payload["epsilon"]
    report = AuditReport.model_validate_json(document(service, audited, "report"))
    assert report.modality == "table"
    assert report.digest() == audited.result["digest"]
    assert report.records["synthetic"] == SAMPLES
    assert report.provenance["dataset"] == generator.dataset
    assert report.verdict.value not in {"INVALID", "FAIL"}, report.verdict_reason


@pytest.mark.slow
def test_the_owner_is_told_what_the_table_is_good_for(service, audited):
    utility = json.loads(document(service, audited, "utility"))
    assert utility["computed"], utility
    assert utility["kind"] == "table"
    page = document(service, audited, "report_html").decode()
    assert "taught on synthetic" in page
    assert "no cause without a grade" in page


@pytest.mark.slow
def test_real_rows_are_kept_apart_from_the_page_that_is_read(service, audited):
    pairs = json.loads(document(service, audited, "pairs"))
    assert len(pairs) == audited.result["pair_count"]
    for pair in pairs:
        assert [cell["column"] for cell in pair["cells"]] == ["age", "bmi", "sex", "grade", "cause"]
    assert "<th>trained on</th>" not in document(service, audited, "report_html").decode()


@pytest.mark.slow
def test_a_withdrawn_person_is_gone_from_the_stored_table(service, ingested):
    version = version_of(service, ingested)
    before = array(service, f"{version.prefix}table.npy")
    with service.application.uow() as uow:
        job = datasets.withdraw_person(
            uow, service.owner, dataset_id=version.dataset_id, patient_id=f"{SECRET}-0-13"
        )
    service.work()
    erased = service.job(job.id)
    assert erased.state is JobState.SUCCEEDED, erased.problem
    after = version_of(service, erased)
    kept = array(service, f"{after.prefix}table.npy")
    person = 13
    gone = slice(person + person // 2, person + person // 2 + 2)  # two rows: the number is odd
    np.testing.assert_array_equal(kept, np.delete(before, np.arange(len(before))[gone], axis=0))
    assert not list(service.application.objects.list_keys(Bucket.WORK, version.prefix))
    persons = array(service, f"{after.prefix}persons.npy")
    assert np.bincount(persons).tolist().count(0) == 0
    assert len(np.unique(persons)) == PERSONS - 1


def test_an_undeclared_level_is_refused_without_being_named(service, tmp_path):
    rows = clinic_rows(PERSONS, seed=3)
    rows[7]["sex"] = SECRET
    path = write_csv(tmp_path / "bad.csv", rows)
    job = service.upload(path, clinic_schema(), delta="0.0001")
    service.work()
    refused = service.job(job.id)
    assert refused.state is JobState.FAILED
    assert "the column 'sex' holds levels that were not declared" in refused.problem["detail"]
    assert "1 cell" in refused.problem["detail"]
    assert SECRET not in json.dumps(refused.problem)


@pytest.mark.slow
def test_a_table_by_aim_is_judged_and_a_twin_of_another_run_is_measured(service, tmp_path):
    rows = clinic_rows(PERSONS, seed=4)
    path = write_csv(tmp_path / "clinic.csv", rows)
    ingested = service.upload(path, clinic_schema(), delta="0.0001")
    service.work()
    version_id = service.job(ingested.id).version_id
    service.train(version_id, generator="aim", samples=SAMPLES)
    service.work()
    audit = service.jobs_of(JobKind.AUDIT)[-1]
    assert audit.state is JobState.SUCCEEDED, audit.problem
    assert audit.result["verdict"] not in {"INVALID", "FAIL"}
    twin = service.train(version_id, generator="independent_columns", samples=SAMPLES, canaries=100)
    service.work()
    twin = service.job(twin.id)
    assert twin.state is JobState.SUCCEEDED, twin.problem
    assert twin.result["summary"]["canaries"] == 100
    assert not twin.result["summary"]["refutes_claim"]
