"""Say in which lab a person works, so that nobody reviews what their own lab made."""

from service.domain import permissions
from service.domain.accounts import Actor, User
from service.domain.errors import InputRefused, NotFound
from service.domain.trail import TrailEvent
from service.store.unit_of_work import UnitOfWork

_LIMIT = 200


def change_lab(uow: UnitOfWork, actor: Actor, *, user_id: str, lab: str) -> User:
    """Record a user's lab; an empty one means none.  Raises: NotFound, PermissionDenied."""
    permissions.check_may_administer(actor)
    user = uow.get(User, user_id, lock=True)
    if user is None:
        raise NotFound(f"No user {user_id!r} was found. Check the identifier.")
    lab = " ".join(lab.split())
    if len(lab) > _LIMIT or not lab.isprintable():
        raise InputRefused(
            f"The lab was refused: {len(lab)} characters; give at most {_LIMIT} printable ones.",
            value=len(lab),
            limit=_LIMIT,
        )
    user.lab = lab
    uow.trail(actor, TrailEvent.USER_CHANGE_LAB, user.id, lab=lab)
    return user
