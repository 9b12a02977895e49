"""What an invited reader sees: a link that opens one study, the viewer, a break, an end.

A blueprint of its own, with a cookie of its own that is sent below /read only: a reader's session can
reach nothing else, and no other session reaches it. Nothing here says that some cases are synthetic
before phase B does, so no page of the service's design frames it and no study is called by its name.
"""

import hashlib
import hmac
from collections.abc import Mapping

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service import refusals
from service.domain.errors import NotFound, PermissionDenied
from service.domain.studies import ANSWERING, Phase, StudyReader
from service.operations import study_reading
from service.operations.study_reading import Step
from service.refusals import RequestRefused
from service.web import application, count_failure

COOKIE = "kaima-reading"
_PATH = "/read"

blueprint = Blueprint("reading", __name__, url_prefix=_PATH)


@blueprint.errorhandler(Exception)
def refuse(error: Exception) -> Response:
    """Answer a refusal on a page that gives nothing away."""
    refusal = refusals.from_exception(error)
    if refusal.status >= 500:
        raise error
    text = render_template("reading_note.html", refusal=refusal)
    response = Response(text, status=refusal.status, content_type="text/html; charset=utf-8")
    response.headers.update(dict(refusal.headers))
    return response


@blueprint.get("/join/<string:link>")
def show_link(link: str) -> str:
    """Say what the reading is about; the link is used up by the button, not by looking."""
    try:
        with application().uow(read_only=True) as uow:
            study, reader = study_reading.find_link(uow, link)
    except PermissionDenied:
        count_failure()
        raise
    return render_template(
        "reading_welcome.html",
        plan=study.design,
        reader=reader,
        link=link,
        is_new=reader.phase is Phase.INVITED,
    )


@blueprint.post("/join/<string:link>")
def join(link: str) -> AnyResponse:
    """Use the link up and open the session."""
    try:
        with application().uow() as uow:
            reader, secret = study_reading.join_study(uow, link)
    except PermissionDenied:
        count_failure()
        raise
    response = redirect(url_for("reading.read"))
    _set_cookie(response, secret, reader)
    return response


@blueprint.get("")
def read() -> str:
    """Show the current case, or what comes before or after it."""
    secret = _secret()
    with application().uow() as uow:
        step = study_reading.start_clock(uow, secret)
    phase = step.reader.phase
    if phase is Phase.BETWEEN:
        return _page("reading_between.html", step)
    if phase is Phase.FINISHED:
        return _page("reading_finished.html", step)
    return _page("reading_case.html", step)


@blueprint.get("/picture/<string:phase>/<int:position>/<int:side>.png")
def picture(phase: str, position: int, side: int) -> Response:
    """Return a picture of the current case; that it was shown is recorded.

    Phase and position are in the address so that no browser shows an earlier case's picture.
    """
    secret = _secret()
    with application().uow() as uow:
        reader = study_reading.current_step(uow, secret).reader
        if (phase, position) != (reader.phase.value, reader.position):
            raise NotFound("That picture belongs to a case that you have left.")
        content = study_reading.view_case(uow, secret, side=side)
    return Response(content, content_type="image/png")


@blueprint.post("/answer")
def answer() -> AnyResponse:
    """Keep an answer and go on."""
    secret = _checked_secret()
    chosen = request.form.get("value", "")
    if not (chosen.isascii() and chosen.isdecimal()) or len(chosen) > 3:
        raise RequestRefused(422, "Choose an answer, then go on. Nothing was kept.")
    with application().uow() as uow:
        study_reading.answer_step(
            uow,
            secret,
            phase=request.form.get("phase", ""),
            position=request.form.get("position", 0, type=int),
            value=int(chosen),
        )
    return redirect(url_for("reading.read"))


@blueprint.post("/begin")
def begin() -> AnyResponse:
    """Begin the second part."""
    secret = _checked_secret()
    with application().uow() as uow:
        study_reading.begin_judging(uow, secret)
    return redirect(url_for("reading.read"))


@blueprint.post("/break")
def pause() -> str:
    """Stop the clock and hide the case."""
    secret = _checked_secret()
    with application().uow() as uow:
        study_reading.take_break(uow, secret)
        step = study_reading.current_step(uow, secret)
    return _page("reading_break.html", step)


@blueprint.get("/<path:rest>")
def miss(rest: str) -> Response:
    """Answer an address that is none on a reader's own page: the service's says what it shares."""
    del rest
    raise NotFound("Nothing was found under this address. Go back to the reading.")


def _page(template: str, step: Step) -> str:
    reader = step.reader
    done = reader.position - 1 if reader.phase in ANSWERING else 0
    return render_template(
        template,
        step=step,
        reader=reader,
        plan=step.plan,
        done=done,
        keys=_keys(step),
        csrf=_csrf(_secret()),
        is_grading=reader.phase is Phase.GRADING,
    )


def _keys(step: Step) -> Mapping[int, str]:
    """Return the key of each choice: a grade's own digit where every grade is one, else 1, 2, 3."""
    words = [word for _, word in step.choices]
    if words and all(len(word) == 1 and word.isdecimal() for word in words):
        return dict(step.choices)
    return {value: str(place) for place, (value, _) in enumerate(step.choices, start=1)}


def _secret() -> str:
    secret = request.cookies.get(COOKIE, "")
    if not secret:
        raise PermissionDenied("Open the link that you were sent; this page needs it.")
    return secret


def _checked_secret() -> str:
    secret = _secret()
    if not hmac.compare_digest(request.form.get("csrf", "").encode(), _csrf(secret).encode()):
        raise RequestRefused(400, "The answer was refused: its page is too old. Load it again.")
    return secret


def _csrf(secret: str) -> str:
    return hashlib.sha256(f"form/{secret}".encode()).hexdigest()


def _set_cookie(response: AnyResponse, secret: str, reader: StudyReader) -> None:
    response.set_cookie(
        COOKIE,
        secret,
        expires=reader.expires_at,
        path=_PATH,
        secure=application().settings.public_url.startswith("https://"),
        httponly=True,
        samesite="Strict",
    )
