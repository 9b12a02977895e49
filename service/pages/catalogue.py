"""The catalogue with its search; the start page; what a problem type means."""

import math
from typing import get_args

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from service.domain.declarations import DUO_TERMS, LICENCES, MODALITIES, TABLE_MODALITY
from service.domain.errors import DomainError, NotFound
from service.domain.releases import IN_CATALOGUE, ReleaseState
from service.operations import catalogue_search
from service.operations.catalogue_search import Filters, Order
from service.pages.session import actor, blueprint
from service.refusals import HTTP_STATUSES, PRIVACY_ERRORS, title_of
from service.resources import TierName
from service.web import application

_ORDERS = {
    Order.NEWEST: "newest first",
    Order.NAME: "by name",
    Order.EPSILON: "strongest guarantee first",
}
_MODALITIES = MODALITIES | {TABLE_MODALITY: "table of records"}
_LONGEST = 200


@blueprint.get("/")
def start() -> Response:
    """Start at the release list."""
    return redirect(url_for("pages.list_releases"))


@blueprint.get("/releases")
def list_releases() -> str:
    """Search the catalogue; for data owners and auditors, what is on its way stands before it."""
    asked = _asked()
    filters, order = _filters(asked), _order(asked)
    cursor = request.args.get("cursor")
    with application().uow(read_only=True) as uow:
        page = catalogue_search.search_catalogue(
            uow, actor(), filters=filters, order=order, cursor=cursor
        )
        is_start = cursor is None and not asked
        return render_template(
            "releases.html",
            nav="releases",
            upcoming=catalogue_search.list_upcoming(uow, actor()) if is_start else [],
            releases=page.items,
            next_cursor=page.next_cursor,
            is_later=cursor is not None,
            count=catalogue_search.count_catalogue(uow, actor(), filters=filters),
            selects=_selects(catalogue_search.list_publishers(uow)),
            asked=asked,
            orders=_ORDERS,
            modalities=_MODALITIES,
        )


@blueprint.get("/problems/<string:slug>")
def explain_problem(slug: str) -> str:
    """Say what a problem type means; the address is the `type` of problem+json."""
    meanings = {
        found: (status, f"{title_of(found)}. {remedy}")
        for status, (found, remedy) in HTTP_STATUSES.items()
    }
    meanings |= {
        kind.slug: (kind.status, (kind.__doc__ or "").strip()) for kind in _kinds(DomainError)
    }
    meanings |= {
        found: (status, (kind.__doc__ or "").strip()) for kind, status, found in PRIVACY_ERRORS
    }
    if slug not in meanings:
        raise NotFound(f"No problem type {slug[:60]!r} was found.")
    status, meaning = meanings[slug]
    return render_template("problem.html", title=title_of(slug), status=status, meaning=meaning)


def _asked() -> dict[str, str]:
    """Return what was typed into the search, by field; what is empty or too long is left out."""
    names = ("q", "label", "modality", "tenant", "tier", "licence", "duo", "state", "sort")
    given = {name: request.args.get(name, "").strip() for name in (*names, "min", "max")}
    return {
        name: value
        for name, value in given.items()
        if value and len(value) <= _LONGEST and value.isprintable()
    }


def _selects(publishers: list[tuple[str, str]]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return name, label and what is offered of each filter that is chosen from a list."""
    found = (
        ("modality", "Modality", list(_MODALITIES.items())),
        ("tenant", "Organisation", publishers),
        ("tier", "Tier", [(tier, tier) for tier in get_args(TierName)]),
        ("licence", "Licence", [(name, name) for name in LICENCES if name]),
        ("duo", "Data use", [(code, name) for code, (name, _) in DUO_TERMS.items()]),
        ("state", "State", [(state.value, state.value) for state in sorted(IN_CATALOGUE)]),
    )
    return [(name, label, [("", "any"), *offered]) for name, label, offered in found]


def _filters(asked: dict[str, str]) -> Filters:
    state = asked.get("state", "")
    return Filters(
        text=asked.get("q", ""),
        label=asked.get("label", ""),
        modality=asked.get("modality", ""),
        tenant_id=asked.get("tenant", ""),
        tier=asked.get("tier", ""),
        licence=asked.get("licence", ""),
        duo=asked.get("duo", ""),
        state=ReleaseState(state) if state in set(ReleaseState) else None,
        epsilon_min=_number(asked.get("min")),
        epsilon_max=_number(asked.get("max")),
    )


def _order(asked: dict[str, str]) -> Order:
    wanted = asked.get("sort", "")
    return Order(wanted) if wanted in set(Order) else Order.NEWEST


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _kinds(parent: type[DomainError]) -> list[type[DomainError]]:
    found = parent.__subclasses__()
    return [parent, *(kind for child in found for kind in _kinds(child))]
