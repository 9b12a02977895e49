"""Every endpoint against every role and the other tenant; a new endpoint without a row fails."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.domain.access import AccessMode
from service.domain.accounts import BOOTSTRAP, Actor, Scope
from service.domain.jobs import Job
from service.domain.releases import ReleaseState
from service.operations import access, access_policies, accounts, agreements, studies
from tests.factories import SCHEMA, Walk

OWNER, AUDITOR, COLLABORATOR, OPERATOR = "owner", "auditor", "collaborator", "operator"
EVERYBODY = {OWNER, AUDITOR, COLLABORATOR, OPERATOR}
INSIDE = {OWNER, AUDITOR}
REASON = {"reason": "because"}
TARGET = {"generator": "statistics", "target": {"epsilon": 1.0, "delta": 1e-6}}

# (method, path) -> (who may, body). What may not be seen at all answers 404 instead of 403.
ENDPOINTS: dict[tuple[str, str], tuple[set[str], dict[str, Any] | None]] = {
    ("GET", "/v1/me"): (EVERYBODY, None),
    ("POST", "/v1/tenants"): ({OPERATOR}, {"name": "n"}),
    ("POST", "/v1/users"): ({OPERATOR}, {"name": "n", "roles": ["auditor"], "tenant_id": "t"}),
    ("POST", "/v1/api-keys"): ({OPERATOR}, {"user_id": "u"}),
    ("DELETE", "/v1/api-keys/{key_id}"): ({OPERATOR}, None),
    ("POST", "/v1/datasets"): (
        {OWNER},
        {"name": "d", "purpose": "p", "declared": SCHEMA.model_dump(mode="json"), "epsilon": 1},
    ),
    ("GET", "/v1/datasets"): (INSIDE, None),
    ("GET", "/v1/datasets/{dataset_id}"): (INSIDE, None),
    ("GET", "/v1/datasets/{dataset_id}/budget"): (INSIDE, None),
    ("POST", "/v1/datasets/{dataset_id}/versions"): ({OWNER}, {"size_bytes": 1}),
    ("POST", "/v1/datasets/{dataset_id}/withdrawals"): ({OWNER}, {"patient_id": "p"}),
    ("GET", "/v1/versions/{version_id}"): (INSIDE, None),
    ("POST", "/v1/versions/{version_id}/parts"): ({OWNER}, {"part_numbers": [1]}),
    ("POST", "/v1/versions/{version_id}/complete"): (
        {OWNER},
        {"parts": [{"part_number": 1, "etag": "e"}]},
    ),
    ("PUT", "/v1/versions/{version_id}/content"): ({OWNER}, None),
    ("POST", "/v1/versions/{version_id}/training-plans"): ({OWNER}, TARGET),
    ("GET", "/v1/generators"): (EVERYBODY, None),
    ("POST", "/v1/jobs"): ({OWNER}, {**TARGET, "version_id": "{version_id}"}),
    ("GET", "/v1/jobs"): (INSIDE, None),
    ("GET", "/v1/jobs/{job_id}"): (INSIDE, None),
    ("POST", "/v1/jobs/{job_id}/cancel"): ({OWNER}, None),
    ("GET", "/v1/jobs/{job_id}/samples.png"): (INSIDE, None),
    ("GET", "/v1/reports/{audit_job_id}.json"): (INSIDE, None),
    ("GET", "/v1/reports/{audit_job_id}.html"): (INSIDE, None),
    ("POST", "/v1/releases"): (
        {OWNER},
        {
            "dataset_id": "{dataset_id}",
            "audit_job_id": "{audit_job_id}",
            "name": "n",
            "terms": "t",
        },
    ),
    ("GET", "/v1/releases"): (EVERYBODY, None),
    ("GET", "/v1/releases/{release_id}"): (INSIDE, None),
    ("PATCH", "/v1/releases/{release_id}"): ({OWNER}, {"terms": "t"}),
    ("POST", "/v1/releases/{release_id}/submit"): ({OWNER}, None),
    ("POST", "/v1/releases/{release_id}/reviews"): (
        {AUDITOR},
        {"decision": "reject", "reason": "r"},
    ),
    ("POST", "/v1/releases/{release_id}/publish"): ({OWNER}, None),
    ("POST", "/v1/releases/{release_id}/suspend"): ({OWNER}, REASON),
    ("POST", "/v1/releases/{release_id}/reinstate"): ({OWNER}, REASON),
    ("POST", "/v1/releases/{release_id}/revoke"): ({OWNER}, REASON),
    ("POST", "/v1/releases/{release_id}/withdraw"): ({OWNER}, REASON),
    ("POST", "/v1/releases/{release_id}/acceptances"): (INSIDE, None),
    ("POST", "/v1/releases/{release_id}/downloads"): (INSIDE, None),
    ("GET", "/v1/releases/{release_id}/trail"): (INSIDE, None),
    ("POST", "/v1/releases/re-audits"): (
        {OWNER, AUDITOR, OPERATOR},
        {},
    ),
    ("GET", "/v1/releases/{release_id}/downloaders"): (INSIDE, None),
    ("GET", "/v1/journal"): ({OPERATOR}, None),
    ("GET", "/v1/studies"): (INSIDE, None),
    ("POST", "/v1/studies"): (
        {OWNER},
        {"audit_job_id": "{audit_job_id}", "name": "n", "plan": {"question": "q"}},
    ),
    ("POST", "/v1/studies/power"): (INSIDE, {"readers": 5, "cases_per_class": 30}),
    ("GET", "/v1/studies/{study_id}"): (INSIDE, None),
    ("PUT", "/v1/studies/{study_id}"): ({OWNER}, {"name": "n", "plan": {"question": "q"}}),
    ("POST", "/v1/studies/{study_id}/register"): ({OWNER}, None),
    ("POST", "/v1/studies/{study_id}/consents"): ({AUDITOR}, {"plan_digest": "0" * 64}),
    ("POST", "/v1/studies/{study_id}/draw-again"): ({OWNER}, None),
    ("POST", "/v1/studies/{study_id}/readers"): ({OWNER}, {"name": "n"}),
    ("POST", "/v1/studies/{study_id}/readers/{reader_id}/link"): ({OWNER}, None),
    ("DELETE", "/v1/studies/{study_id}/readers/{reader_id}"): ({OWNER}, None),
    ("POST", "/v1/studies/{study_id}/close"): ({OWNER}, None),
    ("POST", "/v1/studies/{study_id}/cancel"): ({OWNER}, None),
    ("GET", "/v1/studies/{study_id}/result"): (INSIDE, None),
    ("GET", "/v1/catalogue"): (EVERYBODY, None),
    ("GET", "/v1/releases/{release_id}/access-policy"): (INSIDE, None),
    ("PUT", "/v1/releases/{release_id}/access-policy"): ({OWNER}, {"mode": "open"}),
    ("POST", "/v1/releases/{release_id}/access-requests"): (INSIDE, {"answers": {}}),
    ("GET", "/v1/releases/{release_id}/declaration"): (INSIDE, None),
    ("PUT", "/v1/releases/{release_id}/declaration"): ({OWNER}, {}),
    ("GET", "/v1/releases/{release_id}/downloads"): ({OWNER}, None),
    ("GET", "/v1/releases/{release_id}/downloads.csv"): ({OWNER}, None),
    ("GET", "/v1/access-requests"): (EVERYBODY, None),
    ("GET", "/v1/access-requests/{request_id}"): ({OWNER, COLLABORATOR}, None),
    ("POST", "/v1/access-requests/{request_id}/approve"): ({OWNER}, {}),
    ("POST", "/v1/access-requests/{request_id}/reject"): ({OWNER}, REASON),
    ("POST", "/v1/access-requests/{request_id}/revoke"): ({OWNER}, REASON),
    ("POST", "/v1/access-requests/{request_id}/withdraw"): ({COLLABORATOR}, None),
    ("GET", "/v1/agreements"): ({OWNER}, None),
    ("POST", "/v1/agreements"): ({OWNER}, {"name": "n", "text": "t"}),
    ("GET", "/v1/agreements/{agreement_id}"): ({OWNER}, None),
    ("POST", "/v1/agreements/{agreement_id}/versions"): ({OWNER}, {"text": "t"}),
    ("POST", "/v1/agreements/{agreement_id}/acceptances"): (
        {OWNER},
        {"number": 1, "sha256": "0" * 64},
    ),
}
WITHOUT_KEY = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/instance")}


@pytest.fixture(scope="module")
def things(people: Walk) -> dict[str, str]:
    """Return the id of one thing of each kind, all of one tenant and none of them published."""
    release = people.release(ReleaseState.UNDER_REVIEW)
    asked = people.release(ReleaseState.PUBLISHED)
    with people.application.uow() as uow:
        access_policies.set_access_policy(
            uow, people.owner, release_id=asked.id, mode=AccessMode.BY_REQUEST
        )
        agreement = agreements.create_agreement(uow, people.owner, name="a", text="a")
    with people.application.uow() as uow:
        request = access.request_access(
            uow, people.collaborator, release_id=asked.id, answers={"purpose": "tests"}
        )
    with people.application.uow() as uow:
        study = studies.create_study(
            uow,
            people.owner,
            audit_job_id=release.audit_job_id,
            name="n",
            plan={"question": "q"},
        )
    with people.application.uow(read_only=True) as uow:
        audit = uow.get(Job, release.audit_job_id)
        assert audit is not None
        return {
            "dataset_id": release.dataset_id,
            "version_id": str(audit.version_id),
            "job_id": audit.id,
            "audit_job_id": audit.id,
            "release_id": release.id,
            "key_id": "key_0",
            "request_id": request.id,
            "study_id": study.id,
            "reader_id": "rdr_0",
            "agreement_id": agreement.agreement.id,
        }


def filled(body: Any, things: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: filled(value, things) for name, value in body.items()}
    return body.format(**things) if isinstance(body, str) and body.startswith("{") else body


def send(
    web: FlaskClient, endpoint: tuple[str, str], things: dict[str, str], token: str
) -> tuple[int, Any]:
    method, path = endpoint
    _, body = ENDPOINTS[endpoint]
    headers = {"Authorization": f"Bearer {token}", "If-Match": '"999"'}
    options: dict[str, Any] = {"json": filled(body, things)} if body is not None else {}
    if path.endswith("/content"):
        options = {"data": b"x", "content_type": "application/octet-stream"}
    answer = web.open(path.format(**things), method=method, headers=headers, **options)
    return answer.status_code, answer.get_json(silent=True)


def test_every_endpoint_has_a_row(web: FlaskClient) -> None:
    paths = web.get("/openapi.json").get_json()["paths"]
    documented = {
        (method.upper(), path)
        for path, item in paths.items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete"}
    }
    assert documented == set(ENDPOINTS) | WITHOUT_KEY


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=" ".join)
@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_a_role_gets_no_further_than_it_may(
    web: FlaskClient,
    people: Walk,
    token_of: Callable[[Actor], str],
    things: dict[str, str],
    endpoint: tuple[str, str],
    role: str,
) -> None:
    actors = {
        OWNER: people.owner,
        AUDITOR: people.auditors[2],
        COLLABORATOR: people.collaborator,
        OPERATOR: people.operator,
    }
    status, problem = send(web, endpoint, things, token_of(actors[role]))
    allowed, _ = ENDPOINTS[endpoint]
    if role in allowed:
        assert status != 403, problem
        assert status < 500
    else:
        assert status in {403, 404}, problem
        assert problem["detail"]


@pytest.mark.parametrize("endpoint", [key for key in ENDPOINTS if "{" in key[1]], ids=" ".join)
def test_what_belongs_to_another_tenant_does_not_exist(
    web: FlaskClient,
    others: Walk,
    token_of: Callable[[Actor], str],
    things: dict[str, str],
    endpoint: tuple[str, str],
) -> None:
    who = others.auditors[0] if ENDPOINTS[endpoint][0] == {AUDITOR} else others.owner
    who = others.operator if ENDPOINTS[endpoint][0] == {OPERATOR} else who
    status, problem = send(web, endpoint, things, token_of(who))
    assert status == 404, problem
    missing = {name: f"{value[:3]}_missing" for name, value in things.items()}
    _, unknown = send(web, endpoint, missing, token_of(who))
    for name, value in things.items():
        problem["detail"] = problem["detail"].replace(value, "ID")
        unknown["detail"] = unknown["detail"].replace(missing[name], "ID")
    assert (unknown["detail"], unknown["type"]) == (problem["detail"], problem["type"])


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=" ".join)
def test_nobody_gets_in_without_a_key(
    web: FlaskClient, things: dict[str, str], endpoint: tuple[str, str]
) -> None:
    method, path = endpoint
    answer = web.open(path.format(**things), method=method)
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"


def test_a_release_of_another_tenant_appears_when_it_is_published(
    web: FlaskClient, people: Walk, others: Walk, token_of: Callable[[Actor], str]
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    headers = {"Authorization": f"Bearer {token_of(others.collaborator)}"}
    shown = web.get(f"/v1/releases/{release.id}", headers=headers).get_json()
    assert shown["state"] == "published"
    for name in ("dataset_id", "audit_job_id", "author_id", "package_job_id"):
        assert shown[name] is None
    assert shown["reviews"] == []


def test_a_key_with_the_scope_read_changes_nothing(
    web: FlaskClient, people: Walk, things: dict[str, str]
) -> None:
    with people.application.uow() as uow:
        _, token = accounts.create_api_key(
            uow, BOOTSTRAP, user_id=people.owner.user_id, scopes=[Scope.READ]
        )
    for endpoint, (allowed, _) in ENDPOINTS.items():
        if endpoint[0] != "GET" and OWNER in allowed:
            status, problem = send(web, endpoint, things, token)
            assert status == 403, (endpoint, problem)
            assert "scope" in problem["detail"]
