"""Tenants, users, API keys; and the actor behind a token."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import ALL_SCOPES, BOOTSTRAP, Actor, ApiKey, Role, Scope, Tenant, User
from service.domain.errors import Conflict, InputRefused, NotFound, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.sign_in import SignIn
from service.domain.trail import TrailEvent
from service.operations.notifying import notify
from service.store import sign_in_tables, tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

_TOKEN = re.compile(r"kaima_(key_[0-9a-f]{28})_([A-Za-z0-9_-]{43})")
_NAME_LIMIT = 200


def create_tenant(uow: UnitOfWork, actor: Actor, *, name: str) -> Tenant:
    """Create a tenant.  Raises: Conflict if the name is taken."""
    permissions.check_may_administer(actor)
    name = _checked_name(name, "tenant")
    taken = sa.select(tables.tenants.c.id).where(tables.tenants.c.name == name)
    if uow.session.execute(taken).first():
        raise Conflict(f"A tenant named {name!r} exists already. Choose another name.")
    tenant = Tenant(new_id("ten"), name, uow.now())
    uow.session.add(tenant)
    uow.trail(actor, TrailEvent.TENANT_CREATE, tenant.id)
    return tenant


def create_user(
    uow: UnitOfWork, actor: Actor, *, tenant_id: str, name: str, roles: Iterable[Role | str]
) -> User:
    """Create a user with at least one role.  Raises: NotFound, Conflict, InputRefused."""
    permissions.check_may_administer(actor)
    name = _checked_name(name, "user")
    if uow.get(Tenant, tenant_id) is None:
        raise NotFound(f"No tenant {tenant_id!r} was found. Check the identifier.")
    taken = sa.select(tables.users.c.id).where(
        tables.users.c.tenant_id == tenant_id, tables.users.c.name == name
    )
    if uow.session.execute(taken).first():
        raise Conflict(f"This tenant has a user named {name!r} already. Choose another name.")
    user = User(new_id("usr"), tenant_id, name, checked_roles(roles), uow.now())
    uow.session.add(user)
    uow.trail(actor, TrailEvent.USER_CREATE, user.id, roles=user.roles)
    return user


def create_api_key(
    uow: UnitOfWork,
    actor: Actor,
    *,
    user_id: str,
    scopes: Iterable[Scope | str] = ALL_SCOPES,
    lifetime_days: int | None = None,
) -> tuple[ApiKey, str]:
    """Create a key; return it with its text, which is stored nowhere and shown once.

    For somebody else only the first one, while they have no other way in, and they get a notice:
    whoever holds a key acts as its user.  Raises: NotFound, PermissionDenied.
    """
    permissions.check_may_administer(actor)
    if uow.get(User, user_id, lock=True) is None:
        raise NotFound(f"No user {user_id!r} was found. Check the identifier.")
    is_elses = actor.user_id not in {user_id, BOOTSTRAP.user_id}
    if is_elses and has_way_in(uow, user_id):
        raise PermissionDenied(
            "Creating the key was refused: this user has a way to sign in or had a key before, and "
            "another one would let its holder act as them. They make their own keys on the page "
            "Account; if they cannot sign in any more, send them an invitation."
        )
    made = issue_api_key(uow, actor, user_id=user_id, scopes=scopes, lifetime_days=lifetime_days)
    if is_elses:
        notify(
            uow,
            to=[user_id],
            kind="account.new_key",
            subject="An operator made an API key of yours",
            text="If it was not handed to you, revoke it and tell another operator at once.",
            link="/account",
            everywhere=True,
        )
    return made


def issue_api_key(
    uow: UnitOfWork,
    actor: Actor,
    *,
    user_id: str,
    scopes: Iterable[Scope | str],
    lifetime_days: int | None,
) -> tuple[ApiKey, str]:
    """Make a key; the caller has asked whether the actor may."""
    expires_at = None
    if lifetime_days is not None:
        if not 1 <= lifetime_days <= 3650:
            raise InputRefused(
                f"A lifetime of {lifetime_days} days was refused. Choose 1 to 3650.",
                value=lifetime_days,
            )
        expires_at = uow.now() + timedelta(days=lifetime_days)
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        new_id("key"),
        user_id,
        hashlib.sha256(secret.encode()).hexdigest(),
        _words(Scope, scopes, "scope"),
        uow.now(),
        expires_at,
    )
    uow.session.add(key)
    uow.trail(actor, TrailEvent.API_KEY_CREATE, key.id, user=user_id, scopes=key.scopes)
    return key, f"kaima_{key.id}_{secret}"


def revoke_api_key(uow: UnitOfWork, actor: Actor, *, key_id: str) -> ApiKey:
    """Revoke a key at once; revoking it again changes nothing."""
    permissions.check_may_administer(actor)
    key = uow.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"No API key {key_id!r} was found. Check the identifier.")
    if key.revoked_at is None:
        key.revoked_at = uow.now()
        uow.trail(actor, TrailEvent.API_KEY_REVOKE, key.id)
    return key


def authenticate(uow: UnitOfWork, token: str) -> Actor:
    """Return the actor behind a token.

    Raises: PermissionDenied with one and the same sentence, whatever is wrong with it.
    """
    refusal = PermissionDenied("The API key was refused: unknown, expired or revoked.")
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise refusal
    key = uow.get(ApiKey, match[1])
    digest = hashlib.sha256(match[2].encode()).hexdigest()
    expected = key.secret_sha256 if key else "0" * 64
    if not hmac.compare_digest(digest, expected) or key is None:
        raise refusal
    if key.revoked_at or (key.expires_at and key.expires_at <= uow.now()):
        raise refusal
    return load_actor(uow, user_id=key.user_id, scopes=key.scopes)


def load_actor(
    uow: UnitOfWork, *, user_id: str, scopes: Iterable[Scope | str] = ALL_SCOPES
) -> Actor:
    """Return a user as an actor.  Raises: PermissionDenied for an unknown or disabled user."""
    user = uow.get(User, user_id)
    if user is None or user.disabled_at is not None:
        raise PermissionDenied("The API key was refused: unknown, expired or revoked.")
    return Actor(
        user.id,
        user.tenant_id,
        frozenset(Role(role) for role in user.roles),
        frozenset(Scope(scope) for scope in scopes),
        user.name,
    )


def list_users(
    uow: UnitOfWork, actor: Actor, *, cursor: str | None = None, limit: int = 50
) -> Page[User]:
    """Return users of every tenant, newest first; operators only."""
    permissions.check_may_administer(actor)
    return fetch_page(
        uow.session, sa.select(User), id_column=tables.users.c.id, cursor=cursor, limit=limit
    )


def list_tenants(
    uow: UnitOfWork, actor: Actor, *, cursor: str | None = None, limit: int = 50
) -> Page[Tenant]:
    """Return tenants, newest first; operators only."""
    permissions.check_may_administer(actor)
    return fetch_page(
        uow.session, sa.select(Tenant), id_column=tables.tenants.c.id, cursor=cursor, limit=limit
    )


def checked_roles(roles: Iterable[Role | str]) -> list[str]:
    """Return roles as sorted words.  Raises: InputRefused for an unknown one, or for none."""
    return _words(Role, roles, "role")


def _checked_name(name: str, what: str) -> str:
    name = name.strip()
    if not name or len(name) > _NAME_LIMIT or not name.isprintable():
        raise InputRefused(
            f"The {what} name was refused: give 1 to {_NAME_LIMIT} printable characters.",
            limit=_NAME_LIMIT,
        )
    return name


def has_way_in(uow: UnitOfWork, user_id: str) -> bool:
    """Tell whether a user can sign in, or could: keys that are over count, or one would revoke them."""
    return uow.get(SignIn, user_id) is not None or _has_credential(uow, user_id)


def got_in_before(uow: UnitOfWork, user_id: str) -> bool:
    """Tell whether a user may have signed in: an invitation that nobody took up is no way yet."""
    sign_in = uow.get(SignIn, user_id)
    has_password = sign_in is not None and sign_in.password_hash is not None
    return has_password or _has_credential(uow, user_id)


def _has_credential(uow: UnitOfWork, user_id: str) -> bool:
    ways = (sign_in_tables.passkeys, sign_in_tables.identities, tables.api_keys)
    return any(
        uow.session.execute(
            sa.select(way.c.user_id).where(way.c.user_id == user_id).limit(1)
        ).first()
        for way in ways
    )


def _words(
    kind: type[Role] | type[Scope], given: Iterable[Role | Scope | str], what: str
) -> list[str]:
    known = {member.value for member in kind}
    words = sorted({str(word) for word in given})
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        raise InputRefused(
            f"The list of {what}s was refused: {unknown or 'it is empty'}. "
            f"Choose from: {', '.join(sorted(known))}.",
            value=unknown,
        )
    return words
