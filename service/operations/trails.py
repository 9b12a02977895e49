"""The operator's view of the whole trail: newest first, filtered, a page at a time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor
from service.operations.blinding import hidden_positions
from service.operations.journal import without_digests
from service.store import journal, tables
from service.store.unit_of_work import UnitOfWork

_columns = tables.journal.c


@dataclass(frozen=True)
class TrailFilter:
    """Which rows: those that fit everything that is named."""

    event: str = ""
    actor_id: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class TrailRows:
    """One page of the trail. `before` is where the next, older page begins, or None at the end."""

    items: list[dict[str, Any]]
    before: int | None
    users: dict[str, str]


def list_newest(
    uow: UnitOfWork,
    actor: Actor,
    *,
    wanted: TrailFilter,
    before: int | None = None,
    limit: int = 50,
) -> TrailRows:
    """Return the newest rows that fit, older than row `before`; digests in them are withheld.

    So are votes that are blind to the actor, who may be an auditor as well.

    Raises: PermissionDenied for anybody but operators.
    """
    permissions.check_may_read_journal(actor)
    shown = _columns.seq.not_in(hidden_positions(uow, actor))
    rows = journal.read_newest(
        uow.session, before=before, limit=limit + 1, only=[shown, *_conditions(uow, wanted)]
    )
    items = [
        {**row.document, "body": without_digests(row.document["body"]), "digest": row.digest}
        for row in rows[:limit]
    ]
    return TrailRows(
        items, int(items[-1]["seq"]) if len(rows) > limit else None, _names(uow, items)
    )


def _conditions(uow: UnitOfWork, wanted: TrailFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.subject:
        found.append(_columns.subject == wanted.subject)
    if wanted.actor_id:
        found.append(_columns.actor == wanted.actor_id)
    if wanted.event:
        found.append(_columns.event == wanted.event)
    # Positions grow with time, so a time becomes a position: the list stays on its own index.
    if wanted.since is not None:
        first = _first_position(uow, _columns.at >= wanted.since)
        found.append(sa.false() if first is None else _columns.seq >= first)
    if wanted.until is not None:
        end = _first_position(uow, _columns.at >= wanted.until)
        if end is not None:
            found.append(_columns.seq < end)
    return found


def _first_position(uow: UnitOfWork, condition: sa.ColumnElement[bool]) -> int | None:
    statement = sa.select(_columns.seq).where(condition).order_by(_columns.at, _columns.seq)
    return uow.session.execute(statement.limit(1)).scalar()


def _names(uow: UnitOfWork, items: list[dict[str, Any]]) -> dict[str, str]:
    """Return the names of those who acted: operators made their accounts."""
    ids = {str(item["body"].get("actor")) for item in items}
    users = tables.users.c
    found = uow.session.execute(sa.select(users.id, users.name).where(users.id.in_(ids)))
    return {user.id: user.name for user in found}
