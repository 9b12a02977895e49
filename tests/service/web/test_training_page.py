"""The training page: a plan before anything is spent, and one training for one press of the button."""

import re
from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.app import create_app
from service.domain.accounts import Actor
from service.domain.datasets import DatasetVersion
from service.domain.jobs import Job, JobKind
from service.operations import jobs
from service.wiring import Application
from tests.factories import Walk

TokenOf = Callable[[Actor], str]
ASKED = {"generator": "network", "preset": "quick", "epsilon": "1", "samples": "500"}
RESULT = {
    "seconds": 200.0,
    "fit_seconds": 180.0,
    "sample_seconds": 20.0,
    "peak_bytes": 3 * 2**30,
    "device": "a small machine",
}


@pytest.fixture
def version(people: Walk) -> DatasetVersion:
    return people.version(people.dataset())


@pytest.fixture
def browser(web_application: Application, people: Walk, token_of: TokenOf) -> Iterator[FlaskClient]:
    """Yield a browser in which the data owner is signed in."""
    with create_app(web_application).test_client() as client:
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        data = {"csrf": field(client.get("/sign-in"), "csrf"), "api_key": token_of(people.owner)}
        client.post("/sign-in", data=data)
        yield client


def field(page: TestResponse, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page.get_data(as_text=True))
    assert found is not None
    return found[1]


def planned(browser: FlaskClient, version: DatasetVersion, **changes: str) -> TestResponse:
    address = f"/versions/{version.id}/training"
    csrf = field(browser.get(address), "csrf")
    answer = browser.post(address, data=ASKED | changes | {"csrf": csrf})
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return browser.get(answer.headers["Location"])


def jobs_of(people: Walk, version: DatasetVersion, kind: JobKind) -> list[Job]:
    with people.application.uow(read_only=True) as uow:
        page = jobs.list_jobs(uow, people.owner, dataset_id=version.dataset_id, kind=kind)
        return page.items


def test_a_ready_version_leads_to_the_form(browser: FlaskClient, version: DatasetVersion) -> None:
    page = browser.get(f"/datasets/{version.dataset_id}").get_data(as_text=True)
    assert f'href="/versions/{version.id}/training"' in page
    form = browser.get(f"/versions/{version.id}/training").get_data(as_text=True)
    assert "A little DP-SGD" in form
    assert "Defaults were chosen on phantoms and public data" in form


def test_the_plan_shows_cost_warnings_and_advice_and_renews_itself_until_the_dry_run_is_done(
    browser: FlaskClient, people: Walk, version: DatasetVersion
) -> None:
    page = planned(browser, version).get_data(as_text=True)
    assert "of 3 left, at δ" in page
    assert "Too little to learn from" in page
    assert "Recommended: statistics." in page
    assert "A dry run on random images is under way" in page
    assert 'data-live="2"' in page
    (job,) = jobs_of(people, version, JobKind.ESTIMATE)
    people.succeed(job, people.claim(job), RESULT)
    page = planned(browser, version).get_data(as_text=True)
    assert "About 3 min, about 3.0 GiB of memory" in page
    assert "a small machine" in page
    assert "data-live" not in page
    assert len(jobs_of(people, version, JobKind.ESTIMATE)) == 1
    assert jobs_of(people, version, JobKind.TRAIN) == []


def test_a_plan_that_is_refused_says_why_and_offers_no_button(
    browser: FlaskClient, version: DatasetVersion
) -> None:
    page = planned(browser, version, epsilon="4").get_data(as_text=True)
    assert 'class="notice bad"' in page
    assert "and train" not in page
    answer = browser.get(f"/versions/{version.id}/training?generator=network&epsilon=much")
    assert answer.status_code == 422
    assert "&#39;target.epsilon&#39; was refused" in answer.get_data(as_text=True)


def test_pressing_twice_trains_once(
    browser: FlaskClient, people: Walk, version: DatasetVersion
) -> None:
    page = planned(browser, version)
    sent = ASKED | {"csrf": field(page, "csrf"), "once": field(page, "once")}
    answers = [browser.post(f"/versions/{version.id}/training/request", data=sent) for _ in "ab"]
    (job,) = jobs_of(people, version, JobKind.TRAIN)
    assert [answer.headers["Location"] for answer in answers] == [f"/jobs/{job.id}"] * 2
    assert (job.payload["preset"], job.payload["config"]["steps"]) == ("quick", 10)
    assert "quick" in browser.get(f"/jobs/{job.id}").get_data(as_text=True)


def test_a_fit_that_found_nothing_says_so_on_the_page_of_its_training(
    browser: FlaskClient, people: Walk, version: DatasetVersion, web_application: Application
) -> None:
    people.audited(version)
    (training,) = jobs_of(people, version, JobKind.TRAIN)
    sentence = "This model is no better than independent columns."
    assert sentence not in browser.get(f"/jobs/{training.id}").get_data(as_text=True)
    with web_application.uow() as uow:
        uow.without_trail("a result as a worker writes it")
        job = uow.get(Job, training.id)
        assert job is not None
        job.result = {**job.result, "warnings": [sentence]}
    page = browser.get(f"/jobs/{training.id}").get_data(as_text=True)
    assert f'<p class="notice">{sentence}</p>' in page


def test_an_auditor_may_not_plan(
    people: Walk, version: DatasetVersion, token_of: TokenOf, web_application: Application
) -> None:
    with create_app(web_application).test_client() as client:
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        csrf = field(client.get("/sign-in"), "csrf")
        client.post("/sign-in", data={"csrf": csrf, "api_key": token_of(people.auditors[0])})
        query = "&".join(f"{name}={value}" for name, value in ASKED.items())
        answer = client.get(f"/versions/{version.id}/training?{query}")
        assert answer.status_code == 403
        assert "Plan a training" not in client.get(f"/datasets/{version.dataset_id}").text
