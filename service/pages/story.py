"""The story of a release, the operator's trail, and proofs of single rows to take away."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, render_template, request, url_for

from service.domain.errors import InputRefused
from service.domain.trail import LedgerEvent, TrailEvent
from service.operations import journal_heads, stories, trails
from service.pages.event_words import actor_words, detail_rows, event_kind, event_words
from service.pages.session import actor, blueprint
from service.web import application

_LONGEST = 2**53
_ROWS = 50
_EVENTS = sorted({*(event.value for event in TrailEvent), *(event.value for event in LedgerEvent)})
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}")


@blueprint.app_context_processor
def _add_words() -> dict[str, object]:
    return {
        "event_words": event_words,
        "event_kind": event_kind,
        "actor_words": actor_words,
        "detail_rows": detail_rows,
    }


@blueprint.get("/releases/<string:release_id>/story")
def show_story(release_id: str) -> str:
    """Tell a release from upload to download; to outsiders, when it was published and taken back."""
    after = _position("after") or 0
    with application().uow(read_only=True) as uow:
        story = stories.read_story(uow, actor(), release_id=release_id, after=after, limit=_ROWS)
    return render_template("story.html", nav="releases", story=story, after=after)


@blueprint.get("/journal/proofs/<int:seq>")
def prove_row(seq: int) -> Response:
    """Hand out the proof that a row is in the journal, as a file."""
    with application().uow(read_only=True) as uow:
        proof = journal_heads.prove_row(uow, actor(), seq=min(seq, _LONGEST))
    return _file(proof, f"kaima-journal-{seq}.json")


@blueprint.get("/journal/head")
def show_head() -> Response:
    """Hand out the journal's signed head, as a file."""
    with application().uow(read_only=True) as uow:
        head = journal_heads.get_head(uow, actor())
    return _file(head, f"kaima-journal-head-{head['size']}.json")


@blueprint.get("/trail")
def list_whole_trail() -> str:
    """List what anybody did, newest first; for operators."""
    given = {
        name: request.args.get(name, "").strip()
        for name in ("event", "actor", "subject", "since", "until")
    }
    until = _day("until", given["until"])
    wanted = trails.TrailFilter(
        event=_word("event", given["event"]),
        actor_id=_word("actor", given["actor"]),
        subject=_word("subject", given["subject"]),
        since=_day("since", given["since"]),
        until=until + timedelta(days=1) if until else None,
    )
    with application().uow(read_only=True) as uow:
        page = trails.list_newest(
            uow, actor(), wanted=wanted, before=_position("before"), limit=_ROWS
        )
    kept: dict[str, Any] = {name: value for name, value in given.items() if value}
    older = url_for("pages.list_whole_trail", **kept, before=page.before) if page.before else None
    return render_template(
        "trail.html",
        nav="trail",
        page=page,
        given=given,
        events=_EVENTS,
        older=older,
        newest=url_for("pages.list_whole_trail", **kept) if "before" in request.args else None,
    )


def _file(document: dict[str, object], name: str) -> Response:
    response = Response(json.dumps(document, indent=2), content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _position(name: str) -> int | None:
    text = request.args.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or not text.isascii() or int(text) > _LONGEST:
        raise InputRefused(f"The position {text[:40]!r} was refused: it must be a whole number.")
    return int(text)


def _word(name: str, text: str) -> str:
    if text and not _WORD.fullmatch(text):
        raise InputRefused(
            f"The filter {name} was refused: {text[:40]!r} is no identifier. "
            "Copy one from the trail."
        )
    return text


def _day(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InputRefused(
            f"The filter {name} was refused: {text[:40]!r} is no day such as 2026-01-31."
        ) from error
