"""The pages: sign-in, sessions, forms, what each role sees, what the browser may do."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.app import create_app
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.jobs import Job
from service.domain.releases import ReleaseState
from service.operations import accounts, journal
from service.store.objects import Bucket
from service.wiring import Application
from tests.factories import Walk

TokenOf = Callable[[Actor], str]


@pytest.fixture
def browser(web_application: Application) -> Iterator[FlaskClient]:
    with create_app(web_application).test_client() as client:
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        yield client


def form_token(page: TestResponse) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get_data(as_text=True))
    assert found is not None
    return found[1]


def sign_in(browser: FlaskClient, token: str, *, target: str = "") -> TestResponse:
    csrf = form_token(browser.get("/sign-in"))
    return browser.post("/sign-in", data={"csrf": csrf, "api_key": token, "next": target})


def text_of(browser: FlaskClient, path: str, *, status: int = 200) -> str:
    answer = browser.get(path)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def test_every_page_asks_to_sign_in_first(browser: FlaskClient) -> None:
    for path in ("/", "/releases", "/datasets", "/jobs", "/reports/job_1", "/releases/rel_1"):
        answer = browser.get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/sign-in")


@pytest.mark.parametrize("target", ["//[", "http://[", "//evil.example", "/\\evil", "javascript:1"])
def test_no_address_leads_out_of_the_site_or_breaks_the_sign_in(
    browser: FlaskClient, people: Walk, token_of: TokenOf, target: str
) -> None:
    assert browser.get("/sign-in", query_string={"next": target}).status_code == 200
    answer = sign_in(browser, token_of(people.owner), target=target)
    assert answer.headers["Location"] == "/releases"


def test_a_session_lives_as_long_as_its_key(
    browser: FlaskClient, people: Walk, web_application: Application
) -> None:
    with web_application.uow() as uow:
        key, token = accounts.create_api_key(uow, BOOTSTRAP, user_id=people.owner.user_id)
    answer = sign_in(browser, token, target="/datasets")
    assert answer.headers["Location"] == "/datasets"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert token[-20:] not in cookie  # of the secret's 43 characters
    assert "Datasets" in text_of(browser, "/datasets")
    with web_application.uow() as uow:
        accounts.revoke_api_key(uow, BOOTSTRAP, key_id=key.id)
    assert browser.get("/datasets").status_code == 302


def test_a_wrong_key_is_refused_on_the_page(browser: FlaskClient) -> None:
    answer = sign_in(browser, "kaima_key_00_wrong")
    assert answer.status_code == 401
    assert "unknown, expired or revoked" in answer.get_data(as_text=True)


def test_a_form_without_its_token_is_refused(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    browser.get("/sign-in")
    answer = browser.post("/sign-in", data={"api_key": token_of(people.owner)})
    assert answer.status_code == 400
    assert "page is too old" in answer.get_data(as_text=True)


@pytest.mark.parametrize("target", ["https://evil.test/", "//evil.test/", "/\\evil.test", "x"])
def test_signing_in_leads_nowhere_else(
    browser: FlaskClient, people: Walk, token_of: TokenOf, target: str
) -> None:
    answer = sign_in(browser, token_of(people.owner), target=target)
    assert answer.headers["Location"] == "/releases"


def test_signing_out_ends_the_session(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    sign_in(browser, token_of(people.owner))
    csrf = form_token(browser.get("/releases"))
    browser.post("/sign-out", data={"csrf": csrf})
    assert browser.get("/releases").status_code == 302


def test_a_collaborator_sees_the_guarantee_in_plain_words_and_nothing_of_the_review(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    sign_in(browser, token_of(people.collaborator))
    page = text_of(browser, f"/releases/{release.id}")
    assert "ε 4.998 at δ 1e-05, per person" in page
    assert "by a factor of at most 148" in page
    assert f"kaima download {release.id} --accept-terms" in page
    assert "audit report" not in page.partition("<footer>")[0]
    assert release.name in text_of(browser, "/releases")


def test_a_revoked_release_leaves_a_tombstone(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    release = people.release(ReleaseState.REVOKED)
    sign_in(browser, token_of(people.collaborator))
    page = text_of(browser, f"/releases/{release.id}")
    assert "Asked by the hospital." in page
    assert "can no longer be downloaded" in page
    assert "kaima download" not in page


def test_another_tenants_draft_does_not_exist(
    browser: FlaskClient, people: Walk, others: Walk, token_of: TokenOf
) -> None:
    release = people.release()
    sign_in(browser, token_of(others.owner))
    assert "Not found" in text_of(browser, f"/releases/{release.id}", status=404)
    assert release.name not in text_of(browser, "/releases")


def test_a_report_is_framed_where_it_can_do_nothing_and_its_reading_is_recorded(
    browser: FlaskClient, people: Walk, token_of: TokenOf, web_application: Application
) -> None:
    audit = people.audited(people.version(people.dataset()))
    page = b"<h1>Report</h1><script>alert(1)</script>"
    stored = page + b'<img src="data:image/png;base64,AA==" alt="real, 0">'
    web_application.objects.put_bytes(Bucket.WORK, "candidate/x/report.html", body=stored)
    with web_application.uow() as uow:
        uow.without_trail("a report as a worker writes it")
        job = uow.get(Job, audit.id)
        assert job is not None
        job.result = {**job.result, "report_html": "candidate/x/report.html"}
    sign_in(browser, token_of(people.auditors[0]))
    frame = text_of(browser, f"/reports/{audit.id}")
    assert f'<iframe class="report" sandbox src="/reports/{audit.id}/document"' in frame
    answer = browser.get(f"/reports/{audit.id}/document")
    assert answer.data.startswith(b"<h1>Report</h1>")
    assert b"<script>alert(1)</script>" in answer.data
    assert b"data:image" not in answer.data
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox;" in policy
    assert "script-src" not in policy
    with web_application.uow(read_only=True) as uow:
        rows = journal.list_rows(uow, people.operator, limit=1000)
    readers = [
        row["body"]["actor"]
        for row in rows
        if row["body"]["event"] == "report:read" and row["subject"] == audit.id
    ]
    assert readers == [people.auditors[0].user_id]


def test_each_suspicious_pair_is_shown_by_itself_and_each_look_is_recorded(
    browser: FlaskClient, people: Walk, token_of: TokenOf, web_application: Application
) -> None:
    audit = people.audited(people.version(people.dataset()))
    one = {"flagged": True, "ratio": 0.1, "train_distance": 0.2, "held_out_distance": 0.9}
    pairs = [
        one
        | {
            name: f"data:image/png;base64,{name}{n}"
            for name in ("synthetic", "trained", "held_out")
        }
        for n in (1, 2, 3)
    ]
    key = "candidate/x/pairs.json"
    web_application.objects.put_bytes(Bucket.WORK, key, body=json.dumps(pairs).encode())
    with web_application.uow() as uow:
        uow.without_trail("a report as a worker writes it")
        job = uow.get(Job, audit.id)
        assert job is not None
        job.result = {**job.result, "pairs": key, "pair_count": 3, "report_html": "k"}
    sign_in(browser, token_of(people.auditors[1]))
    assert f"/reports/{audit.id}/pairs" in text_of(browser, f"/reports/{audit.id}")
    listed = browser.get(f"/reports/{audit.id}/pairs")
    assert "data:image" not in listed.get_data(as_text=True)
    csrf = form_token(listed)
    for number in (2, 3, 2):
        shown = browser.post(f"/reports/{audit.id}/pairs/{number}", data={"csrf": csrf})
        text = shown.get_data(as_text=True)
        assert f"trained{number}" in text
        assert text.count("data:image") == 3
    assert browser.get(f"/reports/{audit.id}/pairs/2").status_code == 405
    assert browser.post(f"/reports/{audit.id}/pairs/4", data={"csrf": csrf}).status_code == 404
    with web_application.uow(read_only=True) as uow:
        rows = journal.list_rows(uow, people.operator, limit=1000)
    looks = [
        (row["body"]["actor"], row["body"]["details"]["pair"])
        for row in rows
        if row["body"]["event"] == "report:view_pair" and row["subject"] == audit.id
    ]
    assert looks == [(people.auditors[1].user_id, number) for number in (2, 3, 2)]


def test_a_running_job_shows_its_progress_and_renews_itself(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    job = people.training(people.version(people.dataset()))
    sign_in(browser, token_of(people.owner))
    page = text_of(browser, f"/jobs/{job.id}")
    assert "waiting for a worker" in page
    assert 'data-live="2"' in page
    assert job.id in text_of(browser, "/jobs")
    assert "reserved" in text_of(browser, f"/datasets/{job.dataset_id}")


def test_names_that_people_typed_are_escaped(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    dataset = people.dataset("<script>alert(1)</script>")
    sign_in(browser, token_of(people.owner))
    for path in ("/datasets", f"/datasets/{dataset.id}"):
        page = text_of(browser, path)
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_no_page_asks_for_anything_from_elsewhere(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    sign_in(browser, token_of(people.owner))
    for path in ("/releases", "/datasets", "/jobs", "/static/kaima.css", "/static/live.js"):
        assert not re.search(r"(https?:)?//[a-z]", text_of(browser, path).replace("// ", ""))


def test_every_problem_type_has_a_page(browser: FlaskClient) -> None:
    for slug in ("budget-refused", "validation", "too-large", "unauthenticated", "not-found"):
        text_of(browser, f"/problems/{slug}")
    assert browser.get("/problems/unheard-of").status_code == 404


@pytest.mark.parametrize(
    "path", ["/releases/%00", "/jobs/a%20b", "/releases?cursor=%00", "/datasets/..%5cx"]
)
def test_an_odd_address_is_not_found(
    browser: FlaskClient, people: Walk, token_of: TokenOf, path: str
) -> None:
    sign_in(browser, token_of(people.owner))
    assert "Not found" in text_of(browser, path, status=404)
