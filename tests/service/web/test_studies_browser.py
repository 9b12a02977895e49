"""A reader's whole session in a real browser: by keyboard, with a break, and without scripts."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from service.domain.accounts import Actor
from service.domain.studies import Study
from service.operations import study_reading, study_results
from tests.chromium import running_chromium
from tests.factories import Walk
from tests.studies import joined, opened, phantom_picture, read_all

pytestmark = pytest.mark.slow

LOOK = 300  # milliseconds


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def study(people: Walk) -> Study:
    return opened(people, picture=phantom_picture)


def link_of(people: Walk, study: Study, name: str, live_url: str) -> str:
    with people.application.uow() as uow:
        _, secret = study_reading.invite_reader(
            uow, people.auditors[0], study_id=study.id, name=name
        )
    return f"{live_url}/read/join/{secret}"


def watched(browser: Browser, live_url: str, **options: object) -> tuple[Page, list[str]]:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(90_000)  # the browser shares its cores with everything else
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda sent: wrong.append(sent.url) if not sent.url.startswith((live_url, "data:")) else 0,
    )
    return page, wrong


def grey(page: Page) -> list[int]:
    """Return the middle pixel of the viewer."""
    return page.evaluate(
        """() => {
            const from = document.querySelector(".viewer canvas");
            const to = document.createElement("canvas");
            to.width = to.height = 1;
            const context = to.getContext("2d", { willReadFrequently: true });
            context.drawImage(from, from.width / 2, from.height / 2, 1, 1, 0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data];
        }"""
    )


def test_a_reader_does_a_whole_study_by_keyboard(
    chromium: Browser, live_url: str, people: Walk, study: Study
) -> None:
    page, wrong = watched(chromium, live_url, viewport={"width": 1280, "height": 800})
    page.goto(link_of(people, study, "Keyboard", live_url))
    page.get_by_role("button", name="Begin").click()
    page.locator(".viewer canvas").wait_for()
    before = grey(page)
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('[data-invert]').ariaPressed === 'true'")
    page.wait_for_timeout(200)
    assert grey(page)[0] == pytest.approx(255 - before[0], abs=2)
    page.keyboard.press("r")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("+")
    assert page.locator("[data-zoom]").input_value() == "1.25"
    assert page.locator("[data-window]").input_value() == "192"
    page.keyboard.press("Enter")
    assert "Choose an answer first" in page.locator("[data-status]").inner_text()
    page.keyboard.press("ArrowLeft")
    assert "no way back" in page.locator("[data-status]").inner_text()
    page.keyboard.press("b")
    page.get_by_role("heading", name="Break").wait_for()
    page.get_by_role("link", name="Go on").click()
    for position in range(1, 9):
        page.get_by_role("heading", name=f"Case {position}").wait_for()
        page.wait_for_timeout(LOOK)
        page.keyboard.press("0")
        page.keyboard.press("1")  # changed before moving on
        with page.expect_navigation():
            page.keyboard.press("Enter")
    page.get_by_role("heading", name="Part 2").wait_for()
    page.get_by_role("button", name="Begin part 2").click()
    for position in range(1, 9):
        page.get_by_role("heading", name=f"Case {position}").wait_for()
        page.wait_for_timeout(LOOK)
        page.keyboard.press(str(1 + position % 6))
        with page.expect_navigation():
            page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="Finished").wait_for()
    assert wrong == []


def test_a_reader_without_scripts_answers_in_a_plain_form_on_a_phone(
    chromium: Browser,
    live_url: str,
    people: Walk,
    study: Study,
    token_of: Callable[[Actor], str],
) -> None:
    phone = {"width": 360, "height": 740}
    page, wrong = watched(chromium, live_url, viewport=phone, java_script_enabled=False)
    page.goto(link_of(people, study, "Plain form", live_url))
    page.get_by_role("button", name="Begin").click()
    for position in range(1, 9):
        page.get_by_role("heading", name=f"Case {position}").wait_for()
        page.wait_for_timeout(LOOK)
        page.locator(".choice-key").first.click()
        page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Begin part 2").click()
    for position in range(1, 9):
        page.get_by_role("heading", name=f"Case {position}").wait_for()
        page.wait_for_timeout(LOOK)
        page.locator(".choice-key").nth(position % 6).click()
        page.get_by_role("button", name="Go on").click()
    page.get_by_role("heading", name="Finished").wait_for()
    assert wrong == []
    read_all(people, joined(people, study, "Second"), confidence=lambda _: 3)
    with people.application.uow() as uow:
        closed = study_results.close_study(uow, people.owner, study_id=study.id)
    assert closed.summary["readers_analysed"] == 2
