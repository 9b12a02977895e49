"""The operator's pages about people: invite, roles, disable, reset, link. Nobody is impersonated."""

from collections.abc import Callable

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.domain.accounts import Role
from service.domain.errors import DomainError
from service.operations import accounts, factor_resets, invitations, users
from service.operations.invitations import Invited
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.pages.step_up import require_fresh_sign_in
from service.store.unit_of_work import UnitOfWork
from service.web import application

Answer = AnyResponse | tuple[str, int] | str


@blueprint.get("/operator/users")
def list_users() -> str:
    """List users, or those that the search finds."""
    return _users()


@blueprint.post("/operator/users")
def invite_user() -> Answer:
    """Create a user and show the link with which they choose a password."""
    require_fresh_sign_in(back=url_for("pages.list_users"))
    try:
        with application().uow() as uow:
            invited = invitations.invite_user(
                uow,
                actor(),
                tenant_id=request.form.get("tenant_id", ""),
                name=request.form.get("name", ""),
                roles=request.form.getlist("roles"),
                sign_in_name=request.form.get("sign_in_name", ""),
            )
    except DomainError as error:
        return _users(problem=error), error.status
    return _user(invited.user.id, invited=invited)


@blueprint.get("/operator/users/<string:user_id>")
def show_user(user_id: str) -> str:
    """Show one user: roles and ways to sign in, no secret."""
    return _user(user_id)


@blueprint.post("/operator/users/<string:user_id>/<string:action>")
def change_user(user_id: str, action: str) -> Answer:
    """Change roles, disable, enable, invite again, reset factors, link an account elsewhere."""
    require_fresh_sign_in(back=url_for("pages.show_user", user_id=user_id))
    if action not in _ACTS:
        problem = DomainError(f"Nothing was done: {action[:40]!r} is no act on this page.")
        return _user(user_id, problem=problem), problem.status
    try:
        with application().uow() as uow:
            invited = _ACTS[action](uow, user_id)
    except DomainError as error:
        return _user(user_id, problem=error), error.status
    if invited is not None:
        return _user(user_id, invited=invited)
    return redirect(url_for("pages.show_user", user_id=user_id), code=303)


def _change_roles(uow: UnitOfWork, user_id: str) -> None:
    users.change_roles(uow, actor(), user_id=user_id, roles=request.form.getlist("roles"))


def _disable(uow: UnitOfWork, user_id: str) -> None:
    users.disable_user(uow, actor(), user_id=user_id)


def _enable(uow: UnitOfWork, user_id: str) -> None:
    uow.without_trail("enabling somebody who is enabled changes nothing")
    users.enable_user(uow, actor(), user_id=user_id)


def _invite(uow: UnitOfWork, user_id: str) -> Invited:
    return invitations.invite_again(uow, actor(), user_id=user_id, sign_in_name=_given_name())


def _ask_reset(uow: UnitOfWork, user_id: str) -> None:
    factor_resets.request_reset(uow, actor(), user_id=user_id)


def _finish_reset(uow: UnitOfWork, user_id: str) -> Invited:
    return invitations.finish_reset(uow, actor(), user_id=user_id, sign_in_name=_given_name())


def _cancel_reset(uow: UnitOfWork, user_id: str) -> None:
    factor_resets.cancel_reset(uow, actor(), user_id=user_id)


def _link(uow: UnitOfWork, user_id: str) -> None:
    form = request.form
    users.link_identity(
        uow,
        actor(),
        user_id=user_id,
        issuer=form.get("issuer", ""),
        subject=form.get("subject", ""),
    )


def _given_name() -> str | None:
    return request.form.get("sign_in_name") or None


_ACTS: dict[str, Callable[[UnitOfWork, str], Invited | None]] = {
    "roles": _change_roles,
    "disable": _disable,
    "enable": _enable,
    "invite": _invite,
    "reset": _ask_reset,
    "finish-reset": _finish_reset,
    "cancel-reset": _cancel_reset,
    "link": _link,
}


@blueprint.post("/operator/users/<string:user_id>/identities/<string:identity_id>/unlink")
def unlink_identity(user_id: str, identity_id: str) -> AnyResponse:
    """Take the link to an account elsewhere away."""
    require_fresh_sign_in(back=url_for("pages.show_user", user_id=user_id))
    with application().uow() as uow:
        users.unlink_identity(uow, actor(), identity_id=identity_id)
    return redirect(url_for("pages.show_user", user_id=user_id), code=303)


@blueprint.post("/operator/users/<string:user_id>/keys/<string:key_id>/revoke")
def revoke_key(user_id: str, key_id: str) -> AnyResponse:
    """Revoke a user's API key and the sessions that were opened with it."""
    with application().uow() as uow:
        uow.without_trail("revoking what is revoked changes nothing")
        accounts.revoke_api_key(uow, actor(), key_id=key_id)
    return redirect(url_for("pages.show_user", user_id=user_id), code=303)


@blueprint.route("/operator/tenants", methods=["GET", "POST"])
def list_tenants() -> Answer:
    """List tenants, or make one."""
    problem = None
    if request.method == "POST":
        require_fresh_sign_in(back=url_for("pages.list_tenants"))
        try:
            with application().uow() as uow:
                accounts.create_tenant(uow, actor(), name=request.form.get("name", ""))
            return redirect(url_for("pages.list_tenants"), code=303)
        except DomainError as error:
            problem = error
    with application().uow(read_only=True) as uow:
        page = accounts.list_tenants(uow, actor(), cursor=request.args.get("cursor"))
    text = render_template(
        "operator_tenants.html",
        nav="operator",
        here="tenants",
        tenants=page.items,
        next_cursor=page.next_cursor,
        problem=problem.sentence if problem else None,
    )
    return (text, problem.status) if problem else text


def _users(*, problem: DomainError | None = None) -> str:
    words = request.args.get("q", "")
    with application().uow(read_only=True) as uow:
        page = users.find_users(uow, actor(), words=words, cursor=request.args.get("cursor"))
        tenants = accounts.list_tenants(uow, actor(), limit=200).items
    return render_template(
        "operator_users.html",
        nav="operator",
        here="users",
        users=page.items,
        next_cursor=page.next_cursor,
        tenants={tenant.id: tenant.name for tenant in tenants},
        roles=list(Role),
        words=words,
        given=request.form,
        problem=problem.sentence if problem else None,
    )


def _user(
    user_id: str, *, invited: Invited | None = None, problem: DomainError | None = None
) -> str:
    settings = application().settings
    with application().uow(read_only=True) as uow:
        view = users.get_user(uow, actor(), user_id=user_id)
        waiting = factor_resets.open_reset(uow, user_id)
        why_not = factor_resets.why_not_now(uow, actor(), waiting) if waiting else None
        why_no_link = reason(lambda: invitations.check_may_link(uow, actor(), view.user))
    return render_template(
        "operator_user.html",
        nav="operator",
        here="users",
        view=view,
        roles=list(Role),
        link=settings.public_url.rstrip("/") + invited.path if invited else None,
        issuer=settings.oidc_issuer,
        is_oneself=user_id == actor().user_id,
        waiting=waiting,
        why_not_now=why_not,
        why_no_link=why_no_link,
        problem=problem.sentence if problem else None,
    )
