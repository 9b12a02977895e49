"""The auditor's day in a real browser: queue, evidence, pairs, votes, refusals, policy."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from privacy.report import Verdict
from service.domain.accounts import Actor
from service.domain.releases import Decision, ReleaseState
from service.store import journal
from tests.chromium import running_chromium, sign_in
from tests.factories import Walk
from tests.service.web.test_review_pages import with_evidence

pytestmark = pytest.mark.slow

PageOf = Callable[[Actor], Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def page_of(chromium: Browser, live_url: str, token_of: Callable[[Actor], str]) -> Iterator[PageOf]:
    wrong: list[str] = []
    opened = []

    def open_for(actor: Actor) -> Page:
        context = chromium.new_context(base_url=live_url, viewport={"width": 1280, "height": 900})
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda sent: _note_elsewhere(sent.url, live_url, wrong))
        sign_in(page, live_url, token_of(actor))
        return page

    yield open_for
    for context in opened:
        context.close()
    assert wrong == []


def _note_elsewhere(address: str, home: str, wrong: list[str]) -> None:
    if not address.startswith((home, "data:")):
        wrong.append(address)


def choose(page: Page, decision: str, reason: str = "") -> None:
    """Fill in the vote form and send it."""
    page.locator(f"input[name=decision][value={decision}]").check()
    page.locator("#vote textarea[name=reason]").fill(reason)
    page.get_by_role("button", name="Cast my vote").click()


def test_an_auditor_reviews_from_the_queue_to_the_decision(people: Walk, page_of: PageOf) -> None:
    release = with_evidence(people, ReleaseState.SUBMITTED)
    first, second = (page_of(auditor) for auditor in people.auditors[:2])
    first.get_by_role("link", name="Review").click()
    first.get_by_role("link", name=f"{release.name} 1.0.0").click()
    expect(first.locator("h1")).to_contain_text(release.name)
    assert first.locator(".pairs img, #pair-shown img").count() == 0

    first.keyboard.press("p")
    first.keyboard.press("j")
    expect(first.locator("[data-pair='2'] .cover")).to_be_focused()
    first.keyboard.press("Enter")
    expect(first.locator("#pair-shown img")).to_have_count(3)
    first.locator("[data-pair='1'] .cover").click()
    expect(first.locator("#pair-shown h2")).to_contain_text("Pair 1")
    expect(first.locator("#pair-shown img")).to_have_count(3)  # the other one is covered again
    assert looks(people, release.audit_job_id) == [(people.auditors[0].user_id, n) for n in (2, 1)]

    first.locator("body").press("g")
    expect(first.locator("#gates tbody tr").first).to_be_focused()
    first.keyboard.press("?")
    expect(first.get_by_role("dialog")).to_be_visible()
    first.get_by_role("button", name="Close").click()
    for key in "arvy1":  # no key votes
        first.locator("body").press(key)
    assert people.current(release).state is ReleaseState.SUBMITTED

    choose(first, "approve", "Every gate passes, and the pairs look alike.")
    expect(first.locator("#vote")).to_contain_text("you voted already in this round")
    second.goto(f"/review/{release.id}")
    assert "the pairs look alike" not in second.content()
    choose(second, "approve")
    expect(second.locator("h1 + .state, .row .state").first).to_contain_text("approved")
    expect(second.locator("main")).to_contain_text("the pairs look alike")
    first.goto("/review/history")
    expect(first.locator("tbody tr").first).to_contain_text(release.name)


def test_what_is_refused_is_said_in_the_rules_own_words(people: Walk, page_of: PageOf) -> None:
    blocked = with_evidence(people, ReleaseState.SUBMITTED, verdict=Verdict.FAIL)
    stale = with_evidence(people, ReleaseState.SUBMITTED)
    page = page_of(people.auditors[0])

    page.goto(f"/review/{blocked.id}")
    approve = page.locator("input[value=approve]")
    expect(approve).to_be_disabled()
    expect(page.locator("#rule-approve")).to_contain_text("the audit verdict is FAIL")

    page.goto(f"/review/{stale.id}")
    people.voted(stale, people.auditors[1], Decision.RETURN, reason="Too few samples.")
    choose(page, "approve", "Read before the other vote.")
    expect(page.get_by_role("alert")).to_contain_text("Your vote was not counted")
    expect(page.locator("textarea[name=reason]").first).to_have_value("Read before the other vote.")
    assert "Too few samples." not in page.content()

    owner = page_of(people.owner)
    owner.goto(f"/review/{blocked.id}")
    expect(owner.locator("#vote")).to_contain_text("Two auditors decide")
    assert owner.goto("/review").status == 403
    expect(owner.locator("main")).to_contain_text("only an auditor may")


def test_a_stricter_policy_is_proposed_and_put_in_force(people: Walk, page_of: PageOf) -> None:
    author, *others = (page_of(auditor) for auditor in people.auditors)
    author.goto("/policies")
    author.get_by_role("link", name="Propose a change").click()
    author.get_by_label("AUC of membership attacks").first.fill("0.9")
    author.get_by_role("button", name="Show the difference").click()
    expect(author.get_by_role("alert")).to_contain_text("no policy is looser")
    author.locator("[name='tiers.public.auc']").fill("0.53")
    author.get_by_role("button", name="Show the difference").click()
    expect(author.locator("main")).to_contain_text("tightens")
    author.get_by_label("Why").fill("Knees are easy to tell apart.")
    author.get_by_role("button", name="Propose it").click()
    expect(author.locator("#vote")).to_contain_text("you proposed it")
    for page in others:
        page.goto("/review?kind=policy")
        page.get_by_role("link", name="Policy version").click()
        page.locator("input[value=approve]").check()
        page.get_by_role("button", name="Cast my vote").click()
        page.wait_for_load_state()
    author.goto("/policies")
    expect(author.locator("main")).to_contain_text("Version 1 of your organisation")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_of_the_auditor_fits(
    people: Walk, chromium: Browser, page_of: PageOf, width: int, scheme: str
) -> None:
    release = with_evidence(people, ReleaseState.SUBMITTED)
    other = with_evidence(people, ReleaseState.UNDER_REVIEW, verdict=Verdict.PASS_PROVEN)
    page = page_of(people.auditors[1])
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    compared = f"/review/compare?a={release.id}&b={other.id}"
    for path in ("/review", f"/review/{release.id}", "/review/history", compared, "/policies"):
        page.goto(path)
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path


def looks(people: Walk, audit_job_id: str) -> list[tuple[str, int]]:
    """Return who looked at which pair, in order, as the trail has it."""
    with people.application.uow(read_only=True) as uow:
        bodies = [
            row.document["body"] for row in journal.read_rows(uow.session, subject=audit_job_id)
        ]
    return [
        (body["actor"], body["details"]["pair"])
        for body in bodies
        if body["event"] == "report:view_pair"
    ]
