"""Removing somebody's second factors: never by one operator alone and at once.

Whoever may remove a factor and hand out a link to a password could enter as an auditor. So a reset
waits. Where there is another operator, one must confirm it who was not let in by the first one
lately; where there is none, it takes a day (`KAIMA_FACTOR_RESET_HOURS`). The person is told by every
way that is known, keeps the factors until then, can keep them for good, and nothing is approved in
their name meanwhile.
"""

from datetime import timedelta

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, Role, User
from service.domain.errors import Conflict, InputRefused, NotFound, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.sign_in import INVITATION_HOURS, FactorReset, ResetOutcome
from service.domain.trail import TrailEvent
from service.operations import accounts, second_factors, sessions, users
from service.operations.notifying import notify, users_with_role
from service.store import sign_in_tables, tables
from service.store.unit_of_work import UnitOfWork

LATELY = timedelta(days=30)
"""For how long an operator does not count as another one to the operator who let them in."""

_LETTING_IN = frozenset(
    {
        TrailEvent.USER_CREATE.value,
        TrailEvent.USER_INVITE.value,
        TrailEvent.USER_ENABLE.value,
        TrailEvent.USER_CHANGE_ROLES.value,
        TrailEvent.IDENTITY_LINK.value,
        TrailEvent.API_KEY_CREATE.value,
    }
)
_resets = sign_in_tables.factor_resets


def request_reset(uow: UnitOfWork, actor: Actor, *, user_id: str) -> FactorReset:
    """Ask that a user's second factors be removed; they and others are told, nothing happens yet.

    Raises: Conflict if it was asked already; InputRefused for an account that nobody used;
    PermissionDenied for one's own.
    """
    permissions.check_may_administer(actor)
    user = users.load_user(uow, user_id, lock=True)
    if actor.user_id == user_id:
        raise PermissionDenied(
            "The reset was refused: nobody resets their own factors. Another operator asks for it."
        )
    if not accounts.got_in_before(uow, user_id):
        raise InputRefused(
            "The reset was refused: nobody has signed in to this account yet. Send an invitation."
        )
    if open_reset(uow, user_id) is not None:
        raise Conflict("The reset was refused: it was asked for already, and waits.")
    others = [one for one in operators(uow) if _is_other(uow, one, actor.user_id, user_id)]
    reset = FactorReset(
        id=new_id("rst"),
        user_id=user_id,
        requested_by=actor.user_id,
        requested_at=uow.now(),
        due_at=uow.now() + timedelta(hours=uow.settings.factor_reset_hours),
        needs_second=bool(others),
        slot=user_id,
    )
    uow.session.add(reset)
    uow.trail(
        actor,
        TrailEvent.FACTORS_RESET_REQUEST,
        user_id,
        reset=reset.id,
        due_at=reset.due_at.isoformat(),
        needs_second=reset.needs_second,
    )
    _tell(uow, user, reset, others=others)
    return reset


def settle_reset(uow: UnitOfWork, actor: Actor, *, user_id: str) -> User:
    """Remove the factors and end the sessions, once a second operator or the time allows it.

    Raises: NotFound if nothing waits; PermissionDenied with the rule.
    """
    permissions.check_may_administer(actor)
    user = users.load_user(uow, user_id, lock=True)
    reset = _waiting(uow, user_id)
    refusal = why_not_now(uow, actor, reset)
    if refusal is not None:
        raise PermissionDenied(refusal)
    second_factors.remove_all_factors(uow, user_id)
    _end(uow, actor, reset, ResetOutcome.DONE)
    uow.trail(
        actor,
        TrailEvent.FACTORS_RESET,
        user_id,
        reset=reset.id,
        requested_by=reset.requested_by,
        confirmed=actor.user_id != reset.requested_by,
    )
    sessions.end_sessions(uow, actor, user_id=user_id)
    notify(
        uow,
        to=[user_id],
        kind="account.factors_reset",
        subject="Your second factors were removed",
        text="If you did not ask for it, tell an auditor and another operator at once.",
        link="/account",
        everywhere=True,
    )
    return user


def cancel_reset(uow: UnitOfWork, actor: Actor, *, user_id: str) -> FactorReset:
    """Keep the factors: the person themselves says so, or an operator.  Raises: NotFound."""
    if actor.user_id != user_id:
        permissions.check_may_administer(actor)
    reset = _waiting(uow, user_id)
    _end(uow, actor, reset, ResetOutcome.CANCELLED)
    uow.trail(actor, TrailEvent.FACTORS_RESET_CANCEL, user_id, reset=reset.id)
    if actor.user_id == user_id:
        notify(
            uow,
            to=[reset.requested_by],
            kind="account.factors_kept",
            subject="A person keeps their second factors",
            text="They cancelled the reset that you had asked for.",
            link=f"/operator/users/{user_id}",
        )
    return reset


def why_not_now(uow: UnitOfWork, actor: Actor, reset: FactorReset) -> str | None:
    """Return why this operator cannot remove the factors now, or None; buttons show it."""
    if _is_other(uow, actor.user_id, reset.requested_by, reset.user_id):
        return None
    if reset.needs_second:
        return (
            "Removing the factors was refused: another operator must confirm it, not the one who "
            f"asked, nor one whom they let in within the last {LATELY.days} days."
        )
    if actor.user_id == reset.user_id:
        return "Removing the factors was refused: nobody does this to their own account."
    if uow.now() < reset.due_at:
        return (
            f"Removing the factors was refused: it waits until {reset.due_at:%Y-%m-%d %H:%M} UTC, "
            "so that the person can object. Another operator could confirm it at once."
        )
    return None


def open_reset(uow: UnitOfWork, user_id: str) -> FactorReset | None:
    """Return the reset of a user that waits, if there is one."""
    statement = sa.select(FactorReset).where(_resets.c.slot == user_id)
    return uow.session.execute(statement).scalars().first()


def was_reset_lately(uow: UnitOfWork, user_id: str) -> bool:
    """Tell whether a reset was settled while a link of it could still be used."""
    statement = sa.select(_resets.c.id).where(
        _resets.c.user_id == user_id,
        _resets.c.outcome == ResetOutcome.DONE,
        _resets.c.ended_at > uow.now() - timedelta(hours=INVITATION_HOURS),
    )
    return uow.session.execute(statement.limit(1)).first() is not None


def check_settled(uow: UnitOfWork, actor: Actor, what: str) -> None:
    """Refuse to approve in the name of somebody whose factors are about to be removed.

    Raises: PermissionDenied.
    """
    if open_reset(uow, actor.user_id) is not None:
        raise PermissionDenied(
            f"{what} was refused: an operator asked to remove your second factors, and until that is "
            "settled nothing is decided in your name. Keep them on the page Account, or wait."
        )


def operators(uow: UnitOfWork) -> list[str]:
    """Return the operators of every tenant who are not disabled."""
    statement = sa.select(User).where(
        sa.cast(tables.users.c.roles, sa.String).like(f'%"{Role.OPERATOR.value}"%'),
        tables.users.c.disabled_at.is_(None),
    )
    found = uow.session.execute(statement.order_by(tables.users.c.id)).scalars()
    return [user.id for user in found if Role.OPERATOR.value in user.roles]


def _waiting(uow: UnitOfWork, user_id: str) -> FactorReset:
    found = open_reset(uow, user_id)
    if found is None:
        raise NotFound("No reset of second factors waits for this user.")
    uow.session.refresh(found, with_for_update=True)
    return found


def _end(uow: UnitOfWork, actor: Actor, reset: FactorReset, outcome: ResetOutcome) -> None:
    reset.slot, reset.outcome = None, outcome
    reset.ended_by, reset.ended_at = actor.user_id, uow.now()


def _is_other(uow: UnitOfWork, operator_id: str, first_id: str, user_id: str) -> bool:
    """Tell whether an operator is somebody else than the one who asked, and than the person.

    An account that the first one made or opened lately is the first one's own, for all we know.
    """
    if operator_id in {first_id, user_id}:
        return False
    keys = sa.select(tables.api_keys.c.id).where(tables.api_keys.c.user_id == operator_id)
    rows = tables.journal.c
    let_in = sa.select(rows.seq).where(
        rows.subject.in_([operator_id, *uow.session.execute(keys).scalars()]),
        rows.event.in_(sorted(_LETTING_IN)),
        rows.actor == first_id,
        rows.at >= uow.now() - LATELY,
    )
    return uow.session.execute(let_in.limit(1)).first() is None


def _tell(uow: UnitOfWork, user: User, reset: FactorReset, *, others: list[str]) -> None:
    """Tell the person by every way, and those who would notice that it is not they who asked."""
    when = f"{reset.due_at:%Y-%m-%d %H:%M} UTC"
    how = "once another operator confirms it" if reset.needs_second else f"after {when}"
    notify(
        uow,
        to=[user.id],
        kind="account.factor_reset_asked",
        subject="An operator asked to remove your second factors",
        text=f"They will be removed {how}. If you did not ask for it, sign in, keep them on the page "
        "Account, and tell another operator. Until then nothing can be approved in your name.",
        link="/account",
        everywhere=True,
    )
    notify(
        uow,
        to=[one for one in others if one != user.id],
        kind="account.factor_reset_waits",
        subject=f"The second factors of {user.name} are to be removed",
        text="An operator asked for it. Ask the person by a way that you know, then confirm.",
        link=f"/operator/users/{user.id}",
    )
    if Role.AUDITOR.value in user.roles:
        notify(
            uow,
            to=[
                one for one in users_with_role(uow, user.tenant_id, Role.AUDITOR) if one != user.id
            ],
            kind="account.factor_reset_of_auditor",
            subject=f"The second factors of {user.name} are to be removed",
            text="An operator asked for it. If you know that this auditor did not, tell them.",
            link="/review",
        )
