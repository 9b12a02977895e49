"""Send what the outbox holds: e-mail and webhooks, each tried again with growing pauses.

A message is claimed by moving its next try into the future, in a transaction of its own; it is sent
with no transaction open; the outcome is then recorded. So a message may be sent twice after a crash,
never lost: a webhook keeps its id, by which its receiver tells a repetition. Nothing here opens a
connection; `workers.deliver` hands in what does.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from standardwebhooks import Webhook

from service.domain.notifications import BACK_OFF, Channel, Message, MessageState, WebhookEndpoint
from service.operations.webhooks import secrets_of
from service.store import notification_tables
from service.store.unit_of_work import UnitOfWork

MOST_AT_ONCE = 50
_CLAIM = timedelta(seconds=60)
"""How long a message that is being sent is left alone by others; sending takes less."""
_PROBLEM_LIMIT = 500
_outbox = notification_tables.outbox


@dataclass(frozen=True)
class Parcel:
    """One message as it is sent. `headers` is empty for e-mail."""

    channel: Channel
    target: str
    body: Mapping[str, str]
    content: bytes = b""
    headers: Mapping[str, str] | None = None


class NotDelivered(Exception):
    """A message did not arrive; the text says why, `for_good` that trying again is useless."""

    def __init__(self, sentence: str, *, for_good: bool = False) -> None:
        super().__init__(sentence)
        self.for_good = for_good


Sender = Callable[[Parcel], None]
"""Sends one message.  Raises: NotDelivered."""


def deliver_due(uow: UnitOfWork, senders: Mapping[Channel, Sender]) -> int:
    """Try every message whose time has come once; return how many were tried.

    A channel without a sender waits: nobody has configured it yet.
    """
    tried = 0
    for message_id in _due(uow, senders):
        parcel = _claim(uow, message_id)
        if parcel is None:
            continue
        problem, for_good = "", False
        try:
            senders[parcel.channel](parcel)
        except NotDelivered as error:
            problem, for_good = str(error) or "it was not delivered", error.for_good
        _record(uow, message_id, problem=problem, for_good=for_good)
        tried += 1
    return tried


def sweep_notifications(uow: UnitOfWork) -> int:
    """Delete notices and ended messages that are older than the retention; return how many."""
    before = uow.now() - timedelta(days=uow.settings.notification_retention_days)
    own = notification_tables.notifications
    ended = sa.and_(_outbox.c.created_at < before, _outbox.c.state != MessageState.WAITING)
    # Asked first, because this runs every few seconds and writing takes SQLite's one lock.
    is_old = sa.or_(sa.exists().where(own.c.created_at < before), sa.exists().where(ended))
    if not uow.session.execute(sa.select(is_old)).scalar_one():
        uow.commit()
        return 0
    uow.without_trail("notices that nobody needs any more; what they told of is in the trail")
    gone = uow.execute_update(sa.delete(own).where(own.c.created_at < before))
    gone += uow.execute_update(sa.delete(_outbox).where(ended))
    uow.commit()
    return gone


def signed_headers(
    message_id: str, content: bytes, *, secrets: list[str], at: datetime
) -> dict[str, str]:
    """Return the headers of the Standard Webhooks specification, one signature for each secret."""
    text = content.decode()
    signatures = [Webhook(secret).sign(message_id, at, text) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Kaima-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _due(uow: UnitOfWork, senders: Mapping[Channel, Sender]) -> list[str]:
    statement = (
        sa.select(_outbox.c.id)
        .where(
            _outbox.c.state == MessageState.WAITING,
            _outbox.c.next_at <= uow.now(),
            _outbox.c.channel.in_(list(senders)),
        )
        .order_by(_outbox.c.next_at, _outbox.c.id)
        .limit(MOST_AT_ONCE)
    )
    found = list(uow.session.execute(statement).scalars())
    uow.commit()
    return found


def _claim(uow: UnitOfWork, message_id: str) -> Parcel | None:
    """Take one message, or nothing if another process has it; commits."""
    message = uow.get(Message, message_id, lock=True)
    is_due = message is not None and message.state is MessageState.WAITING
    if message is None or not is_due or message.next_at > uow.now():
        uow.rollback()
        return None
    uow.without_trail("a message on its way; what it tells of is in the trail")
    message.attempts += 1
    message.next_at = uow.now() + _CLAIM
    parcel = _parcel(uow, message)
    if parcel is None:
        _end(uow, message, MessageState.DEAD, problem="its webhook was deleted or disabled")
    uow.commit()
    return parcel


def _parcel(uow: UnitOfWork, message: Message) -> Parcel | None:
    if message.channel is Channel.EMAIL:
        return Parcel(message.channel, message.target, message.body)
    endpoint = uow.get(WebhookEndpoint, message.target)
    if endpoint is None or endpoint.disabled_at is not None:
        return None
    content = json.dumps(
        {
            "type": message.kind,
            "timestamp": message.created_at.isoformat(),
            "data": message.body,
        },
        separators=(",", ":"),
    ).encode()
    # The moment of the try, not of the event: a receiver refuses what was signed minutes ago.
    secrets = secrets_of(uow, endpoint)
    headers = signed_headers(message.id, content, secrets=secrets, at=uow.now())
    return Parcel(message.channel, endpoint.url, message.body, content, headers)


def _record(uow: UnitOfWork, message_id: str, *, problem: str, for_good: bool) -> None:
    """Write down what became of a try; commits."""
    message = uow.get(Message, message_id, lock=True)
    if message is None or message.state is not MessageState.WAITING:
        uow.rollback()
        return
    uow.without_trail("a message on its way; what it tells of is in the trail")
    if not problem:
        _end(uow, message, MessageState.SENT, problem="")
    elif for_good or message.attempts > len(BACK_OFF):
        _end(uow, message, MessageState.DEAD, problem=problem)
    else:
        message.problem = problem[:_PROBLEM_LIMIT]
        message.next_at = uow.now() + BACK_OFF[message.attempts - 1]
    uow.commit()


def _end(uow: UnitOfWork, message: Message, state: MessageState, *, problem: str) -> None:
    message.move_to(state)
    message.problem, message.ended_at = problem[:_PROBLEM_LIMIT], uow.now()
