"""Cursor pagination by identifiers, which sort by time: newest first, nothing skipped or repeated."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.domain.errors import InputRefused

T = TypeVar("T")
MOST = 200


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items, and the cursor of the next page, or None at the end."""

    items: list[T]
    next_cursor: str | None


def fetch_page(
    session: Session,
    statement: sa.Select[Any],
    *,
    id_column: sa.ColumnElement[Any],
    cursor: str | None,
    limit: int,
) -> Page[Any]:
    """Run `statement` for one page.  Raises: InputRefused for a limit outside 1-200."""
    if not 1 <= limit <= MOST:
        raise InputRefused(
            f"A page of {limit} items was refused. Ask for 1 to {MOST}.", value=limit, limit=MOST
        )
    if cursor:
        statement = statement.where(id_column < cursor)
    found = session.execute(statement.order_by(id_column.desc()).limit(limit + 1)).scalars().all()
    items = list(found[:limit])
    return Page(items, items[-1].id if len(found) > limit else None)
