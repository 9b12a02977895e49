"""Tenants, users, API keys, and who am I."""

from flask import Response

from service import resources as r
from service.api.answers import KeyPath, answer
from service.api.auth import actor, make_blueprint
from service.domain.accounts import ALL_SCOPES
from service.operations import accounts
from service.web import application

blueprint = make_blueprint("accounts", about="Who may use this service; operators' work.")


@blueprint.get("/me", summary="Who the API key acts for", responses={200: r.Me})
def me() -> Response:
    """Return the actor of this API key."""
    found = actor()
    return answer(
        r.Me(
            user_id=found.user_id,
            tenant_id=found.tenant_id,
            roles=sorted(found.roles),
            scopes=sorted(found.scopes),
        )
    )


@blueprint.post("/tenants", summary="Create a tenant", responses={201: r.Tenant})
def create_tenant(body: r.NewTenant) -> Response:
    """Create a hospital or another organisation."""
    with application().uow() as uow:
        tenant = accounts.create_tenant(uow, actor(), name=body.name)
    return answer(r.Tenant(id=tenant.id, name=tenant.name), status=201)


@blueprint.post("/users", summary="Create a user", responses={201: r.User})
def create_user(body: r.NewUser) -> Response:
    """Create a person or program that acts in a tenant."""
    with application().uow() as uow:
        user = accounts.create_user(
            uow, actor(), tenant_id=body.tenant_id, name=body.name, roles=body.roles
        )
    view = r.User(id=user.id, tenant_id=user.tenant_id, name=user.name, roles=user.roles)
    return answer(view, status=201)


@blueprint.post("/api-keys", summary="Create an API key", responses={201: r.ApiKey})
def create_api_key(body: r.NewApiKey) -> Response:
    """Create an API key; its token is in this answer and nowhere else."""
    with application().uow() as uow:
        key, token = accounts.create_api_key(
            uow,
            actor(),
            user_id=body.user_id,
            scopes=body.scopes or ALL_SCOPES,
            lifetime_days=body.expires_in_days,
        )
    view = r.ApiKey(
        id=key.id, user_id=key.user_id, token=token, scopes=key.scopes, expires_at=key.expires_at
    )
    return answer(view, status=201)


@blueprint.delete("/api-keys/<string:key_id>", summary="Revoke an API key", responses={204: None})
def revoke_api_key(path: KeyPath) -> Response:
    """Revoke an API key and every session opened with it."""
    with application().uow() as uow:
        accounts.revoke_api_key(uow, actor(), key_id=path.key_id)
    return Response(status=204)
