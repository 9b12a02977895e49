"""Users, their links and roles, for operators; one's own sessions and keys, for everybody.

There is no endpoint that makes a key for oneself: a key that could make another would outlive its
own revocation. That is done on the page Account, with a second factor.
"""

from flask import Response
from pydantic import BaseModel

from service import people_resources as p
from service.api.answers import KeyPath, ListQuery, answer, answer_page
from service.api.auth import actor, make_blueprint
from service.domain.accounts import ApiKey, User
from service.domain.errors import InputRefused
from service.domain.permissions import check_may_administer
from service.domain.sign_in import FactorReset
from service.operations import factor_resets, invitations, sessions, users
from service.operations.users import UserView
from service.resources import Identifier
from service.resources import User as UserResource
from service.web import application

blueprint = make_blueprint("people", about="Who may sign in, and how; operators' work.")


class UserPath(BaseModel):
    """A user."""

    user_id: Identifier


class IdentityPath(BaseModel):
    """A linked account elsewhere."""

    identity_id: Identifier


class SessionPath(BaseModel):
    """A browser that is signed in."""

    session_id: Identifier


@blueprint.get("/users", summary="List users", responses={200: p.UserPage})
def list_users(query: ListQuery) -> Response:
    """List the users of every tenant, newest first."""
    with application().uow(read_only=True) as uow:
        page = users.find_users(uow, actor(), cursor=query.cursor, limit=query.limit)
    return answer_page(p.UserPage, page, _user)


@blueprint.get("/users/<string:user_id>", summary="Show a user", responses={200: p.UserFacts})
def get_user(path: UserPath) -> Response:
    """Show a user and how they sign in, without any secret."""
    with application().uow(read_only=True) as uow:
        view = users.get_user(uow, actor(), user_id=path.user_id)
        waiting = factor_resets.open_reset(uow, path.user_id)
    return answer(_facts(view, waiting))


@blueprint.post("/invitations", summary="Invite a user", responses={201: p.Invitation})
def create_invitation(body: p.NewInvitation) -> Response:
    """Make a user and a link, or a new link for a user; the link is in this answer only."""
    check_may_administer(actor())
    with application().uow() as uow:
        if body.user_id is not None:
            made = invitations.invite_again(
                uow, actor(), user_id=body.user_id, sign_in_name=body.sign_in_name
            )
        elif body.tenant_id and body.name and body.sign_in_name:
            made = invitations.invite_user(
                uow,
                actor(),
                tenant_id=body.tenant_id,
                name=body.name,
                roles=body.roles,
                sign_in_name=body.sign_in_name,
            )
        else:
            raise InputRefused(
                "The invitation was refused: give user_id, or tenant_id, name, roles and "
                "sign_in_name of a new user."
            )
    return _answer_invited(made)


@blueprint.post(
    "/users/<string:user_id>/factor-reset",
    summary="Ask to remove a user's second factors",
    responses={202: p.FactorReset},
)
def request_factor_reset(path: UserPath) -> Response:
    """Ask for it: the person is told, and another operator confirms it, or it waits."""
    with application().uow() as uow:
        made = factor_resets.request_reset(uow, actor(), user_id=path.user_id)
    return answer(_reset(made), status=202)


@blueprint.post(
    "/users/<string:user_id>/factor-reset/completion",
    summary="Remove them now",
    responses={201: p.Invitation},
)
def finish_factor_reset(path: UserPath, body: p.ResetCompletion) -> Response:
    """Confirm it as another operator, or do it once its time has come; make a link for a new one."""
    with application().uow() as uow:
        made = invitations.finish_reset(
            uow, actor(), user_id=path.user_id, sign_in_name=body.sign_in_name
        )
    return _answer_invited(made)


@blueprint.delete(
    "/users/<string:user_id>/factor-reset",
    summary="Keep the second factors",
    responses={204: None},
)
def cancel_factor_reset(path: UserPath) -> Response:
    """Cancel the removal: the user themselves does, or an operator."""
    with application().uow() as uow:
        factor_resets.cancel_reset(uow, actor(), user_id=path.user_id)
    return Response(status=204)


@blueprint.put(
    "/users/<string:user_id>/roles", summary="Change roles", responses={200: UserResource}
)
def change_roles(path: UserPath, body: p.NewRoles) -> Response:
    """Give a user other roles; their sessions end."""
    with application().uow() as uow:
        user = users.change_roles(uow, actor(), user_id=path.user_id, roles=body.roles)
    return answer(_user(user))


@blueprint.post(
    "/users/<string:user_id>/disable", summary="Disable a user", responses={200: UserResource}
)
def disable_user(path: UserPath) -> Response:
    """Stop a user's sessions and API keys at once."""
    with application().uow() as uow:
        uow.without_trail("disabling again changes nothing")
        user = users.disable_user(uow, actor(), user_id=path.user_id)
    return answer(_user(user))


@blueprint.post(
    "/users/<string:user_id>/enable", summary="Let a user in again", responses={200: UserResource}
)
def enable_user(path: UserPath) -> Response:
    """Let a disabled user in again."""
    with application().uow() as uow:
        uow.without_trail("enabling again changes nothing")
        user = users.enable_user(uow, actor(), user_id=path.user_id)
    return answer(_user(user))


@blueprint.post(
    "/users/<string:user_id>/identities",
    summary="Link an account elsewhere",
    responses={201: p.Identity},
)
def link_identity(path: UserPath, body: p.NewIdentity) -> Response:
    """Let a user sign in with exactly this issuer and subject."""
    with application().uow() as uow:
        made = users.link_identity(
            uow, actor(), user_id=path.user_id, issuer=body.issuer, subject=body.subject
        )
    view = p.Identity(id=made.id, user_id=made.user_id, issuer=made.issuer, subject=made.subject)
    return answer(view, status=201)


@blueprint.delete("/identities/<string:identity_id>", summary="Unlink it", responses={204: None})
def unlink_identity(path: IdentityPath) -> Response:
    """Take a link away, and end the user's sessions."""
    with application().uow() as uow:
        users.unlink_identity(uow, actor(), identity_id=path.identity_id)
    return Response(status=204)


@blueprint.get("/me/account", summary="Own sessions and keys", responses={200: p.OwnAccount})
def own_account() -> Response:
    """Return where one is signed in, and one's own API keys."""
    with application().uow(read_only=True) as uow:
        found = sessions.list_sessions(uow, actor())
        keys = users.list_own_keys(uow, actor())
        waiting = factor_resets.open_reset(uow, actor().user_id)
    shown = [
        p.WebSession(
            id=one.id,
            method=one.method.value,
            browser=one.browser,
            address=one.address,
            created_at=one.created_at,
            seen_at=one.seen_at,
            expires_at=one.expires_at,
        )
        for one in found
    ]
    return answer(
        p.OwnAccount(
            sessions=shown,
            keys=[_key(key) for key in keys],
            factor_reset=_reset(waiting) if waiting else None,
        )
    )


@blueprint.delete(
    "/me/sessions/<string:session_id>", summary="End an own session", responses={204: None}
)
def end_session(path: SessionPath) -> Response:
    """Sign a browser of one's own out."""
    with application().uow() as uow:
        uow.without_trail("ending what has ended changes nothing")
        sessions.end_session(uow, actor(), session_id=path.session_id)
    return Response(status=204)


@blueprint.delete(
    "/me/api-keys/<string:key_id>", summary="Revoke an own key", responses={204: None}
)
def revoke_own_key(path: KeyPath) -> Response:
    """Revoke one of one's own API keys; it may be the one in use."""
    with application().uow() as uow:
        uow.without_trail("revoking again changes nothing")
        users.revoke_own_key(uow, actor(), key_id=path.key_id)
    return Response(status=204)


def _answer_invited(made: invitations.Invited) -> Response:
    url = application().settings.public_url.rstrip("/") + made.path
    view = p.Invitation(
        user_id=made.user.id,
        url=url,
        expires_at=made.invitation.expires_at,
        sets_password=made.invitation.sets_password,
    )
    return answer(view, status=201)


def _user(user: User) -> UserResource:
    return UserResource(id=user.id, tenant_id=user.tenant_id, name=user.name, roles=user.roles)


def _key(key: ApiKey) -> p.KeyFacts:
    return p.KeyFacts(
        id=key.id,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )


def _reset(found: FactorReset) -> p.FactorReset:
    return p.FactorReset(
        user_id=found.user_id,
        requested_by=found.requested_by,
        requested_at=found.requested_at,
        due_at=found.due_at,
        needs_second=found.needs_second,
    )


def _facts(view: UserView, waiting: FactorReset | None) -> p.UserFacts:
    return p.UserFacts(
        **_user(view.user).model_dump(),
        disabled_at=view.user.disabled_at,
        sign_in_name=view.sign_in.sign_in_name if view.sign_in else None,
        has_password=bool(view.sign_in and view.sign_in.password_hash),
        has_second_factor=bool(view.factors),
        identities=[
            p.Identity(id=one.id, user_id=one.user_id, issuer=one.issuer, subject=one.subject)
            for one in view.identities
        ],
        keys=[_key(key) for key in view.keys],
        factor_reset=_reset(waiting) if waiting else None,
    )
