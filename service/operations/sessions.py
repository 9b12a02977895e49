"""Browsers that are signed in: opened, looked up at each request, listed, ended."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from service.domain.accounts import ALL_SCOPES, Actor, ApiKey
from service.domain.errors import NotFound, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.sign_in import PENDING_SECONDS, Method, WebSession
from service.domain.trail import TrailEvent
from service.operations.accounts import load_actor
from service.store import sign_in_tables as tables
from service.store.unit_of_work import UnitOfWork

SEEN_EVERY_SECONDS = 60
"""How often a session that is in use writes down that it is."""

KEPT_DAYS = 30
"""How long the row of a session that is over is kept."""

_sessions = tables.web_sessions


@dataclass(frozen=True)
class Origin:
    """Where a session was opened, so that its owner recognises it."""

    browser: str = ""
    address: str = ""


def open_session(
    uow: UnitOfWork,
    actor: Actor,
    *,
    method: Method,
    origin: Origin,
    is_pending: bool = False,
    factor_at: datetime | None = None,
    key_id: str | None = None,
) -> tuple[WebSession, str]:
    """Open a session; return it with the cookie's secret, which is stored nowhere.

    A pending one leads to the second step of signing in and nowhere else.
    """
    _forget_old(uow, actor.user_id)
    token = secrets.token_urlsafe(32)
    seconds = PENDING_SECONDS if is_pending else uow.settings.session_seconds
    session = WebSession(
        id=new_id("ses"),
        user_id=actor.user_id,
        digest=_digest(token),
        method=method,
        created_at=uow.now(),
        seen_at=uow.now(),
        expires_at=uow.now() + timedelta(seconds=seconds),
        is_pending=is_pending,
        key_id=key_id,
        factor_at=factor_at,
        browser=origin.browser[:100],
        address=origin.address[:64],
    )
    uow.session.add(session)
    if is_pending:
        uow.without_trail("nobody is signed in yet")
    else:
        uow.trail(
            actor,
            TrailEvent.SESSION_OPEN,
            session.id,
            method=method.value,
            second_factor=factor_at is not None,
            key=key_id,
        )
    return session, token


def find_session(uow: UnitOfWork, token: str) -> tuple[WebSession, Actor] | None:
    """Return the session of a cookie and who it acts for, or None if it is over.

    It is over when it was ended, has expired or idled, its user was disabled, or the API key that
    opened it was revoked.
    """
    wanted = sa.select(WebSession).where(_sessions.c.digest == _digest(token))
    session = uow.session.execute(wanted).scalars().first()
    if session is None or not is_open(uow, session):
        return None
    scopes = ALL_SCOPES
    if session.key_id is not None:
        key = uow.get(ApiKey, session.key_id)
        if key is None or key.revoked_at or (key.expires_at and key.expires_at <= uow.now()):
            return None
        scopes = frozenset(key.scopes)  # type: ignore[arg-type]
    try:
        return session, load_actor(uow, user_id=session.user_id, scopes=scopes)
    except PermissionDenied:
        return None


def is_open(uow: UnitOfWork, session: WebSession) -> bool:
    """Tell whether a session can still be used, as far as time goes."""
    idle = timedelta(seconds=uow.settings.session_idle_seconds)
    return (
        session.ended_at is None
        and uow.now() < session.expires_at
        and uow.now() < session.seen_at + idle
    )


def needs_touch(uow: UnitOfWork, session: WebSession) -> bool:
    """Tell whether it is time to write down again that a session is in use."""
    return uow.now() >= session.seen_at + timedelta(seconds=SEEN_EVERY_SECONDS)


def touch_session(uow: UnitOfWork, session_id: str) -> None:
    """Write down that a session is in use."""
    uow.without_trail("being there is no act")
    uow.execute_update(
        sa.update(_sessions).where(_sessions.c.id == session_id).values(seen_at=uow.now())
    )


def list_sessions(uow: UnitOfWork, actor: Actor) -> list[WebSession]:
    """Return where the actor is signed in, the latest first."""
    statement = (
        sa.select(WebSession)
        .where(
            _sessions.c.user_id == actor.user_id,
            _sessions.c.ended_at.is_(None),
            _sessions.c.is_pending.is_(False),
            _sessions.c.expires_at > uow.now(),
        )
        .order_by(_sessions.c.id.desc())
    )
    return [found for found in uow.session.execute(statement).scalars() if is_open(uow, found)]


def end_session(uow: UnitOfWork, actor: Actor, *, session_id: str) -> None:
    """End one of one's own sessions.  Raises: NotFound, for anybody else's as well."""
    session = uow.get(WebSession, session_id, lock=True)
    if session is None or session.user_id != actor.user_id:
        raise NotFound(f"No session {session_id!r} was found. Check the identifier.")
    _end(uow, actor, session)


def end_sessions(uow: UnitOfWork, actor: Actor, *, user_id: str, keep: str = "") -> int:
    """End every session of a user but one; return how many there were."""
    statement = sa.select(WebSession).where(
        _sessions.c.user_id == user_id, _sessions.c.ended_at.is_(None), _sessions.c.id != keep
    )
    found = list(uow.session.execute(statement).scalars())
    for session in found:
        _end(uow, actor, session)
    return len(found)


def confirm_factor(uow: UnitOfWork, session_id: str) -> None:
    """Note that the second factor was given just now, in this session."""
    session = uow.get(WebSession, session_id, lock=True)
    if session is not None:
        session.factor_at, session.challenge = uow.now(), None


def _forget_old(uow: UnitOfWork, user_id: str) -> None:
    """Delete a user's sessions that have been over for a month; the trail keeps that they were."""
    limit = uow.now() - timedelta(days=KEPT_DAYS)
    uow.execute_update(
        sa.delete(_sessions).where(_sessions.c.user_id == user_id, _sessions.c.expires_at < limit)
    )


def _end(uow: UnitOfWork, actor: Actor, session: WebSession) -> None:
    if session.ended_at is None:
        session.ended_at, session.challenge = uow.now(), None
        if not session.is_pending:
            uow.trail(actor, TrailEvent.SESSION_END, session.id, user=session.user_id)
        else:
            uow.without_trail("nobody was signed in yet")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
