"""The page that an operator's link leads to, and setting up a first second factor on the way in."""

import segno
from flask import redirect, render_template, request, session, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from service import throttle
from service.domain.accounts import Actor
from service.domain.errors import InputRefused
from service.domain.sign_in import Method, SignIn, WebSession
from service.operations import invitations, passkeys, second_factors, sessions
from service.pages.session import blueprint, find_session, open_session
from service.refusals import RequestRefused
from service.web import application

Answer = AnyResponse | tuple[str, int] | str


@blueprint.route("/invitation/<string:invitation_id>/<string:secret>", methods=["GET", "POST"])
def use_invitation(invitation_id: str, secret: str) -> Answer:
    """Choose a password, or confirm the current one; the link is used up by it, not by looking."""
    throttle.count_address()
    problem = None
    if request.method == "POST":
        try:
            return _enter(invitation_id, secret)
        except InputRefused as error:
            problem = error.sentence
    with application().uow(read_only=True) as uow:
        invitation, user = invitations.find_invitation(uow, invitation_id, secret=secret)
        sign_in = uow.get(SignIn, user.id)
    page = render_template(
        "invitation.html", invitation=invitation, user=user, sign_in=sign_in, problem=problem
    )
    return (page, 422) if problem else page


@blueprint.route("/sign-in/set-up", methods=["GET", "POST"])
def set_up_factor() -> Answer:
    """Set up the second factor that the role needs, before the first session opens."""
    found = find_session()
    if found is None or not found[0].is_pending or found[0].method is not Method.INVITATION:
        return redirect(url_for("pages.sign_in"))
    pending, who = found
    problem = None
    with application().uow(read_only=True) as uow:
        if second_factors.list_factors(uow, who.user_id):  # somebody was faster: ask for it instead
            return redirect(url_for("pages.give_factor"))
    if request.method == "POST":
        try:
            return _set_up(pending, who)
        except (InputRefused, RequestRefused) as error:
            problem = error.sentence
    page = render_set_up("set_up_factor.html", who, pending.id, problem=problem)
    return (page, 422) if problem else page


def render_set_up(template: str, who: Actor, session_id: str, *, problem: str | None) -> str:
    """Show the QR code of an authenticator app, and what makes a passkey."""
    with application().uow() as uow:
        factors = second_factors.list_factors(uow, who.user_id)
        totp = None if factors.totp else second_factors.start_totp(uow, who)
        options = passkeys.start_registration(uow, who, session_id=session_id)
        no_passkeys = passkeys.why_not(uow.settings)
    return render_template(
        template,
        totp=totp,
        code=None if totp is None else _picture(totp.address),
        options=options,
        no_passkeys=no_passkeys,
        problem=problem,
    )


def _picture(address: str) -> Markup:
    """Return a QR code as SVG; it is made here, and nothing in it comes from a person."""
    return Markup(segno.make(address).svg_inline(scale=4, omitsize=True))  # noqa: S704


def add_factor(who: Actor, session_id: str) -> None:
    """Add the factor that the form carries.  Raises: InputRefused, RequestRefused."""
    throttle.count_code(who.user_id)
    with application().uow() as uow:
        if request.form.get("credential"):
            passkeys.add_passkey(
                uow,
                who,
                session_id=session_id,
                credential=request.form["credential"],
                name=request.form.get("passkey_name", ""),
            )
        else:
            second_factors.confirm_totp(
                uow, who, code="".join(request.form.get("factor_code", "").split())
            )


def _enter(invitation_id: str, secret: str) -> AnyResponse:
    password = request.form.get("password", "")
    with application().uow() as uow:
        invitation, user = invitations.find_invitation(uow, invitation_id, secret=secret)
        if invitation.sets_password and password != request.form.get("again", ""):
            raise InputRefused("The password was refused: the two are not the same. Type it again.")
        throttle.count_code(user.id)
        who = invitations.use_invitation(uow, invitation_id, secret=secret, password=password)
        has_factor = bool(second_factors.list_factors(uow, who.user_id))
        is_pending = has_factor or second_factors.needs_factor(uow, who)
        open_session(uow, who, method=Method.INVITATION, is_pending=is_pending)
    if has_factor:
        session["next"] = url_for("pages.show_account")
        return redirect(url_for("pages.give_factor"), code=303)
    if is_pending:
        return redirect(url_for("pages.set_up_factor"), code=303)
    return redirect(url_for("pages.show_account"), code=303)


def _set_up(pending: WebSession, who: Actor) -> str:
    add_factor(who, pending.id)
    with application().uow() as uow:
        codes = second_factors.make_recovery_codes(uow, who)
        sessions.end_session(uow, who, session_id=pending.id)
        open_session(uow, who, method=pending.method, factor_at=uow.now())
    return render_template(
        "recovery_codes.html", codes=codes, onward=url_for("pages.list_releases"), actor=None
    )
