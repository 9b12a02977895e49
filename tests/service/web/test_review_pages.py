"""The auditor's pages: what waits, the evidence with the vote beside it, own history."""

import re
from collections.abc import Callable

import pyotp
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from privacy.report import Verdict
from service.app import create_app
from service.domain.accounts import Actor
from service.domain.jobs import Job
from service.domain.releases import Decision, Release, ReleaseState
from service.domain.sign_in import SignIn
from service.operations import assigning, journal, plan_approving, second_factors
from service.wiring import Application
from tests.audit_documents import store_documents
from tests.factories import TARGET, Walk

SignedIn = Callable[[Actor], FlaskClient]


@pytest.fixture
def signed_in(web_application: Application, token_of: Callable[[Actor], str]) -> SignedIn:
    app = create_app(web_application)

    def sign_in(actor: Actor) -> FlaskClient:
        client = app.test_client()
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        csrf = token_in(client.get("/sign-in"))
        client.post("/sign-in", data={"csrf": csrf, "api_key": token_of(actor)})
        return client

    return sign_in


def token_in(page: TestResponse) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get_data(as_text=True))
    assert found is not None
    return found[1]


def text_of(client: FlaskClient, path: str, *, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def with_evidence(
    people: Walk, state: ReleaseState, *, verdict: Verdict = Verdict.PASS_EMPIRICAL
) -> Release:
    """Return a release whose audit has all its documents."""
    audit = people.audited(people.version(people.dataset()), verdict=verdict.value)
    store_documents(people.application, audit, verdict=verdict)
    with people.application.uow(read_only=True) as uow:
        found = uow.get(Job, audit.id)
    return people.release(state, audit=found)


def vote(client: FlaskClient, release: Release, decision: str, **form: str) -> TestResponse:
    page = client.get(f"/review/{release.id}")
    data = {"csrf": token_in(page), "if_match": release.etag, "decision": decision, **form}
    return client.post(f"/review/{release.id}/votes", data=data)


def test_the_queue_shows_what_asks_for_my_vote_first_and_counts_it_in_the_navigation(
    people: Walk, signed_in: SignedIn
) -> None:
    first, second, _ = people.auditors
    other = people.release(ReleaseState.UNDER_REVIEW)  # the first auditor has voted
    mine = people.release(ReleaseState.SUBMITTED)
    page = text_of(signed_in(first), "/review?kind=release")
    assert page.index(mine.name) < page.index(other.name)
    assert "your vote" in page
    assert "waiting for you" in page
    row = page[page.index(other.name) :]
    assert "voted" in row[: row.index("</tr>")]
    assert other.name in text_of(signed_in(second), "/review?mine=on")
    assert other.name not in text_of(signed_in(first), "/review?mine=on")
    assert "fits these filters" in text_of(signed_in(first), "/review?tier=public")
    assert "only an auditor may" in text_of(signed_in(people.owner), "/review", status=403)
    with people.application.uow() as uow:
        assigning.recuse(uow, second, dataset_id=mine.dataset_id, reason="My brother is in it.")
    page = text_of(signed_in(second), "/review?kind=release")
    assert "You stepped aside" in page[page.index(mine.name) :]


def test_the_review_page_answers_from_the_stored_report_and_reading_it_is_recorded(
    people: Walk, others: Walk, signed_in: SignedIn
) -> None:
    release = with_evidence(people, ReleaseState.SUBMITTED)
    auditor = people.auditors[1]
    page = text_of(signed_in(auditor), f"/review/{release.id}")
    for words in (
        "Every gate that was asked for is below its tolerance.",
        "No sample copies a trained-on record",
        "0.561",
        "One in ten persons copied verbatim",
        "measured, at least: epsilon 0.21",
        "Uncover pair 1, named a copy",
        "per person",
    ):
        assert words in page
    assert "data:image" not in page  # no real record before somebody asks for it
    with people.application.uow(read_only=True) as uow:
        rows = journal.list_rows(uow, people.operator, limit=1000)
    read = [r for r in rows if r["body"]["event"] == "report:read"]
    assert (read[-1]["body"]["actor"], read[-1]["subject"]) == (
        auditor.user_id,
        release.audit_job_id,
    )
    text_of(signed_in(others.auditors[0]), f"/review/{release.id}", status=404)


def test_a_release_without_a_stored_report_says_so(people: Walk, signed_in: SignedIn) -> None:
    release = people.release(ReleaseState.SUBMITTED)
    page = text_of(signed_in(people.auditors[0]), f"/review/{release.id}")
    assert "No report of job" in page


def test_votes_are_blind_bound_to_the_revision_and_cast_once(
    people: Walk, signed_in: SignedIn
) -> None:
    release = with_evidence(people, ReleaseState.SUBMITTED)
    first, second = (signed_in(auditor) for auditor in people.auditors[:2])
    stale = vote(first, release, "approve", reason="Read.", if_match='"999"')
    assert stale.status_code == 412
    page = stale.get_data(as_text=True)
    assert "Your vote was not counted" in page
    assert "Read.</textarea>" in page
    assert vote(first, release, "return").status_code == 403  # without its reason
    assert vote(first, release, "approve", reason="All gates pass.").status_code == 303
    now = people.current(release)
    assert "All gates pass." not in text_of(second, f"/review/{release.id}")
    again = vote(first, now, "reject", reason="Changed my mind.")
    assert again.status_code == 409
    assert "you voted already" in text_of(first, f"/review/{release.id}")
    assert vote(second, now, "approve").status_code == 303
    assert people.current(release).state is ReleaseState.APPROVED
    assert "All gates pass." in text_of(second, f"/review/{release.id}")
    history = text_of(first, "/review/history")
    assert release.name in history
    table = first.get("/review/history.csv")
    assert table.content_type == "text/csv; charset=utf-8"
    assert f"{release.name} 1.0.0,1,approve,All gates pass.,approved" in table.get_data(
        as_text=True
    )


def test_a_button_that_a_rule_disables_says_the_rule(people: Walk, signed_in: SignedIn) -> None:
    blocked = with_evidence(people, ReleaseState.SUBMITTED, verdict=Verdict.FAIL)
    page = text_of(signed_in(people.auditors[0]), f"/review/{blocked.id}")
    assert "Approving was refused: the audit verdict is FAIL" in page
    assert page.count(" disabled") == 1
    assert vote(signed_in(people.auditors[0]), blocked, "approve").status_code == 403
    people.voted(blocked, people.auditors[0], Decision.REJECT)
    page = text_of(signed_in(people.auditors[0]), f"/review/{blocked.id}")
    assert 'aria-disabled="true"' in page
    assert "you voted already in this round" in page


def test_two_candidates_stand_side_by_side_and_what_differs_is_marked(
    people: Walk, others: Walk, signed_in: SignedIn
) -> None:
    one = with_evidence(people, ReleaseState.SUBMITTED)
    other = with_evidence(people, ReleaseState.SUBMITTED, verdict=Verdict.FAIL)
    auditor = signed_in(people.auditors[0])
    page = text_of(auditor, f"/review/compare?a={one.id}&b={other.audit_job_id}")
    rows = {
        re.sub(r"<[^>]*>", "", row.split("</th>")[0]).strip(): row
        for row in re.findall(r"<tr.*?</tr>", page)
        if "</th><td>" in row
    }
    verdict = next(row for name, row in rows.items() if name.endswith("Verdict"))
    assert "differs" in verdict
    assert "PASS-EMPIRICAL" in verdict
    assert "FAIL" in verdict
    assert "differs" not in next(row for name, row in rows.items() if name.endswith("Claimed ε"))
    foreign = with_evidence(others, ReleaseState.SUBMITTED)
    text_of(auditor, f"/review/compare?a={one.id}&b={foreign.id}", status=404)
    assert one.id in text_of(auditor, f"/review/compare?a={one.id}")


def test_a_policy_is_drafted_previewed_proposed_and_voted_on(
    people: Walk, others: Walk, signed_in: SignedIn
) -> None:
    author, second, third = (signed_in(auditor) for auditor in people.auditors)
    page = text_of(author, "/policies")
    assert "Fixed limit" in page
    assert "only an auditor may" in text_of(signed_in(people.owner), "/policies")
    csrf = token_in(author.get("/policies/draft"))
    loose = author.post("/policies/draft", data={"csrf": csrf, "tiers.public.auc": "0.9"})
    assert loose.status_code == 422
    values = {"csrf": csrf, "tiers.public.auc": "0.54", "grid.depth": "quick"}
    preview = author.post("/policies/draft", data={**values, "preview": "yes"})
    assert "tightens" in preview.get_data(as_text=True)
    made = author.post("/policies/draft", data={**values, "propose": "y", "reason": "Knees."})
    address = made.headers["Location"]
    assert made.status_code == 303
    assert "you proposed it" in text_of(author, address)
    assert "Policy version 1" in text_of(second, "/review?kind=policy&mine=on")
    text_of(signed_in(others.auditors[0]), address, status=404)
    for client in (second, third):
        shown = client.get(address)
        etag = re.search(r'name="if_match" value="&#34;(\d+)&#34;"', shown.get_data(as_text=True))
        assert etag is not None
        data = {"csrf": token_in(shown), "if_match": f'"{etag[1]}"', "decision": "approve"}
        assert client.post(f"{address}/votes", data=data).status_code == 303
    page = text_of(author, "/policies")
    assert "Version 1 of your organisation" in page
    assert "auc = 0.54" in text_of(author, "/policies/in-force.toml")
    again = author.post("/policies/re-audits", data={"csrf": csrf})
    assert again.status_code == 303
    assert "Policy version 1" in text_of(third, "/review/history")


def test_a_vote_needs_a_fresh_second_factor_and_keeps_what_was_written(
    others: Walk, signed_in: SignedIn
) -> None:
    auditor, release = others.auditors[2], with_evidence(others, ReleaseState.SUBMITTED)
    with others.application.uow() as uow:
        uow.session.add(SignIn(auditor.user_id, f"{auditor.user_id}@hospital.test", uow.now()))
        uow.session.flush()
        app = second_factors.start_totp(uow, auditor)
        uow.session.flush()
        second_factors.confirm_totp(uow, auditor, code=pyotp.TOTP(app.secret).now())
        code = second_factors.make_recovery_codes(uow, auditor)[0]
    client = signed_in(auditor)
    refused = vote(client, release, "approve", reason="Looked twice.")
    assert refused.status_code == 403
    page = refused.get_data(as_text=True)
    assert "needs your second factor" in page
    assert "Looked twice.</textarea>" in page
    assert vote(client, release, "approve", reason="Yes.", factor_code="wrong").status_code == 422
    assert vote(client, release, "approve", reason="Yes.", factor_code=code).status_code == 303
    assert others.current(release).state is ReleaseState.UNDER_REVIEW


def test_a_plan_is_approved_before_it_spends_anything(people: Walk, signed_in: SignedIn) -> None:
    version = people.version(people.dataset())
    with people.application.uow() as uow:
        plan = plan_approving.request_plan_approval(
            uow,
            people.owner,
            version_id=version.id,
            purpose="Samples for teaching.",
            generator="statistics",
            config={},
            target=TARGET,
        )
    auditor = signed_in(people.auditors[0])
    assert "Plan to train statistics" in text_of(auditor, "/review?kind=plan")
    page = auditor.get(f"/plans/{plan.id}")
    assert "Samples for teaching." in page.get_data(as_text=True)
    assert "only an auditor may" in text_of(signed_in(people.owner), f"/plans/{plan.id}")
    data = {"csrf": token_in(page), "if_match": plan.etag, "decision": "approve"}
    assert auditor.post(f"/plans/{plan.id}/decision", data=data).status_code == 422  # no reason
    data["reason"] = "Small, and asked for."
    assert auditor.post(f"/plans/{plan.id}/decision", data=data).status_code == 303
    assert "Small, and asked for." in text_of(auditor, f"/plans/{plan.id}")
    assert "Plan to train statistics" in text_of(auditor, "/review/history")
