"""A passkey in real Chromium with a virtual authenticator: made, used to sign in, asked for again."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import make_server

from service.app import create_app
from service.domain.accounts import Role
from service.embedded import pick_port
from service.operations import invitations
from service.wiring import Application
from tests.factories import Walk

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PASSWORD = "river copper lantern seven"
SCREENS = Path(os.environ.get("KAIMA_SCREENS", "build/screens"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def localhost_url(web_application: Application) -> Iterator[str]:
    """Yield the address of the app under a host name: a passkey cannot belong to a number."""
    import threading

    port = pick_port()
    url = f"http://localhost:{port}"
    settings = replace(web_application.settings, public_url=url)
    parts = replace(web_application.parts, settings=settings)
    app = create_app(replace(web_application, settings=settings, parts=parts))
    server = make_server("localhost", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield url
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


def with_authenticator(context: BrowserContext) -> Page:
    """Return a page whose browser holds a virtual security key that always says yes."""
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable", {"enableUI": False})
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return page


def without_serious_findings(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in {"serious", "critical"}]
    assert not serious, [(one["id"], one["nodes"][0]["html"]) for one in serious]


def keep(page: Page, name: str) -> None:
    """Keep pictures of a page at both widths in both schemes, and check that nothing is cut off."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=SCREENS / f"{name}-{width}-{scheme}.png", full_page=True)
            without_serious_findings(page)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    page.set_viewport_size({"width": 1280, "height": 800})


def test_an_auditor_arrives_by_a_link_and_signs_in_with_a_passkey(
    chromium: Browser, localhost_url: str, people: Walk
) -> None:
    with people.application.uow() as uow:
        link = invitations.invite_user(
            uow,
            people.operator,
            tenant_id=people.tenant_id,
            name="Ada Auditor",
            roles=[Role.AUDITOR],
            sign_in_name="ada@hospital.test",
        )
    context = chromium.new_context()
    page = with_authenticator(context)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(localhost_url + link.path)
    keep(page, "invitation")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="Set up a second factor").wait_for()
    keep(page, "second-factor-set-up")
    page.get_by_role("button", name="Make a passkey").click()
    page.get_by_role("heading", name="Your recovery codes").wait_for()
    keep(page, "recovery-codes")
    page.get_by_role("link", name="I have kept them").click()
    page.goto(localhost_url + "/account")
    assert page.get_by_text("My passkey").count() == 1
    keep(page, "account")

    page.get_by_role("banner").get_by_role("button", name="Sign out").click()
    page.goto(localhost_url + "/sign-in?with=password&next=/account")
    keep(page, "sign-in")
    page.get_by_label("Sign-in name").fill("ada@hospital.test")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Your second factor").wait_for()
    keep(page, "second-factor")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(localhost_url + "/account")

    page.goto(localhost_url + "/confirm?next=/account")
    keep(page, "confirm")
    page.get_by_role("button", name="Confirm with a passkey").click()
    page.wait_for_url(localhost_url + "/account")
    assert wrong == []
    context.close()


def test_a_passkey_of_somebody_else_is_refused_in_words(
    chromium: Browser, localhost_url: str, people: Walk
) -> None:
    with people.application.uow() as uow:
        link = invitations.invite_user(
            uow,
            people.operator,
            tenant_id=people.tenant_id,
            name="Bea Auditor",
            roles=[Role.AUDITOR],
            sign_in_name="bea@hospital.test",
        )
    context = chromium.new_context()
    page = with_authenticator(context)
    page.goto(localhost_url + link.path)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Make a passkey").click()
    page.get_by_role("heading", name="Your recovery codes").wait_for()
    page.goto(localhost_url + "/confirm?next=/account")
    options = page.locator("form[data-passkey]").get_attribute("data-options")
    assert options is not None
    page.locator("form[data-passkey] [name=credential]").evaluate(
        "(field) => { field.value = JSON.stringify({id: 'AAAA', rawId: 'AAAA', response: {}}); "
        "field.form.submit(); }"
    )
    page.get_by_role("alert").filter(has_text="not one of yours").wait_for()
    context.close()


def test_the_operators_pages_read_well(
    chromium: Browser, localhost_url: str, people: Walk, token_of: object
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(localhost_url + "/sign-in?with=key&next=/operator")
    keep(page, "sign-in-key")
    page.get_by_label("API key").fill(token_of(people.operator))  # type: ignore[operator]
    page.locator("main button").click()
    page.wait_for_url(localhost_url + "/operator")
    for path in ("", "/users", "/tenants", "/jobs", "/storage", "/journal", "/retention"):
        page.goto(f"{localhost_url}/operator{path}")
        if path in {"/storage", "/journal"}:
            page.locator("main button").first.click()
            page.locator("main table, main dl").first.wait_for()
        keep(page, f"operator{path.replace('/', '-')}")
    page.goto(f"{localhost_url}/operator/users/{people.auditors[0].user_id}")
    keep(page, "operator-user")
    page.get_by_label("Sign-in name").fill("auditor.one@hospital.test")
    page.get_by_role("button", name="Link to choose a password").click()
    page.get_by_text("Hand this link to").wait_for()
    keep(page, "operator-user-link")
    context.close()
