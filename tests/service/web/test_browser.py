"""The pages in a real browser: no console error, no request elsewhere, nothing cut on a phone."""

import shutil
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from service.domain.accounts import Actor
from service.domain.releases import ReleaseState
from tests.factories import Walk

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def chromium() -> Browser:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_reads_well_and_stays_at_home(
    chromium: Browser,
    live_url: str,
    people: Walk,
    token_of: Callable[[Actor], str],
    width: int,
    scheme: str,
) -> None:
    published, revoked = (
        people.release(ReleaseState.PUBLISHED),
        people.release(ReleaseState.REVOKED),
    )
    job = people.training(people.version(people.dataset()))
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page: Page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda sent: wrong.append(sent.url) if not sent.url.startswith((live_url, "data:")) else 0,
    )
    page.goto(f"{live_url}/datasets")
    page.get_by_label("API key").fill(token_of(people.owner))
    page.locator("main button").click()
    page.wait_for_url(f"{live_url}/datasets")
    paths = ["/releases", f"/releases/{published.id}", f"/releases/{revoked.id}", "/jobs"]
    paths += [f"/jobs/{job.id}", f"/datasets/{job.dataset_id}"]
    for path in paths:
        page.goto(live_url + path)
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
    assert wrong == []
    context.close()


def test_a_job_page_renews_itself_without_being_loaded_again(
    chromium: Browser, live_url: str, people: Walk, token_of: Callable[[Actor], str]
) -> None:
    job = people.training(people.version(people.dataset()))
    page = chromium.new_page()
    page.goto(f"{live_url}/jobs/{job.id}")
    page.get_by_label("API key").fill(token_of(people.owner))
    page.locator("main button").click()
    page.get_by_text("waiting for a worker").wait_for()
    people.claim(job)
    page.locator(".state", has_text="running").wait_for(timeout=10_000)
    page.close()
