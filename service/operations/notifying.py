"""Tell persons that something waits for them: one notice each, in the caller's transaction.

The notice is shown when they sign in. Whoever chose e-mail gets a message in the outbox as well,
and so does each webhook of their tenants; `operations.delivering` sends those after the commit.
A webhook carries kind, subject and link but not the text: its receiver is a program of a tenant,
which may show it to anybody there.
"""

import re
from collections.abc import Iterable

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, Role, Scope, User
from service.domain.identifiers import new_id
from service.domain.notifications import (
    Channel,
    EmailChoice,
    Message,
    Notification,
    WebhookEndpoint,
)
from service.store import notification_tables, sign_in_tables, tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

SUBJECT_LIMIT, TEXT_LIMIT = 200, 4000
_KIND = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_own = notification_tables.notifications


def notify(
    uow: UnitOfWork,
    *,
    to: Iterable[str],
    kind: str,
    subject: str,
    text: str,
    link: str,
    everywhere: bool = False,
) -> list[Notification]:
    """Leave a notice for each user named; whoever is unknown or disabled gets none.

    `everywhere` is for what may be an attack on an account: it goes to every address that is known
    of its user as well, whatever they chose. `kind` is a dotted word such as "release.returned"; `link` a path of the pages. Nothing that was
    measured on real records belongs into `subject` or `text`, nor a vote that is still hidden.
    Part of the caller's transaction: no notice without the change that it tells of.
    """
    if not _KIND.fullmatch(kind) or not link.startswith("/"):
        raise ValueError(f"a notice of kind {kind!r} with link {link!r} was refused")
    subject, text = _cut(subject, SUBJECT_LIMIT), _cut(text, TEXT_LIMIT)
    users = _known(uow, to)
    made = [
        Notification(new_id("ntf"), user.id, kind, subject, text, link, uow.now()) for user in users
    ]
    uow.session.add_all(made)
    body = {"subject": subject, "text": text, "link": uow.settings.public_url.rstrip("/") + link}
    for address in _addresses(uow, users, kind=kind, everywhere=everywhere):
        _post(uow, Channel.EMAIL, address, kind=kind, body=body)
    for endpoint in _endpoints(uow, {user.tenant_id for user in users}):
        if endpoint.wants(kind):
            shown = {name: body[name] for name in ("subject", "link")}
            _post(uow, Channel.WEBHOOK, endpoint.id, kind=kind, body=shown)
    return made


def users_with_role(uow: UnitOfWork, tenant_id: str, role: Role) -> list[str]:
    """Return the ids of a tenant's users who hold a role and are not disabled."""
    statement = sa.select(User).where(
        tables.users.c.tenant_id == tenant_id, tables.users.c.disabled_at.is_(None)
    )
    found = uow.session.execute(statement.order_by(tables.users.c.id)).scalars()
    return [user.id for user in found if role.value in user.roles]


def list_notifications(
    uow: UnitOfWork,
    actor: Actor,
    *,
    unread_only: bool = False,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Notification]:
    """Return the actor's own notices, newest first."""
    permissions.check_scope(actor, "Reading notifications", Scope.READ)
    statement = sa.select(Notification).where(_own.c.user_id == actor.user_id)
    if unread_only:
        statement = statement.where(_own.c.read_at.is_(None))
    return fetch_page(uow.session, statement, id_column=_own.c.id, cursor=cursor, limit=limit)


def find_own(uow: UnitOfWork, actor: Actor, notification_id: str) -> Notification | None:
    """Return one of the actor's own notices."""
    found = uow.get(Notification, notification_id)
    return found if found is not None and found.user_id == actor.user_id else None


def count_unread(uow: UnitOfWork, actor: Actor) -> int:
    """Return how many notices the actor has not read."""
    statement = (
        sa.select(sa.func.count())
        .select_from(_own)
        .where(_own.c.user_id == actor.user_id, _own.c.read_at.is_(None))
    )
    return int(uow.session.execute(statement).scalar_one())


def mark_read(uow: UnitOfWork, actor: Actor, *, notification_ids: Iterable[str] = ()) -> int:
    """Mark the actor's own notices as read, all of them if none is named; return how many were."""
    permissions.check_scope(actor, "Reading notifications", Scope.READ)
    named = list(notification_ids)
    statement = sa.update(_own).where(_own.c.user_id == actor.user_id, _own.c.read_at.is_(None))
    if named:
        statement = statement.where(_own.c.id.in_(named))
    uow.without_trail("a person's reading of notices about events that are in the trail")
    return uow.execute_update(statement.values(read_at=uow.now()))


def _cut(text: str, limit: int) -> str:
    """Return text that fits its column; a name in it may be as long as names get."""
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _known(uow: UnitOfWork, to: Iterable[str]) -> list[User]:
    named = sorted(set(to))
    if not named:
        return []
    statement = sa.select(User).where(
        tables.users.c.id.in_(named), tables.users.c.disabled_at.is_(None)
    )
    return list(uow.session.execute(statement.order_by(tables.users.c.id)).scalars())


def _addresses(uow: UnitOfWork, users: list[User], *, kind: str, everywhere: bool) -> list[str]:
    """Return the addresses that a notice goes to: those of who wants it, or every one known."""
    ids = [user.id for user in users]
    choices = notification_tables.email_choices
    statement = sa.select(EmailChoice).where(choices.c.user_id.in_(ids))
    chosen = list(uow.session.execute(statement.order_by(choices.c.user_id)).scalars())
    if not everywhere:
        return [choice.address for choice in chosen if choice.wants(kind)]
    names = sa.select(sign_in_tables.sign_ins.c.sign_in_name).where(
        sign_in_tables.sign_ins.c.user_id.in_(ids)
    )
    known = {choice.address for choice in chosen if choice.address}
    known |= {name for name in uow.session.execute(names).scalars() if "@" in name}
    return sorted(known)


def _endpoints(uow: UnitOfWork, tenant_ids: set[str]) -> list[WebhookEndpoint]:
    endpoints = notification_tables.webhook_endpoints
    statement = sa.select(WebhookEndpoint).where(
        endpoints.c.tenant_id.in_(sorted(tenant_ids)), endpoints.c.disabled_at.is_(None)
    )
    return list(uow.session.execute(statement.order_by(endpoints.c.id)).scalars())


def _post(
    uow: UnitOfWork, channel: Channel, target: str, *, kind: str, body: dict[str, str]
) -> None:
    now = uow.now()
    uow.session.add(Message(new_id("msg"), channel, target, kind, dict(body), now, now))
