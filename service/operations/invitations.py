"""Links that are good once: to choose a first password, or to mend a lost one or a lost factor.

Operators hand links out and never learn a password. A link to mend a lost second factor still asks
for the password, and one for a lost password still asks for the second factor. Since the same
operator hands out both, a factor is removed only after another operator confirmed it, or after a
time in which the person can object (`factor_resets`).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, Role, User
from service.domain.errors import Conflict, InputRefused, NotFound, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.sign_in import INVITATION_HOURS, Invitation, SignIn
from service.domain.trail import TrailEvent
from service.operations import accounts, factor_resets, passwords, second_factors, users
from service.operations.notifying import notify
from service.store import sign_in_tables as tables
from service.store.unit_of_work import UnitOfWork

_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{3,200}")
_OVER = (
    "This link cannot be used: it is wrong, was used before or has expired. "
    "Ask an operator for another one."
)
_invitations = tables.invitations


@dataclass(frozen=True)
class Invited:
    """Who was invited, and the path of the page that the link leads to, shown once."""

    user: User
    invitation: Invitation
    path: str


def invite_user(
    uow: UnitOfWork,
    actor: Actor,
    *,
    tenant_id: str,
    name: str,
    roles: Iterable[Role | str],
    sign_in_name: str,
) -> Invited:
    """Create a user and the link with which they choose their own password.

    Raises: NotFound, Conflict for a taken name, InputRefused.
    """
    user = accounts.create_user(uow, actor, tenant_id=tenant_id, name=name, roles=roles)
    uow.session.flush()
    return invite_again(uow, actor, user_id=user.id, sign_in_name=sign_in_name)


def invite_again(
    uow: UnitOfWork, actor: Actor, *, user_id: str, sign_in_name: str | None = None
) -> Invited:
    """Make a link for a user who has no password yet or lost it; older links stop working.

    A user who signed in with API keys only so far needs a `sign_in_name`.
    Raises: PermissionDenied where the link alone would be enough to enter as an auditor.
    """
    permissions.check_may_administer(actor)
    user = users.load_user(uow, user_id)
    known = uow.get(SignIn, user_id)
    check_may_link(uow, actor, user)
    if accounts.has_way_in(uow, user_id):
        _tell(
            uow,
            user_id,
            kind="account.new_password",
            subject="An operator made a link to choose a password of yours",
            text="If you did not ask for it, tell another operator at once.",
        )
    if known is None:
        _add_sign_in(uow, user_id, sign_in_name or "")
    elif sign_in_name:
        raise InputRefused(
            "The invitation was refused: this user has a sign-in name already. Leave it out."
        )
    return _issue(uow, actor, user, sets_password=True)


def finish_reset(
    uow: UnitOfWork, actor: Actor, *, user_id: str, sign_in_name: str | None = None
) -> Invited:
    """Remove a user's second factors once that is allowed, and make a link for a new one.

    Raises: NotFound if no reset waits; PermissionDenied with the rule; InputRefused without a
    `sign_in_name` for who has none yet.
    """
    user = factor_resets.settle_reset(uow, actor, user_id=user_id)
    known = uow.get(SignIn, user_id)
    if known is None:
        _add_sign_in(uow, user_id, sign_in_name or "")
    sets_password = known is None or known.password_hash is None
    return _issue(uow, actor, user, sets_password=sets_password)


def check_may_link(uow: UnitOfWork, actor: Actor, user: User) -> None:
    """Refuse a link to a password for who needs a second factor, has none, and got in before.

    Whoever took it would set up the factor as well, so that it must wait like a reset. One's own
    link gives nothing that one has not.  Raises: PermissionDenied.
    """
    if (
        actor.user_id != user.id
        and second_factors.roles_need_factor(uow, users.roles_ever(uow, user.id))
        and accounts.got_in_before(uow, user.id)
        and not second_factors.list_factors(uow, user.id)
        and not factor_resets.was_reset_lately(uow, user.id)
    ):
        raise PermissionDenied(
            "The link was refused: the roles that this person has or had need a second factor, the "
            "account has none, and so the link alone would let its holder act as them. Ask for a "
            "reset of the second factors first, which waits for another operator, or for its time."
        )


def find_invitation(
    uow: UnitOfWork, invitation_id: str, *, secret: str, lock: bool = False
) -> tuple[Invitation, User]:
    """Return a link that can still be used, and whose it is.

    Raises: NotFound with one sentence, whatever is wrong with it.
    """
    found = uow.get(Invitation, invitation_id, lock=lock)
    if found is None or not hmac.compare_digest(_digest(secret), found.digest):
        raise NotFound(_OVER)
    user = uow.get(User, found.user_id)
    is_over = found.used_at or found.revoked_at or found.expires_at <= uow.now()
    if is_over or user is None or user.disabled_at is not None:
        raise NotFound(_OVER)
    return found, user


def use_invitation(uow: UnitOfWork, invitation_id: str, *, secret: str, password: str) -> Actor:
    """Use a link up: set the password, or check the current one. Return whose link it was.

    Raises: NotFound; InputRefused for a password that is refused or wrong. Nothing is used up then.
    """
    invitation, user = find_invitation(uow, invitation_id, secret=secret, lock=True)
    who = accounts.load_actor(uow, user_id=user.id)
    if invitation.sets_password:
        passwords.set_password(uow, who, user_id=user.id, password=password)
    elif not passwords.is_password_of(uow.get(SignIn, user.id), password):
        raise InputRefused("The link was not used: the password is wrong. Try again.")
    invitation.used_at = uow.now()
    uow.trail(who, TrailEvent.INVITATION_USE, user.id, invitation=invitation.id)
    return who


def _issue(uow: UnitOfWork, actor: Actor, user: User, *, sets_password: bool) -> Invited:
    uow.execute_update(
        sa.update(_invitations)
        .where(
            _invitations.c.user_id == user.id,
            _invitations.c.used_at.is_(None),
            _invitations.c.revoked_at.is_(None),
        )
        .values(revoked_at=uow.now())
    )
    secret = secrets.token_hex(24)
    invitation = Invitation(
        id=new_id("inv"),
        user_id=user.id,
        digest=_digest(secret),
        sets_password=sets_password,
        created_by=actor.user_id,
        created_at=uow.now(),
        expires_at=uow.now() + timedelta(hours=INVITATION_HOURS),
    )
    uow.session.add(invitation)
    uow.trail(
        actor, TrailEvent.USER_INVITE, user.id, invitation=invitation.id, password=sets_password
    )
    return Invited(user, invitation, f"/invitation/{invitation.id}/{secret}")


def _tell(uow: UnitOfWork, user_id: str, *, kind: str, subject: str, text: str) -> None:
    """Leave a notice: whoever takes an account over by a link cannot do it unseen."""
    notify(
        uow,
        to=[user_id],
        kind=kind,
        subject=subject,
        text=text,
        link="/account",
        everywhere=True,
    )


def _add_sign_in(uow: UnitOfWork, user_id: str, sign_in_name: str) -> None:
    name = passwords.clean_sign_in_name(sign_in_name)
    if not _NAME.fullmatch(name):
        raise InputRefused(
            f"The sign-in name {name[:60]!r} was refused: give 3 to 200 characters without "
            "spaces, an e-mail address for example.",
            limit=200,
        )
    if passwords.find_sign_in(uow, name) is not None:
        raise Conflict(f"The sign-in name {name!r} is taken. Choose another one.")
    uow.session.add(SignIn(user_id, name, uow.now()))
    uow.session.flush()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
