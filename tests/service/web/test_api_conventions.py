"""Problem details, limits, headers, paging, idempotency, revisions, streams."""

import http.client
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.app import MAX_BODY_BYTES
from service.client import KaimaClient
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.releases import ReleaseState
from service.operations import accounts, datasets
from service.wiring import Application
from tests.factories import SCHEMA, Walk

TokenOf = Callable[[Actor], str]
DATASET = {"name": "d", "purpose": "p", "declared": SCHEMA.model_dump(mode="json"), "epsilon": 1}


@pytest.fixture
def owner_headers(people: Walk, token_of: TokenOf) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(people.owner)}"}


def problem_of(answer: TestResponse, status: int, slug: str) -> dict[str, object]:
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.content_type == "application/problem+json"
    document: dict[str, object] = json.loads(answer.data)
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert str(document["detail"]).endswith(".")
    return document


def test_a_wrong_field_is_named_with_its_value(
    web: FlaskClient, owner_headers: dict[str, str]
) -> None:
    answer = web.post("/v1/datasets", json={**DATASET, "epsilon": -2}, headers=owner_headers)
    document = problem_of(answer, 422, "validation")
    assert (document["field"], document["value"]) == ("epsilon", "-2")


def test_an_unknown_field_is_refused(web: FlaskClient, owner_headers: dict[str, str]) -> None:
    answer = web.post("/v1/datasets", json={**DATASET, "epsilom": 2}, headers=owner_headers)
    assert problem_of(answer, 422, "validation")["field"] == "epsilom"


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"name": NaN}', b'{"name": 1e999}', b'{"name": "\\ud800"}', b"[" * 100_000, b"\xff"],
)
def test_malformed_json_is_a_400(
    web: FlaskClient, owner_headers: dict[str, str], body: bytes
) -> None:
    answer = web.post(
        "/v1/datasets", data=body, headers=owner_headers, content_type="application/json"
    )
    problem_of(answer, 400, "malformed-request")


def test_another_media_type_is_a_415(web: FlaskClient, owner_headers: dict[str, str]) -> None:
    answer = web.post("/v1/datasets", data=b"<x/>", headers=owner_headers, content_type="text/xml")
    assert problem_of(answer, 415, "unsupported-media-type")["value"] == "text/xml"


def test_a_body_above_one_mebibyte_is_a_413(
    web: FlaskClient, owner_headers: dict[str, str]
) -> None:
    body = json.dumps({"name": "x" * MAX_BODY_BYTES})
    answer = web.post(
        "/v1/datasets", data=body, headers=owner_headers, content_type="application/json"
    )
    problem_of(answer, 413, "too-large")


def test_unknown_addresses_and_methods_are_problems(web: FlaskClient) -> None:
    problem_of(web.get("/v1/nothing"), 404, "not-found")
    answer = web.delete("/healthz")
    problem_of(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["Allow"]


def test_every_answer_has_the_security_headers(web: FlaskClient) -> None:
    for path in ("/healthz", "/v1/nothing", "/sign-in", "/static/kaima.css"):
        headers = web.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert len(headers["X-Request-Id"]) == 16
    assert web.get("/sign-in").headers["Cache-Control"] == "no-store"


def test_a_wrong_key_is_refused_in_the_same_words_whatever_is_wrong(
    web: FlaskClient, token_of: TokenOf, people: Walk
) -> None:
    token = token_of(people.owner)
    sentences = set()
    for wrong in ("x", token[:-1] + ("A" if token[-1] != "A" else "B"), "kaima_key_00_x"):
        answer = web.get("/v1/me", headers={"Authorization": f"Bearer {wrong}"})
        sentences.add(problem_of(answer, 401, "unauthenticated")["detail"])
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert len(sentences) == 1


def test_pages_follow_each_other_without_gap_or_repeat(
    web: FlaskClient, others: Walk, token_of: TokenOf
) -> None:
    made = {others.dataset().id for _ in range(5)}
    headers = {"Authorization": f"Bearer {token_of(others.owner)}"}
    address, seen = "/v1/datasets?limit=2", []
    while address:
        answer = web.get(address, headers=headers)
        seen += [item["id"] for item in answer.get_json()["items"]]
        link = answer.headers.get("Link", "")
        assert bool(link) == bool(answer.get_json()["next_cursor"])
        address = link.partition(">")[0].lstrip("<")
    assert len(seen) == len(set(seen))
    assert made <= set(seen)
    problem_of(web.get("/v1/datasets?limit=0", headers=headers), 422, "validation")
    problem_of(web.get("/v1/datasets?cursor=../x", headers=headers), 422, "validation")


def test_a_job_is_accepted_with_a_place_to_look_and_a_time_to_wait(
    web: FlaskClient, people: Walk, owner_headers: dict[str, str]
) -> None:
    version = people.version(people.dataset())
    body = {
        "version_id": version.id,
        "generator": "statistics",
        "target": {"epsilon": 1, "delta": 1e-6},
    }
    key = {"Idempotency-Key": secrets.token_hex(8)}
    first = web.post("/v1/jobs", json=body, headers=owner_headers | key)
    assert first.status_code == 202
    assert first.headers["Location"] == f"/v1/jobs/{first.get_json()['id']}"
    assert int(first.headers["Retry-After"]) > 0
    again = web.post("/v1/jobs", json=body, headers=owner_headers | key)
    assert (again.status_code, again.get_json()) == (202, first.get_json())
    assert again.headers["Location"] == first.headers["Location"]
    other = web.post("/v1/jobs", json={**body, "samples": 7}, headers=owner_headers | key)
    assert other.status_code == 422
    listed = web.get(f"/v1/jobs?dataset_id={version.dataset_id}", headers=owner_headers)
    assert [job["kind"] for job in listed.get_json()["items"]].count("train") == 1
    assert "plan" not in first.get_json()["payload"]


def test_ten_runs_that_name_no_delta_fit_into_one_budget(
    web: FlaskClient, people: Walk, owner_headers: dict[str, str]
) -> None:
    version = people.version(people.dataset(epsilon="100", delta="0.00001"))
    body = {"generator": "statistics", "target": {"epsilon": 1}}
    address = f"/v1/versions/{version.id}/training-plans"
    plan = web.post(address, json=body, headers=owner_headers).get_json()
    assert (plan["delta"], plan["accepted"]) == (1e-6, True)
    job = web.post("/v1/jobs", json={**body, "version_id": version.id}, headers=owner_headers)
    assert job.get_json()["payload"]["delta"] == 1e-6
    budget = web.get(f"/v1/datasets/{version.dataset_id}/budget", headers=owner_headers)
    assert budget.get_json()["delta_remaining"] == 9e-6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epsilon", True),
        ("epsilon", "1"),
        ("delta", False),
        ("declared.declared_count", True),
        ("declared.declared_count", 1000.0),
        ("declared.height", "64"),
    ],
)
def test_what_was_not_sent_as_a_number_is_not_taken_for_one(
    web: FlaskClient, owner_headers: dict[str, str], field: str, value: object
) -> None:
    *inside, name = field.split(".")
    body = json.loads(json.dumps(DATASET))
    (body[inside[0]] if inside else body)[name] = value
    answer = web.post("/v1/datasets", json=body, headers=owner_headers)
    assert problem_of(answer, 422, "validation")["field"] == field


def test_a_target_of_truth_values_is_refused(
    web: FlaskClient, people: Walk, owner_headers: dict[str, str]
) -> None:
    body = {"generator": "statistics", "target": {"epsilon": True, "delta": 1e-6}}
    version = people.version(people.dataset())
    address = f"/v1/versions/{version.id}/training-plans"
    answer = web.post(address, json=body, headers=owner_headers)
    assert problem_of(answer, 422, "validation")["field"] == "target.epsilon"


def test_a_key_for_reading_repeats_no_answer_of_another_key(
    web: FlaskClient, people: Walk, owner_headers: dict[str, str], web_application: Application
) -> None:
    audit = people.audited(people.version(people.dataset()))
    body = {
        "dataset_id": audit.dataset_id,
        "audit_job_id": audit.id,
        "name": f"knees-{secrets.token_hex(4)}",
        "terms": "t",
    }
    key = {"Idempotency-Key": secrets.token_hex(8)}
    first = web.post("/v1/releases", json=body, headers=owner_headers | key)
    assert first.status_code == 201
    with web_application.uow() as uow:
        _, token = accounts.create_api_key(
            uow, BOOTSTRAP, user_id=people.owner.user_id, scopes=["read"]
        )
    reader = {"Authorization": f"Bearer {token}"}
    answer = web.post("/v1/releases", json=body, headers=reader | key)
    assert problem_of(answer, 403, "permission-denied")["scope"] == "releases"


def test_a_change_needs_the_revision_that_was_read(
    web: FlaskClient, people: Walk, owner_headers: dict[str, str]
) -> None:
    release = people.release()
    address = f"/v1/releases/{release.id}"
    etag = web.get(address, headers=owner_headers).headers["ETag"]
    problem_of(web.post(f"{address}/submit", headers=owner_headers), 428, "precondition-required")
    stale = owner_headers | {"If-Match": '"999"'}
    problem_of(web.post(f"{address}/submit", headers=stale), 412, "precondition-failed")
    submitted = web.post(f"{address}/submit", headers=owner_headers | {"If-Match": etag})
    assert submitted.status_code == 200
    assert submitted.headers["ETag"] != etag
    assert web.get(address, headers=owner_headers).headers["ETag"] == submitted.headers["ETag"]


def test_a_tombstone_stays_where_the_release_was(
    web: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    release = people.release(ReleaseState.REVOKED)
    headers = {"Authorization": f"Bearer {token_of(people.collaborator)}"}
    shown = web.get(f"/v1/releases/{release.id}", headers=headers).get_json()
    assert shown["state"] == "revoked"
    assert shown["tombstone"]["reason"] == "Asked by the hospital."
    problem_of(
        web.post(f"/v1/releases/{release.id}/downloads", headers=headers),
        409,
        "illegal-transition",
    )


def test_a_chunked_upload_is_streamed_through_the_running_service(
    live_url: str, people: Walk, client_of: Callable[[Actor], KaimaClient], token_of: TokenOf
) -> None:
    size = 12 * 2**20  # a dozen times the limit of every other body
    owner = client_of(people.owner)
    with people.application.uow() as uow:
        version = datasets.start_upload(
            uow, people.owner, dataset_id=people.dataset().id, suffix=".zip", size_bytes=size
        )

    def blocks() -> Iterator[bytes]:
        for _ in range(12):
            yield secrets.token_bytes(2**20)

    answer = httpx.put(
        f"{live_url}/v1/versions/{version.id}/content",
        content=blocks(),
        headers={
            "Authorization": f"Bearer {token_of(people.owner)}",
            "Content-Type": "application/octet-stream",
        },
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    assert owner.version(version.id).state == "ingesting"


def test_an_upload_that_breaks_off_leaves_nothing(
    live_url: str, people: Walk, token_of: TokenOf
) -> None:
    with people.application.uow() as uow:
        version = datasets.start_upload(
            uow, people.owner, dataset_id=people.dataset().id, suffix=".zip", size_bytes=10**6
        )
    connection = http.client.HTTPConnection(urlsplit(live_url).netloc, timeout=10)
    connection.putrequest("PUT", f"/v1/versions/{version.id}/content")
    connection.putheader("Authorization", f"Bearer {token_of(people.owner)}")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"only this")
    connection.close()
    with people.application.uow(read_only=True) as uow:
        found = uow.get(DatasetVersion, version.id)
    assert found is not None
    assert found.state is VersionState.UPLOADING


def test_more_bytes_than_announced_are_refused(
    web: FlaskClient, people: Walk, owner_headers: dict[str, str]
) -> None:
    with people.application.uow() as uow:
        version = datasets.start_upload(
            uow, people.owner, dataset_id=people.dataset().id, suffix=".zip", size_bytes=10
        )
    answer = web.put(
        f"/v1/versions/{version.id}/content",
        data=b"x" * 11,
        headers=owner_headers,
        content_type="application/octet-stream",
    )
    assert problem_of(answer, 422, "input-refused")["limit"] == 10


def test_readiness_names_every_component(web: FlaskClient) -> None:
    answer = web.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (
        200,
        {"database": "ok", "object_store": "ok", "broker": "ok"},
    )


def test_the_openapi_document_describes_problems(web: FlaskClient) -> None:
    document = web.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    answers = document["paths"]["/v1/jobs"]["post"]["responses"]
    assert "application/problem+json" in answers["422"]["content"]
    assert "202" in answers


def test_failed_sign_ins_from_one_address_are_slowed_down(web: FlaskClient) -> None:
    address = {"REMOTE_ADDR": "192.0.2.7"}
    statuses = [
        web.get("/v1/me", headers={"Authorization": "Bearer x"}, environ_base=address).status_code
        for _ in range(31)
    ]
    assert set(statuses[:30]) == {401}
    answer = web.get("/v1/me", headers={"Authorization": "Bearer x"}, environ_base=address)
    problem_of(answer, 429, "too-many-requests")
    assert int(answer.headers["Retry-After"]) >= 0


def test_wrong_keys_do_not_lock_out_the_right_ones_of_their_address(
    web: FlaskClient, owner_headers: dict[str, str]
) -> None:
    address = {"REMOTE_ADDR": "192.0.2.8"}
    wrong = {"Authorization": "Bearer kaima_key_00_x"}
    for _ in range(35):
        answer = web.get("/v1/me", headers=wrong, environ_base=address)
    problem_of(answer, 429, "too-many-requests")
    for _ in range(40):
        answer = web.get("/v1/me", headers=owner_headers, environ_base=address)
        assert answer.status_code == 200, answer.get_data(as_text=True)
    assert web.get("/v1/me", headers=wrong, environ_base=address).status_code == 429


def test_the_service_never_imports_torch() -> None:
    code = "import sys, service.app; sys.exit('torch' in sys.modules or 'workers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
