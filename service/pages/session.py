"""The session that every page needs: who is it, is the form theirs, where may they be sent.

The cookie is signed and holds a random secret, never a key or a user: each request looks its hash
up again, so that ending a session, disabling its user, changing the password or revoking the API
key that opened it takes effect at once.
"""

import hmac
import re
import secrets
from datetime import datetime
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, redirect, render_template, request, session, url_for
from flask_limiter.util import get_remote_address
from werkzeug.wrappers import Response as AnyResponse

from service.domain.accounts import Actor
from service.domain.errors import NotFound
from service.domain.sign_in import Method, WebSession
from service.operations import sessions
from service.operations.sessions import Origin
from service.refusals import Refusal, RequestRefused
from service.resources import IDENTIFIER_PATTERN
from service.store.unit_of_work import UnitOfWork
from service.web import application
from service.wiring import Application

PUBLIC_ENDPOINTS = frozenset(
    {
        "pages.sign_in",
        "pages.give_factor",
        "pages.set_up_factor",
        "pages.start_oidc",
        "pages.finish_oidc",
        "pages.use_invitation",
        "pages.explain_problem",
    }
)
"""Pages for whoever is not signed in, or only half-way; each checks what it needs."""

LARGE_FORMS: dict[str, int] = {}
"""Forms with a file, which add themselves, and how many bytes whoever is signed in may send."""

blueprint = Blueprint("pages", __name__)

_START = "/releases"
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN)
_BROWSERS = (("Edg", "Edge"), ("Firefox", "Firefox"), ("Chrom", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)


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


def open_session(
    uow: UnitOfWork,
    who: Actor,
    *,
    method: Method,
    is_pending: bool = False,
    factor_at: datetime | None = None,
    key_id: str | None = None,
) -> WebSession:
    """Open a session with a new secret; whatever session the browser had before is dropped."""
    origin = Origin(_browser(), get_remote_address())
    opened, token = sessions.open_session(
        uow,
        who,
        method=method,
        origin=origin,
        is_pending=is_pending,
        factor_at=factor_at,
        key_id=key_id,
    )
    session.clear()  # a session that was there before the sign-in must not survive it
    session.permanent = True
    session["token"] = token
    return opened


def find_session() -> tuple[WebSession, Actor] | None:
    """Return the session of this browser, half-way or whole, and who it acts for."""
    token = session.get("token")
    if not isinstance(token, str):
        return None
    with application().uow(read_only=True) as uow:
        return sessions.find_session(uow, token)


@blueprint.before_request
def require_session() -> AnyResponse | None:
    """Send whoever is not signed in to the sign-in page; check the token of every form."""
    _check_identifiers()
    if request.method == "POST" and request.endpoint in LARGE_FORMS:
        sender = find_session()
        if sender is not None and not sender[0].is_pending:  # before the form is parsed
            request.max_content_length = LARGE_FORMS[request.endpoint]
    if request.method == "POST":
        _check_csrf()
    if request.endpoint in PUBLIC_ENDPOINTS:
        return None
    found = find_session()
    if found is None:
        session.clear()
    if found is None or found[0].is_pending:
        return redirect(url_for("pages.sign_in", next=request.path))
    g.web_session, g.actor = found
    _touch(g.web_session)
    return None


@blueprint.context_processor
def add_names() -> dict[str, object]:
    """Give every template the actor and the form token."""
    return {"actor": g.get("actor"), "csrf_token": csrf_token}


def inside(target: str | None) -> str:
    """Return a path of this site, whatever was asked for: no redirect leads elsewhere."""
    try:
        parts = urlsplit(target or "")
    except ValueError:  # "//[", for one, is no address at all
        return _START
    safe = (
        parts.path.startswith("/")
        and not parts.path.startswith("//")
        and "\\" not in parts.path
        and parts.path.isprintable()
        and not parts.netloc
        and not parts.scheme
    )
    return parts.path if safe else _START


def _touch(found: WebSession) -> None:
    """Note that somebody is there; a page that renews itself is nobody."""
    if request.headers.get("Sec-Fetch-Dest") == "empty":
        return
    with application().uow(read_only=True) as uow:
        if not sessions.needs_touch(uow, found):
            return
    with application().uow() as uow:
        sessions.touch_session(uow, found.id)


def _browser() -> str:
    """Return a few words that its owner recognises; the rest of the header is not kept."""
    text = request.headers.get("User-Agent", "")
    browser = next((name for sign, name in _BROWSERS if sign in text), "A browser")
    system = next((name for sign, name in _SYSTEMS if sign in text), "")
    return f"{browser} on {system}" if system else browser


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
