"""Passwords: set, checked, hashed again when the parameters change. Kept as argon2id only."""

import threading

import argon2
import sqlalchemy as sa

from service.domain.accounts import Actor, Tenant, User
from service.domain.errors import InputRefused, NotFound
from service.domain.passwords import check_password, normal_form
from service.domain.sign_in import SignIn
from service.domain.trail import TrailEvent
from service.operations import sessions
from service.store import sign_in_tables as tables
from service.store.unit_of_work import UnitOfWork

HASHER = argon2.PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=2)
"""argon2id, 64 MiB: what RFC 9106 asks for where memory is scarce."""

_AT_ONCE = threading.BoundedSemaphore(2)
"""Each hash takes 64 MiB, so a flood of sign-ins waits here instead of filling the memory."""

_NOBODY = HASHER.hash("nobody has this password")
"""Checked where there is no account, so that both answers take the same time."""


def clean_sign_in_name(text: str) -> str:
    """Return a sign-in name in the form that is compared: no outer space, one case."""
    return text.strip().casefold()[:200]


def find_sign_in(uow: UnitOfWork, sign_in_name: str) -> SignIn | None:
    """Return how somebody signs in, by their sign-in name."""
    found = sa.select(SignIn).where(
        tables.sign_ins.c.sign_in_name == clean_sign_in_name(sign_in_name)
    )
    sign_in: SignIn | None = uow.session.execute(found).scalars().first()
    return sign_in


def load_sign_in(uow: UnitOfWork, user_id: str, *, lock: bool = False) -> SignIn:
    """Return how a user signs in.  Raises: NotFound for who has API keys only."""
    found = uow.get(SignIn, user_id, lock=lock)
    if found is None:
        raise NotFound(
            "This account signs in with API keys only. Ask an operator for an invitation."
        )
    return found


def has_passwords(uow: UnitOfWork) -> bool:
    """Tell whether anybody here signs in with a password."""
    found = sa.select(tables.sign_ins.c.user_id).where(tables.sign_ins.c.password_hash.is_not(None))
    return uow.session.execute(found.limit(1)).first() is not None


def is_password_of(sign_in: SignIn | None, password: str) -> bool:
    """Compare a password with an account's, taking as long where there is no account."""
    expected = sign_in.password_hash if sign_in is not None else None
    with _AT_ONCE:
        try:
            HASHER.verify(expected or _NOBODY, normal_form(password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    return expected is not None


def renew_hash(sign_in: SignIn, password: str) -> None:
    """Hash a password that was just checked again, if it was hashed with older parameters."""
    if sign_in.password_hash and HASHER.check_needs_rehash(sign_in.password_hash):
        sign_in.password_hash = _hashed(normal_form(password))


def set_password(
    uow: UnitOfWork, actor: Actor, *, user_id: str, password: str, keep_session_id: str = ""
) -> SignIn:
    """Set a user's own password; every other session of theirs ends.

    Raises: InputRefused for a password that is too short or obvious.
    """
    sign_in = load_sign_in(uow, user_id, lock=True)
    user = uow.get(User, user_id)
    tenant = uow.get(Tenant, user.tenant_id) if user else None
    names = [sign_in.sign_in_name, user.name if user else "", tenant.name if tenant else ""]
    sign_in.password_hash = _hashed(check_password(password, names=names))
    sign_in.password_changed_at = uow.now()
    uow.trail(actor, TrailEvent.PASSWORD_SET, user_id)
    sessions.end_sessions(uow, actor, user_id=user_id, keep=keep_session_id)
    return sign_in


def change_password(
    uow: UnitOfWork, actor: Actor, *, current: str, new: str, keep_session_id: str
) -> None:
    """Change one's own password.  Raises: InputRefused if the current one is wrong."""
    sign_in = load_sign_in(uow, actor.user_id)
    if not is_password_of(sign_in, current):
        raise InputRefused("The change was refused: the current password is wrong. Try again.")
    if current == new:
        raise InputRefused("The change was refused: the new password is the current one.")
    set_password(uow, actor, user_id=actor.user_id, password=new, keep_session_id=keep_session_id)


def _hashed(password: str) -> str:
    with _AT_ONCE:
        return HASHER.hash(password)
