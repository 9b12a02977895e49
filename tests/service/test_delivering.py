"""Delivery through a real SMTP server and a real HTTP receiver, on SQLite alone."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from standardwebhooks import Webhook, WebhookVerificationError

from service.config import Settings
from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.errors import IllegalTransition, InputRefused, NotFound, PermissionDenied
from service.domain.notifications import BACK_OFF, Message, MessageState
from service.domain.trail import TrailEvent
from service.embedded import pick_port
from service.operations import accounts, notifying, webhooks
from service.operations.delivering import deliver_due, sweep_notifications
from service.store import schema
from service.store.engine import connect
from service.store.instance import record_master_key
from service.store.keys import load_or_create_keys
from service.wiring import Application, build
from tests.factories import RecordingDispatcher
from workers.deliver import deliver, senders


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Receiver(BaseHTTPRequestHandler):
    """Keeps what was posted, and answers what it is told to."""

    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []
    answers: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = self.answers.pop(0) if self.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


class Inbox(MessageHandler):
    """Keeps every e-mail."""

    def __init__(self) -> None:
        super().__init__()
        self.mails = []

    def handle_message(self, message) -> None:
        self.mails.append(message)


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    Receiver.got, Receiver.answers = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    handler = Inbox()
    controller = Controller(handler, hostname="127.0.0.1", port=pick_port())
    controller.start()
    yield handler, controller.port
    controller.stop()


class Place:
    """An instance without object store: one tenant, a data owner, an operator, a collaborator."""

    def __init__(self, folder: Path, **options: object) -> None:
        settings = Settings(
            state=folder, smtp_from="kaima@hospital.org", smtp_security="none", **options
        )
        engine = connect(settings.effective_database_url)
        schema.upgrade(engine)
        record_master_key(engine, load_or_create_keys(settings.effective_master_key_file))
        engine.dispose()
        self.clock = Clock()
        built = build(settings, dispatcher=RecordingDispatcher())
        self.application: Application = replace(built, parts=replace(built.parts, clock=self.clock))
        with self.application.uow() as uow:
            tenant = accounts.create_tenant(uow, BOOTSTRAP, name="Hospital")
            uow.session.flush()
            made = {}
            for role in (Role.DATA_OWNER, Role.OPERATOR, Role.COLLABORATOR):
                user = accounts.create_user(
                    uow, BOOTSTRAP, tenant_id=tenant.id, name=role.value, roles=[role]
                )
                uow.session.flush()
                made[role] = accounts.load_actor(uow, user_id=user.id)
        self.owner, self.operator, self.collaborator = made.values()

    def told(self, actor: Actor, *, kind: str = "release.published", **options: str) -> None:
        with self.application.uow() as uow:
            uow.trail(BOOTSTRAP, TrailEvent.USER_CREATE, "test")
            notice = {"subject": "It is published", "text": "Only for you.", "link": "/releases/r1"}
            notifying.notify(uow, to=[actor.user_id], kind=kind, **(notice | options))

    def message(self) -> Message:
        with self.application.uow(read_only=True) as uow:
            statement = sa.select(Message).order_by(Message.id.desc()).limit(1)
            return uow.session.execute(statement).scalar_one()

    def webhook(self, receiver: ThreadingHTTPServer, **options: object) -> webhooks.Made:
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        with self.application.uow() as uow:
            return webhooks.create_webhook(uow, self.owner, url=url, **options)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, webhook_allowed_hosts="127.0.0.1")
    yield made
    made.application.close()


def test_an_email_arrives_with_its_text_and_no_line_of_its_subject_becomes_a_header(
    tmp_path, inbox
):
    handler, port = inbox
    place = Place(tmp_path, smtp_host="127.0.0.1", smtp_port=port)
    with place.application.uow() as uow:
        webhooks.choose_email(uow, place.owner, address="owner@hospital.org", is_on=True)
    place.told(place.owner, subject="Knees\r\nBcc: everybody@example.org")
    place.told(place.collaborator)  # chose nothing, gets none
    deliver(place.application)
    (mail,) = handler.mails
    assert (mail["To"], mail["Bcc"]) == ("owner@hospital.org", None)
    assert "Only for you." in mail.get_payload()
    assert "/releases/r1" in mail.get_payload()
    assert place.message().state is MessageState.SENT
    deliver(place.application)
    assert len(handler.mails) == 1
    with place.application.uow() as uow:
        webhooks.choose_email(uow, place.owner, address="owner@hospital.org", is_on=False)
    place.told(place.owner)
    deliver(place.application)
    assert len(handler.mails) == 1
    place.application.close()


def test_a_mail_server_that_is_away_is_tried_again_later(tmp_path, inbox):
    place = Place(tmp_path, smtp_host="127.0.0.1", smtp_port=1)
    with place.application.uow() as uow:
        webhooks.choose_email(uow, place.owner, address="owner@hospital.org", is_on=True)
    place.told(place.owner)
    deliver(place.application)
    found = place.message()
    assert (found.state, found.attempts) == (MessageState.WAITING, 1)
    assert found.next_at == place.clock.now + BACK_OFF[0]
    place.application.close()


def test_a_webhook_carries_a_signature_that_its_secret_verifies_and_no_text(place, receiver):
    made = place.webhook(receiver)
    place.told(place.owner)
    deliver(place.application)
    ((headers, body),) = Receiver.got
    document = Webhook(made.secret).verify(body, headers)
    assert document["type"] == "release.published"
    assert document["data"] == {
        "subject": "It is published",
        "link": "http://127.0.0.1:8000/releases/r1",
    }
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(made.secret).verify(body.replace(b"published", b"revoked  "), headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook("whsec_" + "A" * 43 + "=").verify(body, headers)
    old = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(made.secret).verify(body, old)


def test_a_repetition_keeps_its_id_and_is_signed_anew(place, receiver):
    place.webhook(receiver)
    Receiver.answers = [500]
    place.told(place.owner)
    deliver(place.application)
    deliver(place.application)  # not yet
    assert len(Receiver.got) == 1
    place.clock.now += BACK_OFF[0]
    deliver(place.application)
    first, second = (headers for headers, _ in Receiver.got)
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    assert place.message().state is MessageState.SENT


def test_a_redirect_is_not_followed_and_after_the_last_try_a_message_is_dead(place, receiver):
    made = place.webhook(receiver)
    Receiver.answers = [302] * 20
    place.told(place.owner)
    for pause in (*BACK_OFF, timedelta(days=30)):
        deliver(place.application)
        place.clock.now += pause
    deliver(place.application)
    assert len(Receiver.got) == len(BACK_OFF) + 1
    found = place.message()
    assert (found.state, found.problem) == (
        MessageState.DEAD,
        "the receiver answered 302; only 2xx means received",
    )
    Receiver.answers = []
    ids = {"webhook_id": made.endpoint.id, "message_id": found.id}
    with place.application.uow() as uow:
        webhooks.retry_message(uow, place.owner, **ids)
    deliver(place.application)
    assert place.message().state is MessageState.SENT
    with pytest.raises(IllegalTransition), place.application.uow() as uow:
        webhooks.retry_message(uow, place.owner, **ids)


def test_a_receiver_that_is_gone_is_not_tried_again(place, receiver):
    place.webhook(receiver)
    Receiver.answers = [410]
    place.told(place.owner)
    deliver(place.application)
    assert place.message().state is MessageState.DEAD


def test_for_a_day_after_a_rotation_both_secrets_verify_and_then_the_new_one_only(place, receiver):
    made = place.webhook(receiver)
    with place.application.uow() as uow:
        newer = webhooks.rotate_secret(uow, place.owner, webhook_id=made.endpoint.id)
    assert newer.secret != made.secret
    place.told(place.owner)
    deliver(place.application)
    headers, body = Receiver.got[-1]
    for secret in (made.secret, newer.secret):
        Webhook(secret).verify(body, headers)
    place.clock.now += timedelta(days=1, seconds=1)
    place.told(place.owner)
    deliver(place.application)
    assert len(Receiver.got[-1][0]["webhook-signature"].split(" ")) == 1


def test_a_secret_is_stored_nowhere(place, receiver):
    made = place.webhook(receiver)
    stored = b"".join(
        path.read_bytes() for path in place.application.settings.state.glob("*.sqlite3*")
    )
    assert made.secret.removeprefix("whsec_").encode() not in stored
    assert made.endpoint.url.encode() in stored


def test_a_private_receiver_that_no_operator_allowed_gets_nothing(tmp_path, receiver):
    place = Place(tmp_path)
    with pytest.raises(InputRefused, match="must be https"):
        place.webhook(receiver)
    with pytest.raises(InputRefused, match="not a public address"), place.application.uow() as uow:
        webhooks.create_webhook(uow, place.owner, url="https://169.254.169.254/latest")
    allowed = replace(place.application.settings, webhook_allowed_hosts="127.0.0.1")
    parts = replace(place.application.parts, settings=allowed)
    with replace(place.application, parts=parts).uow() as uow:
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        webhooks.create_webhook(uow, place.owner, url=url)
    place.told(place.owner)
    deliver(place.application)  # the operator has taken the host off the list meanwhile
    assert Receiver.got == []
    assert "must be https" in place.message().problem
    place.application.close()


def test_kinds_and_disabling_decide_what_is_sent(place, receiver):
    made = place.webhook(receiver, kinds=["release.revoked"])
    place.told(place.owner)
    place.told(place.owner, kind="release.revoked")
    deliver(place.application)
    assert len(Receiver.got) == 1
    place.told(place.owner, kind="release.revoked")
    with place.application.uow() as uow:
        webhooks.change_webhook(uow, place.owner, webhook_id=made.endpoint.id, enabled=False)
    deliver(place.application)
    assert len(Receiver.got) == 1


def test_webhooks_are_the_business_of_the_tenants_data_owners_and_operators(place, receiver):
    made = place.webhook(receiver)
    refused = pytest.raises(PermissionDenied, match="only a data owner or an operator")
    with refused, place.application.uow() as uow:
        webhooks.list_webhooks(uow, place.collaborator)
    stranger = replace(place.owner, tenant_id="another")
    with pytest.raises(NotFound), place.application.uow() as uow:
        webhooks.delete_webhook(uow, stranger, webhook_id=made.endpoint.id)
    with place.application.uow() as uow:
        webhooks.delete_webhook(uow, place.operator, webhook_id=made.endpoint.id)
        assert webhooks.list_webhooks(uow, place.owner) == []


def test_two_deliverers_send_a_message_once(place, receiver):
    place.webhook(receiver)
    place.told(place.owner)

    def twice(parcel) -> None:
        with place.application.uow() as uow:
            assert deliver_due(uow, sending) == 0
        real(parcel)

    sending = senders(place.application.settings)
    ((channel, real),) = sending.items()
    sending[channel] = twice
    with place.application.uow() as uow:
        assert deliver_due(uow, sending) == 1
    assert len(Receiver.got) == 1


def test_old_notices_are_forgotten(place):
    place.told(place.owner)
    with place.application.uow() as uow:
        assert sweep_notifications(uow) == 0
    place.clock.now += timedelta(days=181)
    with place.application.uow() as uow:
        assert sweep_notifications(uow) == 1
        assert json.dumps(notifying.count_unread(uow, place.owner)) == "0"
