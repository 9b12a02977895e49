"""The pages of reader studies: what a reader's session reaches, and what it can not."""

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from service.client import KaimaClient, ProblemError
from service.domain.accounts import BOOTSTRAP, Actor, Scope
from service.domain.studies import Study, StudyState
from service.operations import accounts, study_reading
from service.store import sign_in_tables
from tests.factories import Walk
from tests.studies import PLAN, consented, drafted, opened, registered


@pytest.fixture(scope="module")
def study(people: Walk) -> Study:
    return opened(people)


def link_of(people: Walk, study: Study, name: str) -> str:
    with people.application.uow() as uow:
        _, secret = study_reading.invite_reader(
            uow, people.auditors[0], study_id=study.id, name=name
        )
    return secret


@pytest.fixture
def browser(web: FlaskClient) -> FlaskClient:
    return web.application.test_client()


def reading(browser: FlaskClient, link: str) -> str:
    """Use a link; return the page that it leads to."""
    assert browser.get(f"/read/join/{link}").status_code == 200
    return browser.post(f"/read/join/{link}", follow_redirects=True).get_data(as_text=True)


def test_a_readers_session_reaches_the_study_and_nothing_else(
    browser: FlaskClient, people: Walk, study: Study
) -> None:
    page = reading(browser, link_of(people, study, "Reader web 1"))
    picture = re.search(r'src="(/read/picture/[^"]+)"', page)
    assert picture
    shown = browser.get(picture[1])
    assert (shown.status_code, shown.content_type) == (200, "image/png")
    assert shown.headers["Cache-Control"] == "no-store"
    for path in ("/releases", "/studies", f"/studies/{study.id}", "/jobs", "/datasets"):
        answer = browser.get(path)
        assert answer.status_code == 302
        assert "/sign-in" in answer.headers["Location"]
    assert browser.get(f"/v1/studies/{study.id}").status_code == 401
    cookie = browser.get_cookie("kaima-reading", path="/read")
    assert cookie is not None
    assert (cookie.path, cookie.http_only, cookie.same_site) == ("/read", True, "Strict")


def test_nothing_that_a_reader_is_shown_in_part_a_tells_of_synthetic_images(
    browser: FlaskClient, people: Walk, study: Study
) -> None:
    link = link_of(people, study, "Reader web 2")
    welcome = browser.get(f"/read/join/{link}").get_data(as_text=True)
    page = reading(browser, link)
    refused = browser.get(f"/read/join/{link}").get_data(as_text=True)
    for text in (welcome, page, refused):
        assert "synthetic" not in text.lower()
        assert study.name not in text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token
    for position in range(1, 9):
        form = {"csrf": token[1], "phase": "grading", "position": position, "value": 0}
        page = browser.post("/read/answer", data=form, follow_redirects=True).get_data(as_text=True)
    assert "Part 2: real or synthetic?" in page


def test_a_form_without_the_sessions_token_and_a_picture_of_another_case_are_refused(
    browser: FlaskClient, people: Walk, study: Study
) -> None:
    reading(browser, link_of(people, study, "Reader web 3"))
    form = {"phase": "grading", "position": 1, "value": 0}
    assert browser.post("/read/answer", data=form).status_code == 400
    assert browser.get("/read/picture/grading/2/1.png").status_code == 404
    assert browser.get("/read/picture/judging/1/1.png").status_code == 404
    stranger = browser.application.test_client()
    assert stranger.get("/read").status_code == 403
    assert stranger.get("/read/picture/grading/1/1.png").status_code == 403


def test_command_line_and_program_do_all_that_the_pages_do(
    client_of: Callable[[Actor], KaimaClient], people: Walk
) -> None:
    audit = people.audited(people.version(people.dataset()))
    owner = client_of(people.owner)
    study = owner.create_study(audit.id, name="By program", plan={**PLAN, "cases_per_class": 4})
    study = owner.register_study(study.id)
    for auditor in people.auditors[:2]:
        study = client_of(auditor).consent_to_study(study.id, plan_digest=str(study.plan_digest))
    assert (study.state, len(study.consents)) == ("preparing", 2)
    assert study.id in [line.id for line in owner.studies()]
    with pytest.raises(ProblemError, match="before it is closed"):
        owner.study_result(study.id)
    found = owner.study_power(readers=10, cases_per_class=150, margin=0.1)
    assert found.power > 0.8
    assert owner.cancel_study(study.id).state == "cancelled"


def test_an_auditor_reads_the_locked_plan_and_consents_on_the_page(
    page_of: Callable[[Actor], FlaskClient], people: Walk
) -> None:
    draft = drafted(people)
    owner = page_of(people.owner)
    text = owner.get(f"/studies/{draft.id}").get_data(as_text=True)
    assert "Lock the plan" in text
    token = re.search(r'name="csrf" value="([^"]+)"', text)
    assert token
    owner.post(f"/studies/{draft.id}/register", data={"csrf": token[1]})
    text = owner.get(f"/studies/{draft.id}").get_data(as_text=True)
    assert "only an auditor may" in text  # the rule's sentence beside the disabled button
    assert consented(people, people_study(people, draft.id)).state == "preparing"


def test_consenting_on_the_page_asks_for_a_fresh_second_factor(
    page_of: Callable[[Actor], FlaskClient], people: Walk
) -> None:
    study = registered(people)
    auditor = people.auditors[0]
    page = page_of(auditor)
    of_theirs = sign_in_tables.web_sessions.c.user_id == auditor.user_id
    form = {"csrf": "right", "plan_digest": study.plan_digest}
    for given, status, words in (
        (None, 403, "second factor"),
        (people.application.parts.clock(), 302, ""),
    ):
        with people.application.uow() as uow:
            uow.without_trail("time passes")
            uow.execute_update(
                sa.update(sign_in_tables.web_sessions).where(of_theirs).values(factor_at=given)
            )
        answer = page.post(f"/studies/{study.id}/consent", data=form)
        assert answer.status_code == status
        assert words in answer.get_data(as_text=True)
    assert consented(people, study, by=(1,)).state is StudyState.PREPARING


def test_a_program_consents_with_a_key_that_may_vote_and_with_no_other(
    client_of: Callable[[Actor], KaimaClient],
    page_of: Callable[[Actor], FlaskClient],
    people: Walk,
) -> None:
    """As votes do: what the page asks the factor for, a key needs the scope of reviews for."""
    study = registered(people)
    who = people.auditors[2]
    with people.application.uow() as uow:
        _, weak = accounts.create_api_key(
            uow, BOOTSTRAP, user_id=who.user_id, scopes=[Scope.READ, Scope.JOBS]
        )
    http = page_of(who).application.test_client()
    path, body = f"/v1/studies/{study.id}/consents", {"plan_digest": study.plan_digest}
    refused = http.post(path, json=body, headers={"Authorization": f"Bearer {weak}"})
    assert refused.status_code == 403
    assert "lacks the scope 'reviews'" in refused.get_json()["detail"]
    given = client_of(who).consent_to_study(study.id, plan_digest=str(study.plan_digest))
    assert [consent.auditor_id for consent in given.consents] == [who.user_id]


def people_study(people: Walk, study_id: str) -> Study:
    with people.application.uow(read_only=True) as uow:
        found = uow.get(Study, study_id)
    assert found is not None
    return found
