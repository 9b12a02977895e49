"""The page Notices: what waits for one, what of it comes by e-mail, and the tenant's webhooks."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from service.client import KaimaClient
from service.domain.accounts import Actor, User
from service.domain.notifications import Channel, MessageState
from service.operations import delivering
from service.operations.notifying import notify
from service.store import notification_tables, sign_in_tables
from tests.factories import Walk

PageOf = Callable[[Actor], FlaskClient]
HOOK = "https://receiver.example.org/kaima"


def tell(people: Walk, who: Actor, kind: str, subject: str, *, link: str = "/releases") -> None:
    with people.application.uow() as uow:
        uow.without_trail("a notice of a test")
        notify(uow, to=[who.user_id], kind=kind, subject=subject, text="Read it.", link=link)


def send(browser: FlaskClient, path: str, **fields: object) -> tuple[int, str]:
    answer = browser.post(path, data={"csrf": "right", **fields})
    return answer.status_code, answer.headers.get("Location", "") or answer.get_data(as_text=True)


def mail_to(people: Walk, address: str) -> list[str]:
    outbox = notification_tables.outbox.c
    with people.application.uow(read_only=True) as uow:
        statement = sa.select(outbox.kind).where(
            outbox.target == address, outbox.channel == Channel.EMAIL
        )
        return list(uow.session.execute(statement.order_by(outbox.id)).scalars())


def test_a_notice_is_new_until_it_is_opened_and_leads_where_it_says(
    page_of: PageOf, people: Walk
) -> None:
    browser, who = page_of(people.collaborator), people.collaborator
    tell(people, who, "access.granted", "Granted until May", link="/access/mine")
    tell(people, who, "release.published", "Knees <b>1.0.0</b> is published")
    page = browser.get("/notices").text
    assert "Knees &lt;b&gt;1.0.0&lt;/b&gt; is published" in page
    assert 'aria-label="2 unread"' in browser.get("/releases").text
    granted = page[: page.index("Granted until May")].count('name="notice"')
    notice = re.findall(r'name="notice" value="(\w+)"', page)[granted]
    assert send(browser, "/notices/read", notice=notice) == (303, "/access/mine")
    unread = browser.get("/notices?show=unread").text
    assert "Granted until May" not in unread
    assert "is published" in unread
    stranger = page_of(people.owner)
    assert send(stranger, "/notices/read", notice=notice) == (303, "/notices")
    assert send(browser, "/notices/read") == (303, "/notices")
    assert "You have read everything" in browser.get("/notices?show=unread").text


def test_whoever_mutes_a_subject_gets_no_mail_about_it(
    page_of: PageOf, people: Walk, client_of: Callable[[Actor], KaimaClient]
) -> None:
    who, browser = people.auditors[1], page_of(people.auditors[1])
    status, text = send(
        browser, "/notices/email", address="a@hospital.org", on="yes", subjects=["review", "policy"]
    )
    assert (status, "Your choice is kept" in text) == (200, True)
    for kind in ("review.requested", "study.open", "policy.proposed"):
        tell(people, who, kind, "Something")
    assert mail_to(people, "a@hospital.org") == ["review.requested", "policy.proposed"]
    with client_of(who) as client:
        assert "study" in client.email_choice().muted
        assert client.choose_email("a@hospital.org", on=True, muted=[]).muted == []
        assert client.choose_email("a@hospital.org", on=False).muted == [], "it stays as it was"
    status, text = send(browser, "/notices/email", address="no address", on="yes")
    assert (status, "is not an e-mail address" in text) == (422, True)


def test_an_owner_makes_tests_rotates_and_stops_a_webhook(page_of: PageOf, people: Walk) -> None:
    browser = page_of(people.owner)
    status, page = send(browser, "/notices/webhooks", url=HOOK, kinds="release.published")
    assert status == 200
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", page)
    hook = re.search(r"/notices/webhooks/(whk_\w+)/test", page)
    assert secret is not None
    assert hook is not None
    path = f"/notices/webhooks/{hook[1]}"
    assert secret[0] not in browser.get(path).text, "it is shown once"
    assert send(browser, f"{path}/test") == (303, path)
    assert "webhook.test" in browser.get(path).text
    status, page = send(browser, f"{path}/rotate")
    assert status == 200
    assert "whsec_" in page
    assert secret[0] not in page
    for act, shown in (("stop", True), ("start", False)):
        assert send(browser, f"{path}/{act}") == (303, path)
        assert ("Start it again" in browser.get(path).text) is shown
    assert send(browser, f"{path}/sing")[0] == 400
    assert send(browser, f"{path}/change", url="https://10.0.0.1/x")[0] == 422
    assert send(browser, f"{path}/delete") == (303, "/notices/webhooks")
    assert browser.get(path).status_code == 404


def test_a_dead_message_is_tried_again(page_of: PageOf, people: Walk) -> None:
    browser = page_of(people.owner)
    _, page = send(browser, "/notices/webhooks", url=HOOK)
    hook = re.search(r"/notices/webhooks/(whk_\w+)/test", page)
    assert hook is not None
    path = f"/notices/webhooks/{hook[1]}"
    send(browser, f"{path}/test")

    def gone(parcel: delivering.Parcel) -> None:
        raise delivering.NotDelivered("the receiver said that it is gone", for_good=True)

    with people.application.uow() as uow:
        delivering.deliver_due(uow, {Channel.WEBHOOK: gone})
    page = browser.get(path).text
    assert "the receiver said that it is gone" in page
    retry = re.search(rf"{path}/messages/(msg_\w+)/retry", page)
    assert retry is not None
    assert send(browser, retry[0]) == (303, path)
    outbox = notification_tables.outbox.c
    with people.application.uow(read_only=True) as uow:
        state = uow.session.execute(sa.select(outbox.state).where(outbox.id == retry[1])).scalar()
    assert state is MessageState.WAITING
    send(browser, f"{path}/delete")


@pytest.mark.parametrize("who", ["auditor", "collaborator"])
def test_webhooks_concern_owners_and_operators_only(
    page_of: PageOf, people: Walk, who: str
) -> None:
    browser = page_of(people.auditors[0] if who == "auditor" else people.collaborator)
    assert "/notices/webhooks" not in browser.get("/notices").text
    assert browser.get("/notices/webhooks").status_code == 403


def test_a_secret_is_shown_to_a_fresh_factor_only(page_of: PageOf, people: Walk) -> None:
    """A user of a role that needs a factor, whose factor was given long ago."""
    who = people.auditors[2]
    with people.application.uow() as uow:
        uow.without_trail("a role for a test")

        user = uow.get(User, who.user_id)
        assert user is not None
        user.roles = ["auditor", "data_owner"]
    browser = page_of(who)
    sessions = sign_in_tables.web_sessions
    with people.application.uow() as uow:
        uow.without_trail("time passes")
        uow.execute_update(
            sa.update(sessions)
            .where(sessions.c.user_id == who.user_id)
            .values(factor_at=uow.now() - timedelta(minutes=16))
        )
    status, text = send(browser, "/notices/webhooks", url=HOOK)
    assert status == 403
    assert "second factor" in text
    assert "whsec_" not in text
