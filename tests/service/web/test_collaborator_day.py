"""A collaborator's day in a real browser: search, ask, be refused, be granted, download, a tombstone."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from service.app import create_app
from service.domain.access import AccessMode
from service.domain.access_fields import RequestField
from service.domain.accounts import Actor
from service.domain.releases import Release, ReleaseState
from service.operations import access, access_policies, agreements
from service.wiring import Application
from tests.factories import Walk

pytestmark = pytest.mark.slow

FIELDS = (
    RequestField(name="purpose", label="What for?"),
    RequestField(name="kind", label="Kind of use", kind="choice", choices=("teaching", "research")),
    RequestField(name="country", label="Where?", kind="country"),
    RequestField(name="alone", label="You will not pass it on.", kind="checkbox"),
)


@pytest.fixture(scope="module")
def site(web_application: Application) -> Iterator[str]:
    """Yield the address of the app in a thread: the object store is real, the server is not slow."""
    server = make_server("127.0.0.1", 0, create_app(web_application), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)


@pytest.fixture
def page(chromium: Browser, site: str) -> Iterator[Page]:
    """Yield a page of a phone; it fails for every error on the console and request elsewhere."""
    context = chromium.new_context(viewport={"width": 360, "height": 800}, accept_downloads=True)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        # Chromium reports the refusals that are asked for on purpose as errors of loading.
        lambda said: wrong.append(said.text) if "status of 4" not in said.text else None,
    )
    yield opened
    context.close()
    assert wrong == []


def sign_in(page: Page, site: str, token: str) -> None:
    page.goto(f"{site}/sign-in?with=key&next=/releases")
    page.get_by_label("API key").fill(token)
    page.locator("main").get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site}/releases")


def check_access_for_all(page: Page) -> None:
    """Let axe look at a page: nothing serious may be found."""
    found = Axe().run(page).response["violations"]
    assert [entry["id"] for entry in found if entry["impact"] in {"serious", "critical"}] == []


def gate(people: Walk, release: Release) -> None:
    with people.application.uow() as uow:
        made = agreements.create_agreement(
            uow, people.owner, name="Use of data", text="Identify nobody."
        )
    with people.application.uow() as uow:
        access_policies.set_access_policy(
            uow,
            people.owner,
            release_id=release.id,
            mode=AccessMode.BY_REQUEST,
            fields=FIELDS,
            agreement_id=made.agreement.id,
        )


def answer_everything(page: Page) -> None:
    page.get_by_label("What for?").fill("Teaching")
    page.get_by_label("Kind of use").select_option("teaching")
    page.get_by_label("Where?").select_option("DE")
    page.get_by_label("You will not pass it on.").check()
    page.get_by_label("I have read this agreement").check()
    page.get_by_role("button", name="Send the request").click()


def test_a_collaborator_finds_asks_waits_downloads_and_learns_of_the_end(
    page: Page,
    site: str,
    people: Walk,
    others: Walk,
    token_of: Callable[[Actor], str],
    tmp_path: Path,
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    gate(people, release)
    sign_in(page, site, token_of(others.collaborator))

    page.get_by_label("Search", exact=True).fill("no such thing")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No release is like that.")).to_be_visible()
    page.get_by_label("Search", exact=True).fill(release.name)
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 release found")).to_be_visible()
    page.get_by_role("link", name=release.name).click()

    check_access_for_all(page)
    refused = page.get_by_role("button", name="Download")
    expect(refused).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_text("given on request only")).to_be_visible()
    page.get_by_role("tab", name="kaima").press("ArrowRight")
    expect(page.get_by_role("tabpanel", name="datasets")).to_be_visible()

    page.get_by_role("link", name="Ask for access").click()
    page.get_by_role("button", name="Send the request").click()
    expect(page.get_by_text("This must be confirmed.")).to_be_visible()
    check_access_for_all(page)
    answer_everything(page)
    expect(page.locator(".state.submitted")).to_have_text("waiting")
    request_id = page.url.rsplit("/", 1)[1]

    with people.application.uow() as uow:
        access.approve_access(uow, people.owner, request_id=request_id, days=20)
    page.goto(f"{site}/releases/{release.id}")
    page.get_by_role("button", name="Accept the terms").click()
    expect(page.get_by_text("You have accepted these terms.")).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download", exact=True).click()
    started.value.save_as(tmp_path / "bundle.zip")
    body = (tmp_path / "bundle.zip").read_bytes()
    assert hashlib.sha256(body).hexdigest() == release.bundle_sha256
    assert started.value.suggested_filename == release.file_name
    old_link = started.value.url

    page.goto(f"{site}/access")
    expect(page.locator(".state.granted")).to_be_visible()
    for path in ("/access/requests", "/agreements", f"/releases/{release.id}/downloads"):
        answer = page.goto(site + path)
        assert answer is not None
        assert answer.status == 403

    people.withheld(release, "revoke")
    page.goto(f"{site}/releases/{release.id}")
    expect(page.get_by_text("stop using it and delete it")).to_be_visible()
    expect(page.get_by_role("link", name="Download", exact=True)).to_have_count(0)
    assert page.request.get(f"{site}/releases/{release.id}/bundle").status == 409
    assert page.request.get(old_link).status in {403, 404}
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_data_owner_decides_on_a_request_and_reads_the_log(
    page: Page, site: str, people: Walk, others: Walk, token_of: Callable[[Actor], str]
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    sign_in(page, site, token_of(people.owner))
    page.goto(f"{site}/releases/{release.id}/access/policy")
    check_access_for_all(page)
    page.get_by_label("On request").check()
    page.get_by_label("question 1", exact=True).fill("What for?")
    page.get_by_label("A grant lasts").fill("14")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile(r"/releases/rel_\w+#get"))
    with people.application.uow() as uow:
        access.request_access(
            uow,
            others.collaborator,
            release_id=release.id,
            answers={"question_1": "<script>alert(1)</script>"},
        )
    page.goto(f"{site}/access/requests")
    page.get_by_role("link", name=f"{release.name} {release.version}").click()
    expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
    expect(page.get_by_label("For how long")).to_have_value("14")
    check_access_for_all(page)
    page.get_by_role("button", name="Grant access").click()
    expect(page.locator(".state.granted")).to_be_visible()
    page.get_by_label("Reason").fill("It was a mistake.")
    page.get_by_role("button", name="Revoke access").click()
    expect(page.get_by_text("It was a mistake.")).to_be_visible()
    page.goto(f"{site}/releases/{release.id}/downloads")
    expect(page.get_by_text("Nobody has downloaded this release.")).to_be_visible()
