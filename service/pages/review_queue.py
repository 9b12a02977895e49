"""The auditor's list of what waits, and of what they decided."""

import csv
import io
from datetime import timedelta

from flask import Response, g, render_template, request

from service.domain.accounts import Role
from service.operations import decisions, review_queue
from service.operations.decisions import Decided
from service.operations.review_queue import Filters
from service.pages.evidence import VERDICT_KINDS
from service.pages.session import actor, blueprint
from service.web import application

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@blueprint.context_processor
def add_badge() -> dict[str, object]:
    """Give every page of an auditor the number of decisions that are asked of them."""
    return {"waiting_count": waiting_count}


def waiting_count() -> int:
    """Return how many decisions are asked of whoever is signed in."""
    if not actor().has(Role.AUDITOR):
        return 0
    if "waiting_count" not in g:  # the navigation and the tabs of one page ask alike
        with application().uow(read_only=True) as uow:
            g.waiting_count = review_queue.count_waiting(uow, actor())
    counted: int = g.waiting_count
    return counted


@blueprint.get("/review")
def list_waiting() -> str:
    """List what waits for decisions: what asks for my vote first."""
    filters = Filters(
        kind=request.args.get("kind", ""),
        tier=request.args.get("tier", ""),
        verdict=request.args.get("verdict", ""),
        mine="mine" in request.args,
    )
    with application().uow(read_only=True) as uow:
        waiting = review_queue.list_waiting(uow, actor(), filters=filters)
        return render_template(
            "review_queue.html",
            nav="review",
            waiting=waiting,
            filters=filters,
            is_filtered=filters != Filters(),
            now=uow.now(),
            kinds=VERDICT_KINDS,
        )


@blueprint.get("/review/history")
def list_decided() -> str:
    """List what I decided and when."""
    with application().uow(read_only=True) as uow:
        return render_template(
            "review_history.html",
            nav="review",
            decided=decisions.list_decided(uow, actor()),
        )


@blueprint.get("/review/history.csv")
def export_decided() -> Response:
    """Return the same as a table for a spreadsheet."""
    with application().uow(read_only=True) as uow:
        decided = decisions.list_decided(uow, actor(), limit=10_000)
    answer = Response(as_csv(decided), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="decisions.csv"'
    return answer


def as_csv(decided: list[Decided]) -> str:
    """Return decisions as CSV; a text that a spreadsheet would run as a formula is quoted."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["at", "kind", "id", "title", "round", "decision", "reason", "state now"])
    for one in decided:
        row = [one.at.isoformat(), one.kind, one.id, one.title, one.round]
        row += [one.decision, one.reason, one.state]
        writer.writerow([_harmless(str(value)) for value in row])
    return text.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


@blueprint.app_template_filter("age")
def age(waited: timedelta) -> str:
    """Return how long something has been waiting, roughly."""
    hours = int(waited.total_seconds() // 3600)
    if hours < 1:
        return "under 1 hour"
    if hours < 48:
        return "1 hour" if hours == 1 else f"{hours} hours"
    return f"{hours // 24} days"
