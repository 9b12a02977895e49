"""Ask for the second factor again before something weighty: a vote, a new key, a new factor.

A view calls `require_fresh_factor()` first; its template shows `missing_factor()` beside a disabled
button, or includes `factor_field.html`, whose code is then taken with the same form.
"""

from datetime import timedelta

from flask import g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service import throttle
from service.domain.errors import DomainError, InputRefused
from service.domain.sign_in import FRESH_FACTOR_SECONDS, Method, WebSession
from service.operations import passkeys, second_factors, sessions
from service.pages.session import actor, blueprint, inside
from service.web import application

CODE_FIELD = "factor_code"
"""A form may carry the code itself, so that nothing that was written in it is lost."""


class FactorNeeded(DomainError):
    """The second factor must be given again, or for the first time."""

    status = 403
    slug = "second-factor-needed"


def missing_factor() -> str | None:
    """Return why the session must confirm its second factor first, or None if it need not.

    A session that was opened with an API key, by a user without any factor, passes: the same key
    could do the same through the API.
    """
    session: WebSession = g.web_session
    with application().uow(read_only=True) as uow:
        fresh = timedelta(seconds=FRESH_FACTOR_SECONDS)
        if session.factor_at is not None and uow.now() < session.factor_at + fresh:
            return None
        if second_factors.list_factors(uow, session.user_id):
            minutes = FRESH_FACTOR_SECONDS // 60
            return f"This needs your second factor, given within the last {minutes} minutes."
        if session.method is Method.OIDC and second_factors.needs_factor(uow, actor()):
            return (
                "This needs your organisation's second factor, given within the last "
                f"{FRESH_FACTOR_SECONDS // 60} minutes: sign in there again."
            )
        if session.method is Method.API_KEY or not second_factors.needs_factor(uow, actor()):
            return None
    return "This needs a second factor, and you have none. Set one up on the page Account."


def require_fresh_factor(*, back: str = "") -> None:
    """Let pass whoever gave their second factor a moment ago, in this form or before.

    `back` is the page to return to after confirming.
    Raises: FactorNeeded; InputRefused for a wrong code in the form; RequestRefused after too many.
    """
    sentence = missing_factor()
    if sentence is None:
        return
    code = request.form.get(CODE_FIELD, "").strip()
    if code:
        _confirm_by_code(code)
        return
    raise FactorNeeded(sentence, confirm=url_for("pages.confirm_factor", next=back or None))


def require_fresh_sign_in(*, back: str = "") -> None:
    """Let pass whoever confirmed, or without any factor signed in, a moment ago.

    For changes of the account itself: a browser that was left alone must not be enough.
    Raises: FactorNeeded; InputRefused for a wrong code in the form.
    """
    require_fresh_factor(back=back)
    session: WebSession = g.web_session
    with application().uow(read_only=True) as uow:
        moment = session.factor_at or session.created_at
        is_fresh = uow.now() < moment + timedelta(seconds=FRESH_FACTOR_SECONDS)
    if not is_fresh:
        raise FactorNeeded(
            "This changes your account, and you signed in a while ago. Sign out, sign in again, "
            "then do it at once."
        )


@blueprint.context_processor
def add_missing_factor() -> dict[str, object]:
    """Give every template the sentence that disables a weighty button."""
    return {"missing_factor": missing_factor}


@blueprint.route("/confirm", methods=["GET", "POST"])
def confirm_factor() -> AnyResponse | str | tuple[str, int]:
    """Take the second factor again."""
    next_page = inside(request.values.get("next"))
    problem = None
    if request.method == "POST":
        try:
            if request.form.get("credential"):
                _confirm_by_passkey(request.form["credential"])
            else:
                _confirm_by_code(request.form.get(CODE_FIELD, ""))
            return redirect(next_page, code=303)
        except InputRefused as error:
            problem = error.sentence
    session: WebSession = g.web_session
    with application().uow() as uow:
        factors = second_factors.list_factors(uow, session.user_id)
        options = passkeys.start_use(uow, session.id, factors.passkeys)
    page = render_template(
        "confirm_factor.html",
        factors=factors,
        options=options,
        problem=problem,
        next=next_page,
        is_elsewhere=session.method is Method.OIDC,
    )
    return (page, 422) if problem else page


def _confirm_by_code(code: str) -> None:
    throttle.count_code(actor().user_id)
    with application().uow() as uow:
        second_factors.use_code(uow, actor(), code=code)
        sessions.confirm_factor(uow, g.web_session.id)
    g.web_session.factor_at = application().parts.clock()


def _confirm_by_passkey(credential: str) -> None:
    throttle.count_code(actor().user_id)
    with application().uow() as uow:
        passkeys.use_passkey(uow, actor(), session_id=g.web_session.id, credential=credential)
        sessions.confirm_factor(uow, g.web_session.id)
    g.web_session.factor_at = application().parts.clock()
