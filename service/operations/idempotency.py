"""Answer a repeated request with the first answer, stored in the transaction of its effect.

Two requests with one key that run at once meet at the key's row: the second waits for the first
and then gets its answer; if it waited for too long, it is refused with 409.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from service.domain.accounts import Actor
from service.domain.errors import Conflict, InputRefused
from service.store import tables
from service.store.unit_of_work import UnitOfWork

_keys = tables.idempotency_keys
_KEY_LIMIT = 255
_WAIT_MILLISECONDS = 2000


@dataclass(frozen=True)
class Replay:
    """The answer that was given before."""

    status: int
    headers: dict[str, str]
    body: Any


def begin(
    uow: UnitOfWork, actor: Actor, *, key: str, method: str, path: str, request: bytes
) -> Replay | None:
    """Take the key for this request, or return the answer that it already has.

    Call it first in the transaction of the operation, and `finish` last.
    Raises: InputRefused (422) if the key came with another request; Conflict (409) while the first
    request with it is still being answered.
    """
    if not 1 <= len(key) <= _KEY_LIMIT or not key.isprintable():
        raise InputRefused(
            f"The Idempotency-Key was refused: give 1 to {_KEY_LIMIT} printable characters.",
            value=len(key),
            limit=_KEY_LIMIT,
        )
    names = {"user_id": actor.user_id, "key": key, "method": method, "path": path}
    mine = _mine(names)
    expired = uow.now() - timedelta(seconds=uow.settings.idempotency_seconds)
    uow.execute_update(sa.delete(_keys).where(*mine, _keys.c.created_at < expired))
    digest = hashlib.sha256(request).hexdigest()
    found = uow.session.execute(sa.select(_keys).where(*mine)).first()
    if found is None and _take(uow, names, digest):
        return None
    found = found or uow.session.execute(sa.select(_keys).where(*mine)).first()
    if found is None or found.status is None:
        raise _in_flight()
    if found.request_digest != digest:
        raise InputRefused(
            "The request was refused: its Idempotency-Key was used for another request. "
            "Choose a new key."
        )
    uow.without_trail("an answer was repeated")
    return Replay(found.status, found.headers, found.body)


def finish(
    uow: UnitOfWork,
    actor: Actor,
    *,
    key: str,
    method: str,
    path: str,
    status: int,
    headers: dict[str, str],
    body: Any,
) -> None:
    """Store the answer beside the effect; both are committed, or neither."""
    uow.execute_update(
        sa.update(_keys)
        .where(*_mine({"user_id": actor.user_id, "key": key, "method": method, "path": path}))
        .values(status=status, headers=headers, body=body)
    )


def _take(uow: UnitOfWork, mine: dict[str, str], digest: str) -> bool:
    """Insert the key's row; return False if somebody else's became visible meanwhile."""
    if uow.session.get_bind().dialect.name == "postgresql":
        uow.session.execute(sa.text(f"SET LOCAL lock_timeout = {_WAIT_MILLISECONDS}"))
    row = {**mine, "request_digest": digest, "created_at": uow.now(), "headers": {}}
    try:
        with uow.session.begin_nested():
            uow.session.execute(sa.insert(_keys).values(**row))
    except IntegrityError:
        return False
    except OperationalError as error:
        raise _in_flight() from error
    finally:
        if uow.session.get_bind().dialect.name == "postgresql":
            uow.session.execute(sa.text("SET LOCAL lock_timeout = 0"))
    return True


def _mine(names: dict[str, str]) -> list[sa.ColumnElement[bool]]:
    return [_keys.c[name] == value for name, value in names.items()]


def _in_flight() -> Conflict:
    return Conflict(
        "The request was refused: an earlier one with this Idempotency-Key is still being "
        "answered. Retry in a moment."
    )
