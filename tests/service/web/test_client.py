"""The client against the app and a real object store: every step over HTTP."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from privacy.manifests import DatasetSchema
from service.client import JobFailed, KaimaClient, ProblemError
from service.domain.accounts import Actor
from service.domain.datasets import DatasetVersion
from service.domain.jobs import Job
from service.domain.releases import ReleaseState
from service.store.objects import Bucket
from service.transfers import Source, TransferRefused, download_to, zip_folder
from tests.factories import SCHEMA, Walk

ClientOf = Callable[[Actor], KaimaClient]


def declare(client: KaimaClient, name: str, **options: object) -> str:
    given = {"purpose": "tests", "declared": SCHEMA, "epsilon": 3.0, **options}
    return client.create_dataset(name, **given).id  # type: ignore[arg-type]


def stored_bytes(people: Walk, version_id: str) -> bytes:
    with people.application.uow(read_only=True) as uow:
        version = uow.get(DatasetVersion, version_id)
        assert version is not None
        assert version.raw_key is not None
        return uow.objects.get_bytes(Bucket.WORK, version.raw_key)


def test_who_am_i_is_the_user_of_the_key(people: Walk, client_of: ClientOf) -> None:
    me = client_of(people.owner).me()
    assert (me.user_id, me.tenant_id, me.roles) == (
        people.owner.user_id,
        people.tenant_id,
        ["data_owner"],
    )


def test_an_operator_makes_a_tenant_a_user_and_a_key_that_works(
    people: Walk, client_of: ClientOf
) -> None:
    operator = client_of(people.operator)
    tenant = operator.create_tenant("St. Elsewhere")
    user = operator.create_user("ada", roles=["data_owner", "auditor"], tenant_id=tenant.id)
    key = operator.create_api_key(user.id, scopes=["read"], expires_in_days=2)
    newcomer = KaimaClient(
        "http://kaima.test", key.token, transport=operator._connection.http._transport
    )
    assert newcomer.me().scopes == ["read"]
    operator.revoke_api_key(key.id)
    with pytest.raises(ProblemError, match="unknown, expired or revoked") as refused:
        newcomer.me()
    assert refused.value.status == 401


def test_a_dataset_is_created_with_its_budget(people: Walk, client_of: ClientOf) -> None:
    owner = client_of(people.owner)
    dataset_id = declare(owner, "knees with a budget")
    budget = owner.budget(dataset_id)
    assert (budget.epsilon, budget.epsilon_remaining, budget.delta) == (3.0, 3.0, 1e-5)
    assert budget.unit == "person"
    assert owner.dataset(dataset_id).declared == SCHEMA


def test_a_joining_dataset_shares_the_budget(people: Walk, client_of: ClientOf) -> None:
    owner = client_of(people.owner)
    first = owner.dataset(declare(owner, "first of two"))
    second = owner.create_dataset(
        "second of two", purpose="tests", declared=SCHEMA, join_dataset_id=first.id
    )
    assert second.cohort_id == first.cohort_id


def test_an_upload_in_parts_arrives_byte_for_byte(
    people: Walk, client_of: ClientOf, tmp_path: Path
) -> None:
    owner = client_of(people.owner)
    body = os.urandom(6 * 1024 * 1024)  # more than one part of 5 MiB
    path = tmp_path / "knees.zip"
    path.write_bytes(body)
    seen: list[tuple[int, int]] = []
    dataset_id = declare(owner, "uploaded in parts")
    job = owner.upload(dataset_id, path, progress=lambda *now: seen.append(now))
    assert (job.kind, job.state) == ("ingest", "queued")
    assert seen[-1] == (len(body), len(body))
    assert stored_bytes(people, str(job.version_id)) == body


def test_an_upload_through_the_service_arrives_byte_for_byte(
    people: Walk, client_of: ClientOf, tmp_path: Path
) -> None:
    owner = client_of(people.owner)
    body = os.urandom(2 * 1024 * 1024)  # above the limit of every other body
    path = tmp_path / "knees.npz"
    path.write_bytes(body)
    job = owner.upload(declare(owner, "uploaded through"), path, through_service=True)
    assert stored_bytes(people, str(job.version_id)) == body


def test_a_folder_is_zipped_on_the_way(people: Walk, client_of: ClientOf, tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.dcm").write_bytes(b"one" * 100_000)
    (folder / "labels.csv").write_text("file,grade\na/1.dcm,0\n")
    owner = client_of(people.owner)
    job = owner.upload(declare(owner, "uploaded as a folder"), folder)
    with zipfile.ZipFile(io.BytesIO(stored_bytes(people, str(job.version_id)))) as archive:
        assert archive.namelist() == ["a/1.dcm", "labels.csv"]
        assert archive.read("a/1.dcm") == b"one" * 100_000
        assert archive.testzip() is None


def test_a_folder_with_a_link_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "link.dcm").symlink_to("/etc/hostname")
    with pytest.raises(TransferRefused, match=r"link\.dcm is a link"):
        Source(tmp_path)


def test_the_same_folder_gives_the_same_zip(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(b"pixels")
    first = b"".join(zip_folder(tmp_path))
    os.utime(tmp_path / "1.dcm", (0, 0))
    assert b"".join(zip_folder(tmp_path)) == first


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("knees.tar", b"x", "must be one of .zip, .npz, .csv, .parquet"),
        ("knees.zip", b"", "it holds 0 bytes"),
        ("missing.zip", None, "there is no such file"),
    ],
)
def test_an_upload_that_cannot_be_right_is_refused_here(
    tmp_path: Path, name: str, body: bytes | None, sentence: str
) -> None:
    path = tmp_path / name
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(TransferRefused, match=sentence):
        Source(path)


def test_training_is_planned_requested_watched_and_cancelled(
    people: Walk, client_of: ClientOf
) -> None:
    owner = client_of(people.owner)
    version = people.version(people.dataset(epsilon="1.5"), persons=["train me"])
    assert "statistics" in owner.generators()["generators"]
    plan = owner.plan_training(version.id, generator="statistics", epsilon=1.0, delta=1e-6)
    assert plan.accepted
    assert plan.epsilon is not None
    assert 0.9 < plan.epsilon <= 1.0
    job = owner.request_training(version.id, generator="statistics", epsilon=1.0, delta=1e-6)
    assert owner.budget(version.dataset_id).epsilon_reserved == pytest.approx(plan.epsilon)
    refused = owner.plan_training(version.id, generator="statistics", epsilon=1.0, delta=1e-6)
    assert not refused.accepted
    with pytest.raises(ProblemError) as over:
        owner.request_training(version.id, generator="statistics", epsilon=1.0, delta=1e-6)
    assert (over.value.status, over.value.slug) == (409, "budget-refused")
    owner.cancel_job(job.id)
    with pytest.raises(JobFailed, match="ended cancelled"):
        owner.wait(job.id, poll_seconds=0.01)
    assert owner.budget(version.dataset_id).epsilon_reserved == 0


def test_the_chain_is_followed_to_its_audit(people: Walk, client_of: ClientOf) -> None:
    audit = people.audited(people.version(people.dataset(), persons=["followed"]))
    with people.application.uow(read_only=True) as uow:
        sample = uow.get(Job, str(audit.parent_id))
        assert sample is not None
        train_id = str(sample.parent_id)
    seen: list[str] = []
    found = client_of(people.owner).wait_for_audit(
        train_id, progress=lambda job: seen.append(job.kind)
    )
    assert found.id == audit.id
    assert seen == ["train", "sample", "audit"]


def test_a_release_goes_from_draft_to_a_resumed_download(
    people: Walk, client_of: ClientOf, tmp_path: Path
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    collaborator = client_of(people.collaborator)
    assert release.id in {found.id for found in collaborator.releases()}
    with pytest.raises(ProblemError, match="not accepted the terms"):
        collaborator.download(release.id, tmp_path)
    collaborator.accept_terms(release.id)
    path = collaborator.download(release.id, tmp_path)
    whole = path.read_bytes()
    assert hashlib.sha256(whole).hexdigest() == release.bundle_sha256
    path.unlink()
    (tmp_path / f"{path.name}.part").write_bytes(whole[:40])
    seen: list[tuple[int, int]] = []
    again = collaborator.download(release.id, tmp_path, progress=lambda *now: seen.append(now))
    assert again.read_bytes() == whole
    assert seen == [(len(whole), len(whole))]


def test_a_download_with_other_bytes_is_refused_and_removed(
    people: Walk, client_of: ClientOf, tmp_path: Path
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    collaborator = client_of(people.collaborator)
    collaborator.accept_terms(release.id)
    (tmp_path / f"{release.file_name}.part").write_bytes(b"something else")
    with pytest.raises(TransferRefused, match="the service promised"):
        collaborator.download(release.id, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_starts_over_where_ranges_are_not_supported(tmp_path: Path) -> None:
    body = b"0123456789"
    store = httpx.MockTransport(lambda _: httpx.Response(200, content=iter([body])))
    (tmp_path / "b.zip.part").write_bytes(body[:4])
    with httpx.Client(transport=store) as http:
        path = download_to(
            tmp_path / "b.zip",
            http=http,
            fresh_url=lambda: "http://store.test/b",
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
    assert path.read_bytes() == body


def test_review_by_two_blind_auditors_over_http(people: Walk, client_of: ClientOf) -> None:
    release = people.release()
    owner = client_of(people.owner)
    first, second = (client_of(auditor) for auditor in people.auditors[:2])
    assert owner.submit_release(release.id).state == "submitted"
    first.review_release(release.id, decision="approve", reason="Looked at every page.")
    assert second.release(release.id).reviews == []
    assert second.release(release.id).votes == 0  # nor whether the other has voted
    decided = second.review_release(release.id, decision="approve", reason="So did I.")
    assert (decided.state, len(decided.reviews)) == ("approved", 2)
    assert owner.publish_release(release.id).kind == "package"
    actions = [event.action for event in owner.trail(release.id)]
    assert actions[:2] == ["release:create", "release:submit"]


def test_busy_answers_are_waited_out_as_long_as_they_ask() -> None:
    answers = iter(
        [
            httpx.Response(503, headers={"Retry-After": "0"}, json={}),
            httpx.Response(429, headers={"Retry-After": "0"}, json={}),
            httpx.Response(200, json={"user_id": "u", "tenant_id": "t", "roles": []}),
        ]
    )
    transport = httpx.MockTransport(lambda _: next(answers))
    with KaimaClient("http://kaima.test", "k", transport=transport) as client:
        assert client.me().user_id == "u"


def test_a_post_without_an_idempotency_key_is_never_sent_twice() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(503, json={})

    client = KaimaClient("http://k.test", "k", transport=httpx.MockTransport(answer))
    with client, pytest.raises(ProblemError):
        client.create_tenant("twice")
    assert sent == ["POST"]


def test_the_api_key_is_never_sent_to_object_storage(client_of: ClientOf, people: Walk) -> None:
    client = client_of(people.owner)
    assert "Authorization" in client._connection.http.headers
    assert "Authorization" not in client._storage.headers


def test_an_unknown_field_never_leaves_the_client() -> None:
    with pytest.raises(ValueError, match="declared_counts"):
        DatasetSchema.model_validate({**SCHEMA.model_dump(), "declared_counts": 1})
