"""A tenant's webhooks: where notices about its people are sent, signed with a secret of their own.

The secret follows from the instance's master key, the endpoint and a number that rotation raises, so
it is stored nowhere; it is shown when it is made. For a day after a rotation both secrets sign.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from service.domain.accounts import Actor, Scope
from service.domain.errors import Conflict, InputRefused, NotFound
from service.domain.identifiers import new_id
from service.domain.notifications import (
    SUBJECTS,
    Channel,
    EmailChoice,
    Message,
    MessageState,
    WebhookEndpoint,
)
from service.domain.permissions import check_scope
from service.domain.review_permissions import check_may_manage_webhooks
from service.domain.trail import TrailEvent
from service.outbound import DestinationRefused, check_url
from service.store import notification_tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

MOST_OF_A_TENANT = 20
_BOTH_SECRETS = timedelta(days=1)
_KIND = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_ADDRESS = re.compile(r"[^@\s,;:<>\"\\]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_endpoints = notification_tables.webhook_endpoints
_outbox = notification_tables.outbox


@dataclass(frozen=True)
class Made:
    """An endpoint, and its secret, which is shown this once."""

    endpoint: WebhookEndpoint
    secret: str


def create_webhook(uow: UnitOfWork, actor: Actor, *, url: str, kinds: Sequence[str] = ()) -> Made:
    """Add an endpoint of the actor's tenant; no kinds means every notice.

    Raises: InputRefused for a URL that is not public https; Conflict beyond the limit.
    """
    check_may_manage_webhooks(actor)
    _check_url(uow, url)
    count = sa.select(sa.func.count()).where(_endpoints.c.tenant_id == actor.tenant_id)
    if int(uow.session.execute(count).scalar_one()) >= MOST_OF_A_TENANT:
        raise Conflict(
            f"The webhook was refused: this tenant has {MOST_OF_A_TENANT}. Delete one first."
        )
    endpoint = WebhookEndpoint(
        new_id("whk"), actor.tenant_id, url, actor.user_id, uow.now(), _kinds(kinds)
    )
    uow.session.add(endpoint)
    uow.trail(actor, TrailEvent.WEBHOOK_CREATE, endpoint.id, url=url, kinds=endpoint.kinds)
    return Made(endpoint, _secret(uow, endpoint, endpoint.secret_number))


def list_webhooks(uow: UnitOfWork, actor: Actor) -> list[WebhookEndpoint]:
    """Return the endpoints of the actor's tenant, oldest first, without their secrets."""
    check_may_manage_webhooks(actor)
    statement = sa.select(WebhookEndpoint).where(_endpoints.c.tenant_id == actor.tenant_id)
    return list(uow.session.execute(statement.order_by(_endpoints.c.id)).scalars())


def get_webhook(uow: UnitOfWork, actor: Actor, *, webhook_id: str) -> WebhookEndpoint:
    """Return one endpoint of the actor's tenant.  Raises: NotFound, PermissionDenied."""
    return _own(uow, actor, webhook_id, lock=False)


def change_webhook(
    uow: UnitOfWork,
    actor: Actor,
    *,
    webhook_id: str,
    url: str | None = None,
    kinds: Sequence[str] | None = None,
    enabled: bool | None = None,
) -> WebhookEndpoint:
    """Change where and what is sent, or stop and start it.  Raises: NotFound, InputRefused."""
    endpoint = _own(uow, actor, webhook_id)
    if url is not None:
        _check_url(uow, url)
        endpoint.url = url
    if kinds is not None:
        endpoint.kinds = _kinds(kinds)
    if enabled is not None:
        endpoint.disabled_at = None if enabled else uow.now()
    uow.trail(
        actor,
        TrailEvent.WEBHOOK_CHANGE,
        endpoint.id,
        url=endpoint.url,
        kinds=endpoint.kinds,
        enabled=endpoint.disabled_at is None,
    )
    return endpoint


def rotate_secret(uow: UnitOfWork, actor: Actor, *, webhook_id: str) -> Made:
    """Make another secret; the old one signs as well for a day."""
    endpoint = _own(uow, actor, webhook_id)
    endpoint.secret_number += 1
    endpoint.rotated_at = uow.now()
    uow.trail(actor, TrailEvent.WEBHOOK_ROTATE, endpoint.id, number=endpoint.secret_number)
    return Made(endpoint, _secret(uow, endpoint, endpoint.secret_number))


def delete_webhook(uow: UnitOfWork, actor: Actor, *, webhook_id: str) -> None:
    """Forget an endpoint; what waits for it is not sent.  Raises: NotFound."""
    endpoint = _own(uow, actor, webhook_id)
    uow.trail(actor, TrailEvent.WEBHOOK_DELETE, endpoint.id, url=endpoint.url)
    uow.session.delete(endpoint)


def send_test(uow: UnitOfWork, actor: Actor, *, webhook_id: str) -> Message:
    """Queue a message of kind "webhook.test" to one endpoint."""
    endpoint = _own(uow, actor, webhook_id)
    now = uow.now()
    body = {"subject": "A test of this webhook", "link": uow.settings.public_url}
    message = Message(new_id("msg"), Channel.WEBHOOK, endpoint.id, "webhook.test", body, now, now)
    uow.session.add(message)
    uow.trail(actor, TrailEvent.WEBHOOK_RETRY, endpoint.id, message=message.id)
    return message


def list_messages(
    uow: UnitOfWork, actor: Actor, *, webhook_id: str, cursor: str | None = None, limit: int = 50
) -> Page[Message]:
    """Return what was sent to one endpoint or waits for it, newest first."""
    endpoint = _own(uow, actor, webhook_id, lock=False)
    statement = sa.select(Message).where(
        _outbox.c.target == endpoint.id, _outbox.c.channel == Channel.WEBHOOK
    )
    return fetch_page(uow.session, statement, id_column=_outbox.c.id, cursor=cursor, limit=limit)


def retry_message(uow: UnitOfWork, actor: Actor, *, webhook_id: str, message_id: str) -> Message:
    """Give a dead message all its tries again.  Raises: NotFound, IllegalTransition."""
    endpoint = _own(uow, actor, webhook_id)
    message = uow.get(Message, message_id, lock=True)
    if message is None or message.target != endpoint.id:
        raise NotFound(f"No message {message_id!r} was found. Check the identifier.")
    message.move_to(MessageState.WAITING)
    message.attempts, message.next_at, message.ended_at = 0, uow.now(), None
    uow.trail(actor, TrailEvent.WEBHOOK_RETRY, endpoint.id, message=message.id)
    return message


def choose_email(
    uow: UnitOfWork,
    actor: Actor,
    *,
    address: str,
    is_on: bool,
    muted: Sequence[str] | None = None,
) -> EmailChoice:
    """Say where the actor's own notices go by e-mail, and whether they want them.

    `muted` are the subjects of which they want none; without it, that stays as it is.
    Raises: InputRefused for what is not an address, or no subject.
    """
    check_scope(actor, "Choosing notifications", Scope.READ)
    address = address.strip()
    if (is_on or address) and (len(address) > 320 or not _ADDRESS.fullmatch(address)):
        raise InputRefused(
            "The address was refused: it is not an e-mail address such as name@hospital.org.",
        )
    unknown = sorted(set(muted or ()) - set(SUBJECTS))
    if unknown:
        raise InputRefused(
            f"The choice was refused: {unknown[0][:64]!r} is no subject of notices. "
            f"Choose from: {', '.join(SUBJECTS)}.",
            value=unknown,
        )
    choice = uow.get(EmailChoice, actor.user_id)
    if choice is None:
        choice = EmailChoice(actor.user_id, address, is_on)
        uow.session.add(choice)
    choice.address, choice.is_on = address, is_on
    if muted is not None:
        choice.muted = sorted(set(muted))
    uow.without_trail("a person's choice of how to be told; it changes nothing that is decided")
    return choice


def email_choice(uow: UnitOfWork, actor: Actor) -> EmailChoice:
    """Return the actor's choice; off, without an address, before they made one."""
    check_scope(actor, "Choosing notifications", Scope.READ)
    return uow.get(EmailChoice, actor.user_id) or EmailChoice(actor.user_id, "", is_on=False)


def secrets_of(uow: UnitOfWork, endpoint: WebhookEndpoint) -> list[str]:
    """Return the secrets that sign now: the newest, and for a day the one before."""
    numbers = [endpoint.secret_number]
    if endpoint.rotated_at is not None and uow.now() < endpoint.rotated_at + _BOTH_SECRETS:
        numbers.append(endpoint.secret_number - 1)
    return [_secret(uow, endpoint, number) for number in numbers]


def _secret(uow: UnitOfWork, endpoint: WebhookEndpoint, number: int) -> str:
    key = uow.keys.webhook_key(f"{endpoint.id}/{number}")
    return "whsec_" + base64.b64encode(key).decode()


def _own(uow: UnitOfWork, actor: Actor, webhook_id: str, *, lock: bool = True) -> WebhookEndpoint:
    endpoint = uow.get(WebhookEndpoint, webhook_id, lock=lock)
    if endpoint is None or endpoint.tenant_id != actor.tenant_id:
        raise NotFound(f"No webhook {webhook_id!r} was found. Check the identifier.")
    check_may_manage_webhooks(actor)
    return endpoint


def _check_url(uow: UnitOfWork, url: str) -> None:
    try:
        check_url(url, allowed_hosts=allowed_hosts(uow.settings.webhook_allowed_hosts))
    except DestinationRefused as error:
        raise InputRefused(str(error)) from error


def allowed_hosts(setting: str) -> frozenset[str]:
    """Return the hosts that an operator allows, from a list with commas or spaces."""
    return frozenset(setting.lower().replace(",", " ").split())


def _kinds(kinds: Sequence[str]) -> list[str]:
    found = sorted(set(kinds))
    wrong = [kind[:64] for kind in found if not _KIND.fullmatch(kind)]
    if wrong or len(found) > 50:
        raise InputRefused(
            f"The kinds were refused: {wrong or len(found)}. Give at most 50 words such as "
            "release.published.",
            value=wrong,
        )
    return found
