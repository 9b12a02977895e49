"""Sign-in with an API key, and the session that every page needs.

The cookie is signed and holds the *id* of the key, never the key: each request looks the key up
again, so revoking it ends its sessions at once.
"""

import hmac
import re
import secrets
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.domain.accounts import Actor
from service.domain.errors import NotFound
from service.refusals import Refusal, RequestRefused, Unauthenticated
from service.resources import IDENTIFIER_PATTERN
from service.web import actor_of_key, actor_of_token
from service.wiring import Application

SESSION_SECONDS = 8 * 3600
"""A working day; the cookie is refused afterwards."""

PUBLIC_ENDPOINTS = frozenset({"pages.sign_in", "pages.explain_problem"})

blueprint = Blueprint("pages", __name__)

_START = "/releases"
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN)


def session_secret(application: Application) -> bytes:
    """Return the key that signs cookies; derived from the master key, so it survives restarts."""
    return application.keys.session_key()


def actor() -> Actor:
    """Return who is signed in."""
    found: Actor = g.actor
    return found


def csrf_token() -> str:
    """Return the token that every form of this session must send back."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    token: str = session["csrf"]
    return token


def render_refusal(refusal: Refusal) -> Response:
    """Answer a refusal as a page with the same sentence that the API would send."""
    text = render_template("refusal.html", refusal=refusal, actor=g.get("actor"))
    response = Response(text, status=refusal.status, content_type="text/html; charset=utf-8")
    response.headers.update(dict(refusal.headers))
    return response


@blueprint.before_request
def require_session() -> AnyResponse | None:
    """Send whoever is not signed in to the sign-in page; check the token of every form."""
    _check_identifiers()
    if request.method == "POST":
        _check_csrf()
    if request.endpoint in PUBLIC_ENDPOINTS:
        return None
    key_id = session.get("key_id")
    if key_id is None:
        return redirect(url_for("pages.sign_in", next=request.path))
    try:
        g.actor = actor_of_key(key_id)
    except Unauthenticated:
        session.clear()
        return redirect(url_for("pages.sign_in", next=request.path))
    return None


@blueprint.context_processor
def add_names() -> dict[str, object]:
    """Give every template the actor and the form token."""
    return {"actor": g.get("actor"), "csrf_token": csrf_token}


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> AnyResponse | tuple[str, int] | str:
    """Exchange an API key for a session."""
    if request.method == "GET":
        return render_template("sign_in.html", next=_inside(request.args.get("next")))
    next_page = _inside(request.form.get("next"))
    try:
        _, key_id = actor_of_token(request.form.get("api_key", "").strip())
    except Unauthenticated as error:
        return render_template("sign_in.html", next=next_page, problem=error.sentence), 401
    session.clear()  # a session that was there before the sign-in must not survive it
    session.permanent = True
    session["key_id"] = key_id
    return redirect(next_page)


@blueprint.post("/sign-out")
def sign_out() -> AnyResponse:
    """End the session."""
    session.clear()
    return redirect(url_for("pages.sign_in"))


def _check_identifiers() -> None:
    """Answer 404 before anything odd reaches a database."""
    given = [value for value in (request.view_args or {}).values() if isinstance(value, str)]
    if request.args.get("cursor"):
        given.append(request.args["cursor"])
    if not all(_IDENTIFIER.fullmatch(value) for value in given):
        raise NotFound("Nothing was found under this address. Check how it is written.")


def _check_csrf() -> None:
    sent, known = request.form.get("csrf", ""), session.get("csrf", "")
    if not known or not hmac.compare_digest(sent.encode(), known.encode()):
        raise RequestRefused(
            400, "The form was refused: its page is too old. Load the page again, then send it."
        )


def _inside(target: str | None) -> str:
    """Return a path of this site, whatever was asked for: no redirect leads elsewhere."""
    try:
        parts = urlsplit(target or "")
    except ValueError:  # "//[", for one, is no address at all
        return _START
    safe = (
        parts.path.startswith("/")
        and not parts.path.startswith("//")
        and "\\" not in parts.path
        and not parts.netloc
        and not parts.scheme
    )
    return parts.path if safe else _START
