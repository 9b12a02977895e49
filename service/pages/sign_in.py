"""Sign in: with a password, with an API key, and the second step; sign out.

What is wrong is told in one sentence, whether the account exists or not.
"""

from datetime import datetime

from flask import g, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from service import throttle
from service.domain.accounts import Actor
from service.domain.errors import InputRefused, PermissionDenied
from service.domain.sign_in import Method, SignIn, WebSession
from service.operations import passkeys, passwords, second_factors, sessions
from service.operations.accounts import load_actor
from service.pages.session import blueprint, find_session, inside, open_session
from service.refusals import RequestRefused, Unauthenticated
from service.store.unit_of_work import UnitOfWork
from service.web import actor_of_token, application

_WRONG = "Signing in was refused: the name or the password is wrong. Try again."
_NO_FACTOR = (
    "Signing in was refused: your role needs a second factor, and your account has none. "
    "Ask an operator for a link to set one up."
)


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> AnyResponse | tuple[str, int] | str:
    """Exchange a password or an API key for a session."""
    if request.method == "GET":
        return _form(request.args.get("with"), inside(request.args.get("next")))
    next_page = inside(request.form.get("next"))
    try:
        if "api_key" in request.form:
            return _with_key(next_page)
        return _with_password(next_page)
    except (Unauthenticated, PermissionDenied, RequestRefused) as error:
        way = "key" if "api_key" in request.form else "password"
        return _form(way, next_page, problem=error.sentence), error.status


@blueprint.route("/sign-in/factor", methods=["GET", "POST"])
def give_factor() -> AnyResponse | tuple[str, int] | str:
    """Take the second step: an authenticator code, a passkey or a recovery code."""
    found = find_session()
    if found is None or not found[0].is_pending:
        return redirect(url_for("pages.sign_in"))
    pending, who = found
    problem = None
    if request.method == "POST":
        try:
            return _whole(pending, who)
        except (InputRefused, RequestRefused) as error:
            problem = error
    with application().uow() as uow:
        factors = second_factors.list_factors(uow, who.user_id)
        options = passkeys.start_use(uow, pending.id, factors.passkeys)
    page = render_template(
        "give_factor.html",
        factors=factors,
        options=options,
        problem=problem.sentence if problem else None,
    )
    return (page, problem.status) if problem else page


@blueprint.post("/sign-out")
def sign_out() -> AnyResponse:
    """End the session, here and on the server."""
    with application().uow() as uow:
        sessions.end_session(uow, g.actor, session_id=g.web_session.id)
    session.clear()
    return redirect(url_for("pages.sign_in"))


def finish_first_step(
    uow: UnitOfWork,
    who: Actor,
    *,
    method: Method,
    next_page: str,
    has_factor: bool = False,
    factor_at: datetime | None = None,
) -> AnyResponse:
    """Open the session, or the half-way one that leads to the second step.

    `has_factor` means that the first step was a second factor as well, given at `factor_at`.
    Raises: PermissionDenied for a user without the factor that their role needs.
    """
    if not has_factor and second_factors.list_factors(uow, who.user_id):
        open_session(uow, who, method=method, is_pending=True)
        session["next"] = next_page
        return redirect(url_for("pages.give_factor"), code=303)
    if not has_factor and second_factors.needs_factor(uow, who):
        raise PermissionDenied(_NO_FACTOR)
    open_session(uow, who, method=method, factor_at=factor_at)
    return redirect(next_page, code=303)


def _form(way: str | None, next_page: str, *, problem: str | None = None) -> str:
    settings = application().settings
    with application().uow(read_only=True) as uow:
        has_passwords = passwords.has_passwords(uow)
    if way not in {"key", "password"}:
        # Where nobody has a password or an organisation's account yet, keys are what there is.
        way = "password" if has_passwords or settings.oidc_issuer else "key"
    return render_template(
        "sign_in.html",
        way=way,
        next=next_page,
        problem=problem,
        oidc_name=settings.oidc_name if settings.oidc_issuer else None,
        name=request.form.get("name", ""),
    )


def _with_key(next_page: str) -> AnyResponse:
    who, key_id = actor_of_token(request.form["api_key"].strip())
    with application().uow() as uow:
        open_session(uow, who, method=Method.API_KEY, key_id=key_id)
    return redirect(next_page)


def _with_password(next_page: str) -> AnyResponse:
    name, password = request.form.get("name", ""), request.form.get("password", "")
    throttle.count_password(name)
    with application().uow(read_only=True) as uow:  # hashing takes long; nothing is locked
        found = passwords.find_sign_in(uow, name)
    if not passwords.is_password_of(found, password) or found is None:
        raise Unauthenticated(_WRONG)
    with application().uow() as uow:
        who = _load(uow, found)
        response = finish_first_step(uow, who, method=Method.PASSWORD, next_page=next_page)
        current = passwords.load_sign_in(uow, found.user_id, lock=True)
        passwords.renew_hash(current, password)
    throttle.forget_failures(name)
    answer = make_response(response)
    throttle.remember_browser(answer, name)
    return answer


def _load(uow: UnitOfWork, found: SignIn) -> Actor:
    try:
        return load_actor(uow, user_id=found.user_id)
    except PermissionDenied as error:  # disabled: the same words as for a wrong password
        raise Unauthenticated(_WRONG) from error


def _whole(pending: WebSession, who: Actor) -> AnyResponse:
    """Check the second factor; open a session with another secret in the place of this one."""
    throttle.count_code(who.user_id)
    next_page = inside(session.get("next"))
    with application().uow() as uow:
        if request.form.get("credential"):
            passkeys.use_passkey(
                uow, who, session_id=pending.id, credential=request.form["credential"]
            )
        else:
            second_factors.use_code(uow, who, code=request.form.get("factor_code", ""))
        sessions.end_session(uow, who, session_id=pending.id)
        open_session(uow, who, method=pending.method, factor_at=uow.now())
    return redirect(next_page, code=303)
