"""The story of a release, the operator's trail, and the proofs that both hand out."""

import json
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from service.client import KaimaClient
from service.domain import journal_heads
from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.releases import Release, ReleaseState
from service.operations import accounts
from service.wiring import Application
from tests.factories import Walk

PageOf = Callable[[Actor], FlaskClient]


@pytest.fixture(scope="module")
def release(people: Walk) -> Release:
    """Return a published release that was downloaded."""
    made = people.release(ReleaseState.PUBLISHED)
    people.downloaded(made)
    return made


def test_insiders_read_the_whole_story_and_outsiders_its_public_part(
    page_of: PageOf, people: Walk, others: Walk, release: Release
) -> None:
    address = f"/releases/{release.id}/story"
    inside = page_of(people.owner).get(address).get_data(as_text=True)
    for words in ("uploaded a version", "reserved ε", "approve", "was handed a link", "Dataset"):
        assert words in inside
    assert "What the training cost" in inside
    for outsider in (people.collaborator, others.owner):
        outside = page_of(outsider).get(address).get_data(as_text=True)
        assert "published it" in outside
        for words in ("uploaded", "reserved", "opened a vote", "handed a link", "Evidence of row"):
            assert words not in outside
        assert str(release.evidence["report"]) not in outside


def test_the_proof_of_an_event_holds_and_is_handed_to_nobody_else(
    page_of: PageOf, people: Walk, others: Walk, release: Release, web_application: Application
) -> None:
    key = web_application.signing_key().public_key()
    with web_application.uow(read_only=True) as uow:
        from service.store import journal

        rows = {
            row.document["body"]["event"]: row.seq
            for row in journal.read_rows(uow.session, subject=release.id)
        }
    public, inner = rows["release:publish"], rows["release:submit"]
    for who, seq, status in (
        (people.owner, inner, 200),
        (people.collaborator, public, 200),
        (people.collaborator, inner, 404),
        (others.owner, inner, 404),
        (others.operator, inner, 200),
    ):
        answer = page_of(who).get(f"/journal/proofs/{seq}")
        assert answer.status_code == status
        if status == 200:
            proof = json.loads(answer.data)
            journal_heads.check(proof, key=key)
            assert (proof["row"] is None) == (who is others.operator)
            assert "attachment" in answer.headers["Content-Disposition"]


def test_a_vote_is_not_in_the_story_before_both_are_in(page_of: PageOf, people: Walk) -> None:
    voted = people.release(ReleaseState.UNDER_REVIEW)
    address = f"/releases/{voted.id}/story"
    for who in (people.owner, people.auditors[1]):
        assert "voted, sealed" not in page_of(who).get(address).get_data(as_text=True)
    assert "voted, sealed" in page_of(people.auditors[0]).get(address).get_data(as_text=True)
    people.voted(people.current(voted), people.auditors[1])
    assert "opened a vote" in page_of(people.owner).get(address).get_data(as_text=True)


def test_the_operator_filters_and_pages_through_the_trail(
    page_of: PageOf, people: Walk, release: Release
) -> None:
    pages = page_of(people.operator)
    first = pages.get("/trail").get_data(as_text=True)
    assert 'rel="next"' in first
    about = pages.get(f"/trail?subject={release.id}&event=release:publish").get_data(as_text=True)
    assert about.count("<time") == 1
    assert "No row fits" in pages.get("/trail?actor=usr_nobody").get_data(as_text=True)
    assert "No row fits" in pages.get("/trail?since=2999-01-01").get_data(as_text=True)
    assert "No row fits" in pages.get("/trail?until=1999-01-01").get_data(as_text=True)
    for wrong in ("before=x", "since=31.1.2026", "subject='--"):
        assert pages.get(f"/trail?{wrong}", headers={"Accept": "text/html"}).status_code == 422
    assert page_of(people.owner).get("/trail").status_code == 403


def test_the_api_hands_out_head_proof_and_growth(
    people: Walk, release: Release, client_of: Callable[..., object], web_application: Application
) -> None:
    client = client_of(people.collaborator)
    key = web_application.signing_key().public_key()
    kept = client.journal_head()
    people.dataset()
    growth = client.prove_growth(kept)
    assert "unchanged" in journal_heads.check(growth, key=key).sentence
    event = next(iter(client.trail(release.id)))
    proof = client.prove_row(event.sequence).model_dump()
    assert "release:publish" in journal_heads.check(proof, key=key).sentence


def test_an_operator_who_may_vote_does_not_read_of_votes_before_both_are_in(
    page_of: PageOf, client_of: Callable[[Actor], KaimaClient], people: Walk
) -> None:
    with people.application.uow() as uow:
        user = accounts.create_user(
            uow,
            BOOTSTRAP,
            tenant_id=people.tenant_id,
            name="operator and auditor",
            roles=[Role.OPERATOR, Role.AUDITOR],
        )
        uow.session.flush()
        both = accounts.load_actor(uow, user_id=user.id)
    release = people.release(ReleaseState.UNDER_REVIEW)
    path = f"/trail?subject={release.id}"

    def votes_read(who: Actor) -> int:
        with client_of(who) as client:
            rows = [row for row in client.journal() if row.action == "release:review"]
        return sum(row.subject_id == release.id for row in rows)

    assert votes_read(both) == 0
    assert votes_read(people.operator) == 1, "who cannot vote reads that somebody has"
    assert "voted, sealed" not in page_of(both).get(path).text
    people.voted(release, people.auditors[1])
    assert votes_read(both) == 2
    assert "voted, sealed" in page_of(both).get(path).text
