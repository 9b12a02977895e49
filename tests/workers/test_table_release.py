"""A table travels from an upload to a published bundle, with the marginals that its generator measured."""

import json
import zipfile

import pytest

from privacy import signing
from privacy.bundle import verify_bundle
from service.bundle_formats import compare
from service.domain.declarations import ReleaseDeclaration
from service.domain.jobs import Job, JobKind, JobState
from service.domain.releases import Release, ReleaseState
from service.operations import releases
from service.store.objects import Bucket
from tests.workers.service_stack import running_service
from tests.workers.table_uploads import SECRET, clinic_rows, clinic_schema, write_csv
from training.tables.fitted import NOTHING_FOUND

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SAMPLES = 150


def test_a_published_table_is_verified_and_carries_what_was_measured(tmp_path, object_store):
    with running_service(tmp_path / "service", object_store) as service:
        path = write_csv(tmp_path / "clinic.csv", clinic_rows(200))
        ingested = service.upload(path, clinic_schema(), delta="0.0001")
        service.work()
        version_id = service.job(ingested.id).version_id
        service.train(version_id, generator="mst", samples=SAMPLES)
        service.work()
        (training,) = service.jobs_of(JobKind.TRAIN)
        assert training.result["warnings"] in ([], [NOTHING_FOUND])
        released = publish(service, service.jobs_of(JobKind.AUDIT)[0])
        assert released.state is ReleaseState.PUBLISHED
        bundle = tmp_path / "table.zip"
        service.application.objects.get_to_file(
            Bucket.RELEASED, released.bundle_key, path=bundle, sha256=released.bundle_sha256
        )
        picture = service.application.objects.get_bytes(Bucket.WORK, released.preview_key)
        key = signing.public_key_pem(service.application.signing_key())
    assert picture.startswith(b"\x89PNG")
    result = verify_bundle(bundle, public_key=key)
    assert result.accepted, result.problems
    compared = compare(bundle)
    assert not compared.problems
    rows = {check.format: check.rows for check in compared.formats}
    assert rows == {"parquet": SAMPLES, "csv": SAMPLES}
    with zipfile.ZipFile(bundle) as archive:
        certificate = json.loads(archive.read("certificate.json"))
        measured = json.loads(archive.read("marginals.json"))["marginals"]
        assert not any(SECRET.encode() in archive.read(name) for name in archive.namelist())
    assert certificate["splits"] == {"train": 120, "test": 30}
    told = " ".join(certificate["statements"])
    assert "with all of their rows" in told
    assert "image" not in told
    assert len(measured) >= len(clinic_schema().columns)
    assert all(marginal["sigma"] > 0 for marginal in measured)


def publish(service, audited: Job) -> Release:
    """Walk a release to publication, whatever its verdict: so few persons are too few to pass."""
    assert audited.state is JobState.SUCCEEDED, audited.problem
    with service.application.uow() as uow:
        uow.without_trail("a test changes a verdict")
        job = uow.get(Job, audited.id)
        job.result = {**job.result, "verdict": "PASS-EMPIRICAL"}
    with service.application.uow() as uow:
        release = releases.create_release(
            uow,
            service.owner,
            dataset_id=audited.dataset_id,
            audit_job_id=audited.id,
            name="clinic",
            terms="For research only.",
            declared=ReleaseDeclaration(marginals=True, test_share=0.2),
        )

    def step(operation, actor, **arguments):
        with service.application.uow() as uow:
            etag = uow.get(Release, release.id).etag
            operation(uow, actor, release_id=release.id, if_match=etag, **arguments)

    step(releases.submit_release, service.owner)
    for auditor in service.auditors:
        step(releases.review_release, auditor, decision="approve", reason="It passes.")
    step(releases.publish_release, service.owner)
    service.work()
    (job,) = service.jobs_of(JobKind.PACKAGE)
    assert job.state is JobState.SUCCEEDED, job.problem
    with service.application.uow(read_only=True) as uow:
        return releases.get_release(uow, service.owner, release_id=release.id).release
