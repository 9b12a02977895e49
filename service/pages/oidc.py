"""Sign in with an account elsewhere (OpenID Connect); only accounts that an operator linked.

The provider sends the browser back from another site, so what it must bring travels in a cookie of
its own (SameSite=Lax, ten minutes), and the session's cookie, which is Strict, is first used by the
page after.
"""

from datetime import datetime

from flask import current_app, make_response, redirect, render_template, request
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response as AnyResponse

from service import oidc, throttle
from service.domain.errors import NotFound, PermissionDenied
from service.domain.sign_in import Method, SignIn
from service.operations import second_factors, users
from service.operations.accounts import load_actor
from service.pages.session import blueprint, inside
from service.pages.sign_in import finish_first_step
from service.web import application

_COOKIE = "kaima-oidc"
_PATH = "/sign-in/oidc"
_SECONDS = 600


@blueprint.get("/sign-in/oidc")
def start_oidc() -> AnyResponse:
    """Send the browser to the provider."""
    _check_is_set_up()
    throttle.count_address()
    address, started = oidc.start(
        application().settings,
        redirect_uri=_redirect_uri(),
        next_page=inside(request.args.get("next")),
        again="again" in request.args,
    )
    response = make_response(redirect(address))
    response.set_cookie(
        _COOKIE,
        _signer().dumps(started.as_dict()),
        max_age=_SECONDS,
        path=_PATH,
        secure=bool(current_app.config["SESSION_COOKIE_SECURE"]),
        httponly=True,
        samesite="Lax",
    )
    return response


@blueprint.get("/sign-in/oidc/back")
def finish_oidc() -> AnyResponse:
    """Take the provider's answer, once, and open the session of whoever is linked to it."""
    _check_is_set_up()
    throttle.count_address()
    started = _started()
    person = oidc.finish(
        application().settings,
        redirect_uri=_redirect_uri(),
        started=started,
        answer=request.args,
    )
    response = make_response(_sign_in(person, inside(started.next_page)))
    response.delete_cookie(_COOKIE, path=_PATH)
    return response


def _sign_in(person: oidc.Person, next_page: str) -> AnyResponse:
    with application().uow() as uow:
        identity = users.find_identity(uow, issuer=person.issuer, subject=person.subject)
        try:
            who = load_actor(uow, user_id=identity.user_id if identity else "")
        except PermissionDenied:
            uow.without_trail("nobody signed in")
            return make_response(render_template("unlinked.html", person=person), 403)
        # An operator made the link, but the user their own password and factor: where there is one,
        # the own factor is asked for, or whoever can link an account could answer for both.
        own = uow.get(SignIn, who.user_id)
        has_own = own is not None and bool(own.password_hash or own.has_totp)
        has_own = has_own or bool(second_factors.list_factors(uow, who.user_id))
        onward = finish_first_step(
            uow,
            who,
            method=Method.OIDC,
            next_page=next_page,
            has_factor=person.has_factor and not has_own,
            factor_at=None if has_own else _moment(person, uow.now()),
        )
    return make_response(render_template("continue.html", address=onward.headers["Location"]))


def _moment(person: oidc.Person, now: datetime) -> datetime | None:
    """Return when the second factor was given elsewhere; unknown means not lately."""
    if not person.has_factor or person.signed_in_at is None:
        return None
    return min(person.signed_in_at, now)


def _started() -> oidc.Started:
    try:
        found = _signer().loads(request.cookies.get(_COOKIE, ""), max_age=_SECONDS)
        return oidc.Started(**found)
    except (BadData, TypeError) as error:
        raise oidc.OidcRefused(
            "Signing in was refused: it was not begun in this browser, or took longer than ten "
            "minutes. Start again on the sign-in page."
        ) from error


def _check_is_set_up() -> None:
    if not application().settings.oidc_issuer:
        raise NotFound("Signing in with another service is not set up here.")


def _redirect_uri() -> str:
    return application().settings.public_url.rstrip("/") + "/sign-in/oidc/back"


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="sign-in elsewhere")
