"""One's own account: password, second factors, recovery codes, API keys, where one is signed in."""

from flask import g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service import throttle
from service.domain.accounts import Role, Scope
from service.domain.errors import DomainError, InputRefused
from service.domain.sign_in import SignIn
from service.operations import (
    factor_resets,
    passkeys,
    passwords,
    second_factors,
    sessions,
    users,
)
from service.pages.invitation import add_factor, render_set_up
from service.pages.session import actor, blueprint
from service.pages.step_up import require_fresh_sign_in
from service.refusals import RequestRefused
from service.web import application

Answer = AnyResponse | tuple[str, int] | str

_SCOPES_OF = {
    Role.DATA_OWNER: (Scope.READ, Scope.DATASETS, Scope.JOBS, Scope.RELEASES, Scope.DOWNLOADS),
    Role.AUDITOR: (Scope.READ, Scope.REVIEWS, Scope.JOBS, Scope.DOWNLOADS),
    Role.COLLABORATOR: (Scope.READ, Scope.DOWNLOADS),
    Role.OPERATOR: (Scope.READ, Scope.ADMINISTRATION, Scope.JOBS, Scope.RELEASES),
}
"""What a key can be good for at all, by its user's roles; offered, not enforced here."""


@blueprint.get("/account")
def show_account() -> str:
    """Show the account."""
    return _account()


@blueprint.post("/account/password")
def change_password() -> Answer:
    """Change the password; every other session ends."""
    try:
        require_fresh_sign_in(back=url_for("pages.show_account"))
        throttle.count_code(actor().user_id)
        new = _repeated_password()
        with application().uow() as uow:
            passwords.change_password(
                uow,
                actor(),
                current=request.form.get("current", ""),
                new=new,
                keep_session_id=g.web_session.id,
            )
    except (InputRefused, RequestRefused) as error:
        return _account(problem=error), error.status
    return _account(said="The password is changed. Every other session of yours has ended.")


@blueprint.route("/account/factors", methods=["GET", "POST"])
def add_own_factor() -> Answer:
    """Set up an authenticator app or a passkey."""
    require_fresh_sign_in(back=url_for("pages.add_own_factor"))
    problem = None
    if request.method == "POST":
        try:
            return _added()
        except (InputRefused, RequestRefused) as error:
            problem = error.sentence
    page = render_set_up("add_factor.html", actor(), g.web_session.id, problem=problem)
    return (page, 422) if problem else page


@blueprint.post("/account/app/remove")
def remove_app() -> Answer:
    """Take the authenticator app away."""
    require_fresh_sign_in(back=url_for("pages.show_account"))
    try:
        with application().uow() as uow:
            second_factors.remove_totp(uow, actor())
    except InputRefused as error:
        return _account(problem=error), error.status
    return redirect(url_for("pages.show_account"), code=303)


@blueprint.post("/account/passkeys/<string:passkey_id>/remove")
def remove_passkey(passkey_id: str) -> Answer:
    """Take a passkey away."""
    require_fresh_sign_in(back=url_for("pages.show_account"))
    try:
        with application().uow() as uow:
            passkeys.remove_passkey(uow, actor(), passkey_id=passkey_id)
    except InputRefused as error:
        return _account(problem=error), error.status
    return redirect(url_for("pages.show_account"), code=303)


@blueprint.post("/account/keep-factors")
def keep_factors() -> AnyResponse:
    """Cancel an operator's request to remove one's second factors; it asks for none of them."""
    with application().uow() as uow:
        factor_resets.cancel_reset(uow, actor(), user_id=actor().user_id)
    return redirect(url_for("pages.show_account"), code=303)


@blueprint.post("/account/recovery-codes")
def make_recovery_codes() -> str:
    """Make new recovery codes; the old ones stop working."""
    require_fresh_sign_in(back=url_for("pages.show_account"))
    with application().uow() as uow:
        codes = second_factors.make_recovery_codes(uow, actor())
    return render_template(
        "recovery_codes.html", codes=codes, onward=url_for("pages.show_account"), nav="account"
    )


@blueprint.post("/account/keys")
def create_own_key() -> Answer:
    """Make an API key for oneself; its token is on this page and nowhere else."""
    require_fresh_sign_in(back=url_for("pages.show_account"))
    days = request.form.get("days", "")
    try:
        with application().uow() as uow:
            _, token = users.create_own_key(
                uow,
                actor(),
                scopes=request.form.getlist("scopes"),
                lifetime_days=int(days) if days.isascii() and days.isdigit() else 0,
            )
    except DomainError as error:
        return _account(problem=error), error.status
    return _account(token=token)


@blueprint.post("/account/keys/<string:key_id>/revoke")
def revoke_own_key(key_id: str) -> AnyResponse:
    """Revoke one of one's own keys, and every session opened with it."""
    with application().uow() as uow:
        users.revoke_own_key(uow, actor(), key_id=key_id)
    return redirect(url_for("pages.show_account"), code=303)


@blueprint.post("/account/sessions/<string:session_id>/end")
def end_session(session_id: str) -> AnyResponse:
    """End one of one's own sessions."""
    with application().uow() as uow:
        sessions.end_session(uow, actor(), session_id=session_id)
    return redirect(url_for("pages.show_account"), code=303)


@blueprint.post("/account/sessions/end-others")
def end_other_sessions() -> AnyResponse:
    """End every session but this one."""
    with application().uow() as uow:
        uow.without_trail("each session that ends is in the trail")
        sessions.end_sessions(uow, actor(), user_id=actor().user_id, keep=g.web_session.id)
    return redirect(url_for("pages.show_account"), code=303)


def _added() -> Answer:
    with application().uow(read_only=True) as uow:
        had_codes = second_factors.list_factors(uow, actor().user_id).recovery_codes_left > 0
    add_factor(actor(), g.web_session.id)
    with application().uow() as uow:
        sessions.confirm_factor(uow, g.web_session.id)
        uow.without_trail("adding the factor is in the trail")
        codes = None if had_codes else second_factors.make_recovery_codes(uow, actor())
    if codes is None:
        return redirect(url_for("pages.show_account"), code=303)
    return render_template(
        "recovery_codes.html", codes=codes, onward=url_for("pages.show_account"), nav="account"
    )


def _repeated_password() -> str:
    """Return the new password, typed twice.  Raises: InputRefused."""
    new = request.form.get("password", "")
    if new != request.form.get("again", ""):
        raise InputRefused("The change was refused: the two new passwords are not the same.")
    return new


def _account(
    *, problem: DomainError | None = None, said: str | None = None, token: str | None = None
) -> str:
    with application().uow(read_only=True) as uow:
        offered = {scope for role in actor().roles for scope in _SCOPES_OF[role]}
        return render_template(
            "account.html",
            nav="account",
            sign_in=uow.get(SignIn, actor().user_id),
            factors=second_factors.list_factors(uow, actor().user_id),
            waiting=factor_resets.open_reset(uow, actor().user_id),
            needs_factor=second_factors.needs_factor(uow, actor()),
            identities=users.list_identities(uow, actor().user_id),
            keys=users.list_own_keys(uow, actor()),
            scopes=[scope for scope in Scope if scope in offered & actor().scopes],
            sessions=sessions.list_sessions(uow, actor()),
            here=g.web_session.id,
            problem=problem.sentence if problem else None,
            said=said,
            token=token,
        )
