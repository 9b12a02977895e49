"""Every route × method × role × tenant, as `permission_table.py` declares it; none is left out."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.domain.access import AccessMode
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.jobs import Job
from service.domain.releases import ReleaseState
from service.operations import access, access_policies, accounts, agreements
from service.store import journal
from service.web import limiter
from tests.factories import Walk
from tests.service.web.permission_table import BODIES, QUERIES, rows

ROWS = rows()
WHO = ["nobody"] + [
    f"{role} of {tenant}"
    for tenant in ("their own tenant", "another tenant")
    for role in ("data owner", "auditor", "collaborator", "operator")
]
ENDS_THE_SESSION = {"POST /sign-out"}
_PLACE = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")

TokenOf = Callable[[Actor], str]
PageOf = Callable[[Actor | None], FlaskClient]


class Things(dict[str, str]):
    """The values of placeholders; one that has none names a thing that is not there."""

    def __missing__(self, place: str) -> str:
        """Return an id of the right shape."""
        return f"{place[:3]}_missing"


@pytest.fixture(scope="module")
def things(people: Walk) -> dict[str, str]:
    """Return the id of one thing of each kind, all of one tenant and none of them published."""
    release = people.release(ReleaseState.UNDER_REVIEW)
    agreement_id, request_id = asked_for(people)
    with people.application.uow() as uow:
        audit = uow.get(Job, release.audit_job_id)
        assert audit is not None
        key, _ = accounts.create_api_key(uow, BOOTSTRAP, user_id=people.collaborator.user_id)
        created = next(journal.read_rows(uow.session, subject=release.id))
    return Things(
        action="submit",
        agreement_id=agreement_id,
        audit_job_id=audit.id,
        dataset_id=release.dataset_id,
        job_id=audit.id,
        key_id=key.id,
        number="1",
        phase="a",
        position="1",
        release_id=release.id,
        request_id=request_id,
        seq=str(created.seq),
        side="left",
        slug="not-found",
        version_id=str(audit.version_id),
    )


def asked_for(people: Walk) -> tuple[str, str]:
    """Return an agreement, and a request for another release that its collaborator made."""
    release = people.release(ReleaseState.PUBLISHED)
    with people.application.uow() as uow:
        access_policies.set_access_policy(
            uow, people.owner, release_id=release.id, mode=AccessMode.BY_REQUEST
        )
        made = agreements.create_agreement(uow, people.owner, name="of the table", text="a")
    with people.application.uow() as uow:
        request = access.request_access(
            uow, people.collaborator, release_id=release.id, answers={"purpose": "tests"}
        )
    return made.agreement.id, request.id


@pytest.fixture(scope="module")
def actors(people: Walk, others: Walk) -> list[Actor | None]:
    """Return who is tried, in the order of the signs."""
    found: list[Actor | None] = [None]
    for walk in (people, others):
        # The third auditor has no part in the release: their vote is still open.
        found += [walk.owner, walk.auditors[2], walk.collaborator, walk.operator]
    return found


@pytest.fixture(scope="module")
def ask(
    web: FlaskClient,
    token_of: TokenOf,
    page_of: PageOf,
    things: dict[str, str],
    actors: list[Actor | None],
) -> Callable[[str, int], str]:
    """Return what sends one route's request as number `who`, and names the answer by its sign."""

    def send(route: str, who: int) -> str:
        method, template = route.split()
        path, actor = template.format_map(things), actors[who]
        options = {"method": method, "query_string": QUERIES.get(route, "")}
        body = filled(BODIES[route], things) if route in BODIES else None
        if is_page(path):
            client = page_of(actor)
            if actor is None:
                with client.session_transaction() as session:
                    session["csrf"] = "right"
            form = {"csrf": "right", **(body or {})} if method == "POST" else None
            options["headers"] = {"X-Csrf-Token": "right", "X-Part-Sha256": "0" * 64}
            found = sign(client.open(path, data=form, **options))
            if route in ENDS_THE_SESSION:
                page_of.cache_clear()  # type: ignore[attr-defined]
            return found
        if actor is None:
            limiter.reset()  # or the table would find nothing but "too many wrong keys"
        return sign(ask_api(web, route, things, token_of(actor) if actor else None))

    return send


def ask_api(
    web: FlaskClient, route: str, things: dict[str, str], token: str | None
) -> TestResponse:
    """Send one request of the API, with a body that its model takes."""
    method, template = route.split()
    path = template.format_map(things)
    options: dict[str, Any] = {"method": method, "query_string": QUERIES.get(route, "")}
    if path.endswith("/content"):
        options |= {"data": b"x", "content_type": "application/octet-stream"}
    else:
        body = BODIES.get(route)
        options["json"] = least_body(web, route) if body is None else filled(body, things)
    headers = {"If-Match": '"999"'} | ({"Authorization": f"Bearer {token}"} if token else {})
    return web.open(path, headers=headers, **options)


def is_page(path: str) -> bool:
    """Tell whether people read this with a browser."""
    return not path.startswith(("/v1/", "/healthz", "/readyz", "/openapi"))


def least_body(web: FlaskClient, route: str) -> Any:
    """Return the smallest body that the API's description of a route allows, or None."""
    document = described(web)
    method, path = route.split()
    operation = document["paths"].get(path, {}).get(method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    return None if schema is None else least(schema, document)


@functools.cache
def described(web: FlaskClient) -> Any:
    """Return the OpenAPI document."""
    return web.get("/openapi.json").get_json()


def least(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """Return a small value that fits a JSON Schema, as far as our bodies need it."""
    if "$ref" in schema:
        *_, name = schema["$ref"].split("/")
        return least(document["components"]["schemas"][name], document)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return least(schema[choice][0], document)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if kind == "object":
        needed = {name: schema["properties"][name] for name in schema.get("required", ())}
        return {name: least(part, document) for name, part in needed.items()}
    if kind == "array":
        return [least(schema["items"], document)] * schema.get("minItems", 0)
    if kind == "string":
        if "[0-9a-f]{64}" in schema.get("pattern", ""):
            return "0" * 64
        dated = {"date-time": "2099-01-01T00:00:00Z", "date": "2099-01-01"}
        return dated.get(schema.get("format", ""), "n" * max(1, schema.get("minLength", 1)))
    if kind in {"integer", "number"}:
        return int(schema.get("minimum", 1))
    return kind == "boolean"


def filled(body: Any, things: dict[str, str]) -> Any:
    """Return a body with the ids of the things."""
    if isinstance(body, dict):
        return {name: filled(value, things) for name, value in body.items()}
    return body.format_map(things) if isinstance(body, str) and body.startswith("{") else body


def sign(answer: TestResponse) -> str:
    """Return what an answer means, as the table writes it."""
    if answer.status_code >= 500 and answer.status_code != 503:
        return f"[{answer.status_code}]"
    if answer.status_code == 302 and answer.headers["Location"].startswith("/sign-in"):
        return "x"
    return {401: "x", 403: "-", 404: "."}.get(answer.status_code, "+")


def routes_of(app: Flask) -> list[str]:
    """Return `METHOD PATH` of every route."""
    return sorted(
        method + " " + _PLACE.sub(r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    )


def order(signs: str) -> Iterator[int]:
    """Yield whom to try: first who may not, so that nobody finds a thing changed already."""
    yield from sorted(range(len(signs)), key=lambda who: signs[who] == "+")


def observed(route: str, ask: Callable[[str, int], str]) -> str:
    """Return the row of a route as it is now."""
    found = [ask(route, who) for who in (0, 5, 6, 7, 8, 4, 3, 2, 1)]
    signs = [found[0], *found[8:4:-1], *found[1:5]]
    return f"{route} {signs[0]} {''.join(signs[1:5])} {''.join(signs[5:])}"


def test_every_route_has_a_row(web: FlaskClient, ask: Callable[[str, int], str]) -> None:
    routes = routes_of(web.application)
    missing = [observed(route, ask) for route in routes if route not in ROWS]
    assert missing == [], "check these rows, then add them to permission_table.py:\n" + "\n".join(
        missing
    )
    assert sorted(ROWS.keys() - set(routes)) == [], "rows of routes that are gone"


@pytest.mark.parametrize("route", ROWS)
def test_everybody_gets_as_far_as_the_table_says(
    route: str, ask: Callable[[str, int], str]
) -> None:
    signs = ROWS[route]
    wrong = []
    for who in order(signs):
        found, wanted = ask(route, who), signs[who].replace("~", ".")
        if found != wanted:
            wrong.append(f"{WHO[who]}: {found} instead of {wanted}")
    assert wrong == []


def test_nothing_but_what_is_public_answers_without_a_credential() -> None:
    public = {route for route, signs in ROWS.items() if signs[0] != "x"}
    assert {route.split()[1].split("/")[1] for route in public} <= {
        "healthz",
        "invitation",
        "openapi.json",
        "problems",
        "read",  # readers of a study come with a link of their own
        "readyz",
        "sign-in",
        "v1",
    }
    assert {route for route in public if "/v1/" in route} == {"GET /v1/instance"}


def test_no_row_lets_another_tenant_reach_a_thing() -> None:
    own = re.compile(r"{(dataset_id|version_id|job_id|audit_job_id|release_id)}")
    for route, signs in ROWS.items():
        if own.search(route):
            for here, there in zip(signs[1:5], signs[5:], strict=True):
                # A role that may never, is told so before anything is looked up.
                is_told_nothing = there == "." or (here, there) == ("-", "-")
                # Operators look after the machines of every tenant.
                assert is_told_nothing or "/operator/" in route, route


@pytest.mark.parametrize(
    "route", [route for route in ROWS if "/v1/" in route and "{" in route and "." in ROWS[route]]
)
def test_a_thing_of_another_tenant_is_refused_in_the_words_of_one_that_is_not(
    web: FlaskClient, others: Walk, token_of: TokenOf, things: dict[str, str], route: str
) -> None:
    who = others.operator if ROWS[route][8] == "." else others.owner
    told = []
    missing = Things(
        {name: f"{value[:3]}_missing" if "_" in value else value for name, value in things.items()}
    )
    for ids in (things, missing):
        answer = ask_api(web, route, ids, token_of(who))
        problem = answer.get_json(silent=True) or {}
        detail = str(problem.get("detail"))
        for value in ids.values():
            detail = detail.replace(value, "ID") if "_" in value else detail
        told.append((answer.status_code, problem.get("type"), detail))
    assert told[0] == told[1]
