"""Second factors: authenticator codes (TOTP) and recovery codes. Passkeys are in `passkeys`."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import pyotp
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.domain.accounts import Actor, Role
from service.domain.errors import InputRefused
from service.domain.identifiers import new_id
from service.domain.sign_in import RECOVERY_CODES, Passkey, RecoveryCode, SignIn
from service.domain.trail import TrailEvent
from service.operations.passwords import load_sign_in
from service.store import sign_in_tables as tables
from service.store.unit_of_work import UnitOfWork

STEP_SECONDS = 30
_NONCE_BYTES = 12
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no letter that looks like another
_CODE_LENGTH = 16  # 79 bits, so that a plain hash of it cannot be searched
_WRONG = "The code was refused: it is wrong, has expired or was used before. Wait for the next one."


@dataclass(frozen=True)
class Factors:
    """What a user can confirm with."""

    totp: bool
    passkeys: list[Passkey]
    recovery_codes_left: int

    def __bool__(self) -> bool:
        """Tell whether there is any; recovery codes alone are none."""
        return self.totp or bool(self.passkeys)


@dataclass(frozen=True)
class NewTotp:
    """The secret of an authenticator app, shown while it is set up."""

    secret: str
    address: str


def list_factors(uow: UnitOfWork, user_id: str) -> Factors:
    """Return the second factors of a user."""
    sign_in = uow.get(SignIn, user_id)
    keys = sa.select(Passkey).where(tables.passkeys.c.user_id == user_id)
    codes = sa.select(sa.func.count()).where(
        tables.recovery_codes.c.user_id == user_id, tables.recovery_codes.c.used_at.is_(None)
    )
    return Factors(
        totp=sign_in is not None and sign_in.has_totp,
        passkeys=list(uow.session.execute(keys.order_by(tables.passkeys.c.id)).scalars()),
        recovery_codes_left=int(uow.session.execute(codes).scalar_one()),
    )


def needs_factor(uow: UnitOfWork, actor: Actor) -> bool:
    """Tell whether the policy asks the actor for a second factor after a password."""
    return roles_need_factor(uow, actor.roles)


def roles_need_factor(uow: UnitOfWork, roles: Iterable[Role | str]) -> bool:
    """Tell whether the policy asks somebody with these roles for a second factor."""
    named = {word.strip() for word in uow.settings.second_factor_roles.split(",")}
    return bool(named & {str(role) for role in roles})


def start_totp(uow: UnitOfWork, actor: Actor) -> NewTotp:
    """Make the secret of an authenticator app; it counts once a code of it was given."""
    sign_in = load_sign_in(uow, actor.user_id, lock=True)
    _refuse_second_app(sign_in)
    if sign_in.totp_sealed is None:
        sign_in.totp_sealed = _seal(uow, actor.user_id, pyotp.random_base32())
    uow.without_trail("nothing counts before a code was given")
    secret = _open(uow, sign_in)
    issuer = uow.settings.publisher
    return NewTotp(
        secret, pyotp.TOTP(secret).provisioning_uri(name=sign_in.sign_in_name, issuer_name=issuer)
    )


def confirm_totp(uow: UnitOfWork, actor: Actor, *, code: str) -> None:
    """Set the authenticator app up with a first code.  Raises: InputRefused."""
    sign_in = load_sign_in(uow, actor.user_id, lock=True)
    _refuse_second_app(sign_in)
    if not _take_code(uow, sign_in, code):
        raise InputRefused(
            "The code was refused: it does not belong to this QR code. Check the clock of the "
            "device, then type the code that the app shows now."
        )
    sign_in.totp_added_at = uow.now()
    uow.trail(actor, TrailEvent.FACTOR_ADD, actor.user_id, kind="totp")


def remove_totp(uow: UnitOfWork, actor: Actor) -> None:
    """Take one's authenticator app away."""
    sign_in = load_sign_in(uow, actor.user_id, lock=True)
    check_may_remove_factor(uow, actor)
    sign_in.totp_sealed = sign_in.totp_added_at = None
    uow.trail(actor, TrailEvent.FACTOR_REMOVE, actor.user_id, kind="totp")


def check_may_remove_factor(uow: UnitOfWork, actor: Actor) -> None:
    """Refuse to remove the last factor of somebody who needs one."""
    found = list_factors(uow, actor.user_id)
    if needs_factor(uow, actor) and int(found.totp) + len(found.passkeys) <= 1:
        raise InputRefused(
            "Removing was refused: your role needs a second factor and this is the last one. "
            "Add another one first."
        )


def use_code(uow: UnitOfWork, actor: Actor, *, code: str) -> None:
    """Take an authenticator code, or a recovery code, once.  Raises: InputRefused.

    Which of the two was wrong is told nowhere.
    """
    text = "".join(code.split()).replace("-", "").casefold()
    sign_in = uow.get(SignIn, actor.user_id, lock=True)
    if sign_in is not None and sign_in.has_totp and text.isdigit():
        if _take_code(uow, sign_in, text):
            uow.without_trail("what the code is good for is in the trail")
            return
    elif _take_recovery_code(uow, actor, text):
        return
    raise InputRefused(_WRONG)


def make_recovery_codes(uow: UnitOfWork, actor: Actor) -> list[str]:
    """Make a new set of recovery codes, which voids the old one; return them, shown once."""
    uow.execute_update(
        sa.delete(tables.recovery_codes).where(tables.recovery_codes.c.user_id == actor.user_id)
    )
    codes = [_new_code() for _ in range(RECOVERY_CODES)]
    for code in codes:
        digest = _code_digest(actor.user_id, code)
        uow.session.add(RecoveryCode(new_id("rec"), actor.user_id, digest))
    uow.trail(actor, TrailEvent.RECOVERY_CODES_MAKE, actor.user_id, count=len(codes))
    return ["-".join(code[at : at + 4] for at in range(0, _CODE_LENGTH, 4)) for code in codes]


def remove_all_factors(uow: UnitOfWork, user_id: str) -> None:
    """Remove every second factor of a user; the caller records why."""
    sign_in = uow.get(SignIn, user_id, lock=True)
    if sign_in is not None:
        sign_in.totp_sealed = sign_in.totp_added_at = None
    for table in (tables.passkeys, tables.recovery_codes):
        uow.execute_update(sa.delete(table).where(table.c.user_id == user_id))


def _take_code(uow: UnitOfWork, sign_in: SignIn, code: str) -> bool:
    """Compare with the codes of this step and its neighbours; none is taken twice."""
    if sign_in.totp_sealed is None:
        return False
    totp = pyotp.TOTP(_open(uow, sign_in), interval=STEP_SECONDS)
    now = int(uow.now().timestamp()) // STEP_SECONDS
    for step in (now - 1, now, now + 1):
        is_new = step > sign_in.totp_last_step
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode()) and is_new:
            sign_in.totp_last_step = step
            return True
    return False


def _take_recovery_code(uow: UnitOfWork, actor: Actor, code: str) -> bool:
    taken = uow.execute_update(
        sa.update(tables.recovery_codes)
        .where(
            tables.recovery_codes.c.user_id == actor.user_id,
            tables.recovery_codes.c.digest == _code_digest(actor.user_id, code),
            tables.recovery_codes.c.used_at.is_(None),
        )
        .values(used_at=uow.now())
    )
    if taken == 1:
        uow.trail(actor, TrailEvent.RECOVERY_CODE_USE, actor.user_id)
    return taken == 1


def _refuse_second_app(sign_in: SignIn) -> None:
    if sign_in.has_totp:
        raise InputRefused(
            "Setting up was refused: an authenticator app is set up already. Remove it first."
        )


def _new_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))


def _code_digest(user_id: str, code: str) -> str:
    return hashlib.sha256(f"{user_id}\x00{code}".encode()).hexdigest()


def _seal(uow: UnitOfWork, user_id: str, secret: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    key = AESGCM(uow.keys.second_factor_key(user_id))
    return nonce + key.encrypt(nonce, secret.encode(), user_id.encode())


def _open(uow: UnitOfWork, sign_in: SignIn) -> str:
    sealed = sign_in.totp_sealed or b""
    key = AESGCM(uow.keys.second_factor_key(sign_in.user_id))
    opened = key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], sign_in.user_id.encode())
    return opened.decode()
