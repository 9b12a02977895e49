"""Search the catalogue: filters, order and paging by SQL over narrow rows, with an index for each.

A page is found by the identifier of the last release before it: the order's value is looked up
from it, so a cursor stays an identifier, and nothing is skipped or repeated.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, Role, Scope
from service.domain.releases import IN_CATALOGUE, Release, ReleaseState
from service.store import access_tables, tables
from service.store.pages import Page
from service.store.unit_of_work import UnitOfWork

_MOST_COUNTED = 10_000
_MOST_VERSIONS = 200
_l = access_tables.listings.c


class Order(StrEnum):
    """By what the catalogue is sorted."""

    NEWEST = "newest"
    NAME = "name"
    EPSILON = "epsilon"


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is looked for; an empty value looks for everything."""

    text: str = ""
    label: str = ""
    modality: str = ""
    tenant_id: str = ""
    tier: str = ""
    licence: str = ""
    duo: str = ""
    state: ReleaseState | None = None
    epsilon_min: float | None = None
    epsilon_max: float | None = None


@dataclass(frozen=True)
class Found:
    """One release of the catalogue, as its list shows it."""

    release_id: str
    name: str
    version: str
    title: str
    state: str
    tier: str
    verdict: str
    modality: str
    label: str
    licence: str
    epsilon: float | None
    unit: str
    listed_at: Any
    tenant: str
    mode: str


def search_catalogue(
    uow: UnitOfWork,
    actor: Actor,
    *,
    filters: Filters,
    order: Order = Order.NEWEST,
    cursor: str | None = None,
    limit: int = 25,
) -> Page[Found]:
    """Return one page of the releases that everybody may see and that the filters let through."""
    permissions.check_scope(actor, "Searching the catalogue", Scope.READ)
    statement = _columns().where(_l.is_public.is_(True), *_conditions(filters))
    return _page(uow, statement, order=order, cursor=cursor, limit=limit)


def list_upcoming(uow: UnitOfWork, actor: Actor, *, limit: int = 50) -> list[Found]:
    """Return the releases of the actor's tenant that are on their way, newest first; insiders only."""
    if not actor.roles & {Role.DATA_OWNER, Role.AUDITOR}:
        return []
    closed = [ReleaseState.REJECTED, ReleaseState.WITHDRAWN, *IN_CATALOGUE]
    open_states = [state.value for state in ReleaseState if state not in closed]
    statement = _columns().where(_l.tenant_id == actor.tenant_id, _l.state.in_(open_states))
    return _page(uow, statement, order=Order.NEWEST, cursor=None, limit=limit).items


def count_catalogue(uow: UnitOfWork, actor: Actor, *, filters: Filters) -> int:
    """Return how many releases the filters let through; counting stops at 10,000."""
    permissions.check_scope(actor, "Searching the catalogue", Scope.READ)
    inner = sa.select(_l.release_id).where(_l.is_public.is_(True), *_conditions(filters))
    some = inner.limit(_MOST_COUNTED).subquery()
    return int(uow.session.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


@dataclass(frozen=True)
class VersionRow:
    """One version of a name, as the release's page compares it with its sisters."""

    release_id: str
    version: str
    state: str
    published_at: Any
    epsilon: float | None
    image_count: int | None
    changes: str


def list_versions(uow: UnitOfWork, actor: Actor, *, release: Release) -> list[VersionRow]:
    """Return the versions of the release's name that the actor may see, newest first."""
    statement = sa.select(Release).where(
        tables.releases.c.tenant_id == release.tenant_id, tables.releases.c.name == release.name
    )
    found = [
        other
        for other in uow.session.execute(statement.limit(_MOST_VERSIONS)).scalars()
        if permissions.is_visible(actor, other)
    ]
    found.sort(key=lambda other: [int(part) for part in other.version.split(".")], reverse=True)
    return [
        VersionRow(
            other.id,
            other.version,
            other.state.value,
            other.published_at,
            other.certificate.get("epsilon"),
            other.certificate.get("image_count"),
            str((other.declared or {}).get("changes", "")),
        )
        for other in found
    ]


def list_publishers(uow: UnitOfWork) -> list[tuple[str, str]]:
    """Return id and name of the tenants that have something in the catalogue, by name."""
    tenants = tables.tenants.c
    has_one = sa.exists().where(_l.tenant_id == tenants.id, _l.is_public.is_(True))
    statement = sa.select(tenants.id, tenants.name).where(has_one).order_by(tenants.name)
    return [(row[0], row[1]) for row in uow.session.execute(statement)]


def _columns() -> sa.Select[Any]:
    policies = access_tables.access_policies.c
    return (
        sa.select(
            _l.release_id, _l.name, _l.version, _l.title, _l.state, _l.tier, _l.verdict,
            _l.modality, _l.label, _l.licence, _l.epsilon, _l.unit, _l.listed_at, tables.tenants.c.name,
            sa.func.coalesce(sa.cast(policies.mode, sa.String), "open"),
        )
        .join(tables.tenants, tables.tenants.c.id == _l.tenant_id)
        .outerjoin(access_tables.access_policies, policies.release_id == _l.release_id)
    )  # fmt: skip


def _conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [
        _l.words.contains(word, autoescape=True) for word in filters.text.casefold().split()[:8]
    ]
    if filters.label:
        found.append(sa.func.lower(_l.label) == filters.label.casefold())
    for column, wanted in (
        (_l.modality, filters.modality),
        (_l.tenant_id, filters.tenant_id),
        (_l.tier, filters.tier),
        (_l.licence, filters.licence),
    ):
        if wanted:
            found.append(column == wanted)
    if filters.state is not None:
        found.append(_l.state == filters.state.value)
    if filters.duo:
        found.append((" " + _l.duo + " ").contains(f" {filters.duo} ", autoescape=True))
    if filters.epsilon_min is not None:
        found.append(_l.epsilon >= filters.epsilon_min)
    if filters.epsilon_max is not None:
        found.append(_l.epsilon <= filters.epsilon_max)
    return found


def _page(
    uow: UnitOfWork, statement: sa.Select[Any], *, order: Order, cursor: str | None, limit: int
) -> Page[Found]:
    key: sa.ColumnElement[Any] = {
        Order.NEWEST: _l.listed_at,
        Order.NAME: _l.name,
        Order.EPSILON: _l.epsilon,
    }[order]
    statement = statement.where(key.is_not(None))  # what has no epsilon has no place in its order
    descending = order is Order.NEWEST
    if cursor:
        last = uow.session.execute(sa.select(key).where(_l.release_id == cursor)).scalar()
        if last is not None:
            here, there = (
                sa.tuple_(key, _l.release_id),
                sa.tuple_(sa.literal(last, type_=key.type), sa.literal(cursor)),
            )
            statement = statement.where(here < there if descending else here > there)
    by = (key.desc(), _l.release_id.desc()) if descending else (key.asc(), _l.release_id.asc())
    rows = uow.session.execute(statement.order_by(*by).limit(limit + 1)).all()
    items = [Found(*row) for row in rows[:limit]]
    return Page(items, items[-1].release_id if len(rows) > limit else None)
