"""What operators do with users: look, change roles, disable, link; and one's own API keys.

Nobody can act as somebody else: there is no operation for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, ApiKey, Role, Scope, Tenant, User
from service.domain.errors import Conflict, InputRefused, NotFound, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.sign_in import Identity, SignIn
from service.domain.trail import TrailEvent
from service.operations import accounts, second_factors, sessions
from service.operations.notifying import notify
from service.store import journal, sign_in_tables, tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

_identities = sign_in_tables.identities


@dataclass(frozen=True)
class UserView:
    """One user as operators see them: how they sign in, never with what."""

    user: User
    tenant: Tenant
    sign_in: SignIn | None
    factors: second_factors.Factors
    identities: list[Identity]
    keys: list[ApiKey]


def get_user(uow: UnitOfWork, actor: Actor, *, user_id: str) -> UserView:
    """Return a user with their ways to sign in; operators only."""
    permissions.check_may_administer(actor)
    user = load_user(uow, user_id)
    tenant = uow.get(Tenant, user.tenant_id)
    if tenant is None:
        raise NotFound(f"No tenant {user.tenant_id!r} was found.")
    return UserView(
        user=user,
        tenant=tenant,
        sign_in=uow.get(SignIn, user_id),
        factors=second_factors.list_factors(uow, user_id),
        identities=list_identities(uow, user_id),
        keys=_keys_of(uow, user_id),
    )


def find_users(
    uow: UnitOfWork, actor: Actor, *, words: str = "", cursor: str | None = None, limit: int = 50
) -> Page[User]:
    """Return users whose name or sign-in name holds `words`, newest first; operators only."""
    permissions.check_may_administer(actor)
    statement = sa.select(User)
    if words.strip():
        wanted = f"%{_escaped(words.strip()[:100].casefold())}%"
        named = sa.select(sign_in_tables.sign_ins.c.user_id).where(
            sign_in_tables.sign_ins.c.sign_in_name.like(wanted, escape="\\")
        )
        statement = statement.where(
            sa.or_(
                sa.func.lower(tables.users.c.name).like(wanted, escape="\\"),
                tables.users.c.id == words.strip()[:64],
                tables.users.c.id.in_(named),
            )
        )
    return fetch_page(
        uow.session, statement, id_column=tables.users.c.id, cursor=cursor, limit=limit
    )


def load_user(uow: UnitOfWork, user_id: str, *, lock: bool = False) -> User:
    """Return a user.  Raises: NotFound."""
    user = uow.get(User, user_id, lock=lock)
    if user is None:
        raise NotFound(f"No user {user_id!r} was found. Check the identifier.")
    return user


def change_roles(
    uow: UnitOfWork, actor: Actor, *, user_id: str, roles: Iterable[Role | str]
) -> User:
    """Give a user other roles; their sessions end, so that none keeps the old ones.

    Raises: PermissionDenied for one's own roles; InputRefused for unknown ones or none.
    """
    permissions.check_may_administer(actor)
    user = load_user(uow, user_id, lock=True)
    _refuse_oneself(actor, user_id, "Changing roles")
    words = accounts.checked_roles(roles)
    if words == user.roles:
        uow.without_trail("nothing was changed")
        return user
    before, user.roles = user.roles, words
    uow.trail(actor, TrailEvent.USER_CHANGE_ROLES, user_id, before=before, after=words)
    notify(
        uow,
        to=[user_id],
        kind="account.roles",
        subject="An operator changed your roles",
        text=f"You had {', '.join(before)}; now you have {', '.join(words)}.",
        link="/account",
        everywhere=True,
    )
    sessions.end_sessions(uow, actor, user_id=user_id)
    return user


def roles_ever(uow: UnitOfWork, user_id: str) -> set[str]:
    """Return every role that a user has or had, as the trail tells: a role is taken away in a moment."""
    events = (TrailEvent.USER_CREATE.value, TrailEvent.USER_CHANGE_ROLES.value)
    rows = journal.read_rows(
        uow.session, subject=[user_id], only=[tables.journal.c.event.in_(events)]
    )
    found = set(load_user(uow, user_id).roles)
    for row in rows:
        details = row.document["body"]["details"]
        for name in ("roles", "before", "after"):
            found |= set(details.get(name, ()))
    return found


def disable_user(uow: UnitOfWork, actor: Actor, *, user_id: str) -> User:
    """Disable a user: sessions and API keys stop at once. Doing it again changes nothing."""
    permissions.check_may_administer(actor)
    user = load_user(uow, user_id, lock=True)
    _refuse_oneself(actor, user_id, "Disabling")
    if user.disabled_at is None:
        user.disabled_at = uow.now()
        uow.trail(actor, TrailEvent.USER_DISABLE, user_id)
        sessions.end_sessions(uow, actor, user_id=user_id)
    return user


def enable_user(uow: UnitOfWork, actor: Actor, *, user_id: str) -> User:
    """Let a disabled user in again; their old API keys work again unless they were revoked."""
    permissions.check_may_administer(actor)
    user = load_user(uow, user_id, lock=True)
    if user.disabled_at is not None:
        user.disabled_at = None
        uow.trail(actor, TrailEvent.USER_ENABLE, user_id)
    return user


def link_identity(
    uow: UnitOfWork, actor: Actor, *, user_id: str, issuer: str, subject: str
) -> Identity:
    """Let a user sign in with an account elsewhere: exactly this issuer and subject.

    Raises: Conflict if that account is linked to somebody already.
    """
    permissions.check_may_administer(actor)
    load_user(uow, user_id)
    issuer, subject = issuer.strip(), subject.strip()
    if not subject or len(subject) > 255 or not issuer.startswith(("https://", "http://")):
        raise InputRefused(
            "The link was refused: give the issuer's address and the subject (`sub`, up to 255 "
            "characters) that it uses for this person; an e-mail address is not enough.",
            limit=255,
        )
    taken = sa.select(_identities.c.id).where(
        _identities.c.issuer == issuer, _identities.c.subject == subject
    )
    if uow.session.execute(taken).first():
        raise Conflict("The link was refused: this account is linked to a user already.")
    identity = Identity(new_id("idn"), user_id, issuer[:500], subject, uow.now())
    uow.session.add(identity)
    uow.trail(actor, TrailEvent.IDENTITY_LINK, user_id, identity=identity.id)
    _tell_of_link(uow, user_id, "linked an account elsewhere to yours")
    return identity


def unlink_identity(uow: UnitOfWork, actor: Actor, *, identity_id: str) -> None:
    """Take a link away, and end the user's sessions."""
    permissions.check_may_administer(actor)
    identity = uow.get(Identity, identity_id, lock=True)
    if identity is None:
        raise NotFound(f"No identity {identity_id!r} was found. Check the identifier.")
    uow.session.delete(identity)
    uow.trail(actor, TrailEvent.IDENTITY_UNLINK, identity.user_id, identity=identity_id)
    _tell_of_link(uow, identity.user_id, "took away the link of your account elsewhere")
    sessions.end_sessions(uow, actor, user_id=identity.user_id)


def find_identity(uow: UnitOfWork, *, issuer: str, subject: str) -> Identity | None:
    """Return the link of an account elsewhere, compared exactly."""
    wanted = sa.select(Identity).where(
        _identities.c.issuer == issuer, _identities.c.subject == subject
    )
    found: Identity | None = uow.session.execute(wanted).scalars().first()
    return found


def list_identities(uow: UnitOfWork, user_id: str) -> list[Identity]:
    """Return the accounts elsewhere that a user signs in with."""
    wanted = sa.select(Identity).where(_identities.c.user_id == user_id)
    return list(uow.session.execute(wanted.order_by(_identities.c.id)).scalars())


def list_own_keys(uow: UnitOfWork, actor: Actor) -> list[ApiKey]:
    """Return the actor's own API keys that are not revoked, the newest first."""
    return [key for key in _keys_of(uow, actor.user_id) if key.revoked_at is None]


def create_own_key(
    uow: UnitOfWork, actor: Actor, *, scopes: Iterable[Scope | str], lifetime_days: int
) -> tuple[ApiKey, str]:
    """Make an API key for oneself, no stronger than what one is signed in with.

    Raises: PermissionDenied for a scope that the session lacks; InputRefused.
    """
    wanted = {str(scope) for scope in scopes}
    beyond = sorted(wanted - {scope.value for scope in actor.scopes})
    if beyond:
        raise PermissionDenied(
            f"Creating the key was refused: you are signed in without {', '.join(beyond)}. "
            "Sign in with a password, or leave that out."
        )
    return accounts.issue_api_key(
        uow, actor, user_id=actor.user_id, scopes=wanted, lifetime_days=lifetime_days
    )


def revoke_own_key(uow: UnitOfWork, actor: Actor, *, key_id: str) -> None:
    """Revoke one of one's own keys.  Raises: NotFound, for anybody else's as well."""
    key = uow.get(ApiKey, key_id, lock=True)
    if key is None or key.user_id != actor.user_id:
        raise NotFound(f"No API key {key_id!r} was found. Check the identifier.")
    if key.revoked_at is None:
        key.revoked_at = uow.now()
        uow.trail(actor, TrailEvent.API_KEY_REVOKE, key_id)


def _keys_of(uow: UnitOfWork, user_id: str) -> list[ApiKey]:
    wanted = sa.select(ApiKey).where(tables.api_keys.c.user_id == user_id)
    return list(uow.session.execute(wanted.order_by(tables.api_keys.c.id.desc())).scalars())


def _tell_of_link(uow: UnitOfWork, user_id: str, what: str) -> None:
    """Leave a notice: whoever signs in there acts as this user here."""
    notify(
        uow,
        to=[user_id],
        kind="account.link",
        subject=f"An operator {what}",
        text="If you did not ask for it, tell another operator at once.",
        link="/account",
        everywhere=True,
    )


def _refuse_oneself(actor: Actor, user_id: str, what: str) -> None:
    if actor.user_id == user_id:
        raise PermissionDenied(
            f"{what} was refused: nobody does this to their own account. Ask another operator."
        )


def _escaped(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
