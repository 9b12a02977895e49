"""Who was named to review a release. Without names, any two auditors who may judge it do."""

import sqlalchemy as sa

from service.domain.accounts import Actor
from service.domain.errors import PermissionDenied
from service.domain.releases import Release
from service.domain.reviews import Assignment
from service.store import review_tables
from service.store.unit_of_work import UnitOfWork

_assignments = review_tables.review_assignments


def active_assignments(uow: UnitOfWork, release: Release) -> list[Assignment]:
    """Return the assignments that hold, oldest first."""
    statement = (
        sa.select(Assignment)
        .where(_assignments.c.release_id == release.id, _assignments.c.ended_at.is_(None))
        .order_by(_assignments.c.id)
    )
    return list(uow.session.execute(statement).scalars())


def past_assignments(uow: UnitOfWork, release: Release) -> list[Assignment]:
    """Return the assignments that were replaced or handed on, oldest first."""
    statement = (
        sa.select(Assignment)
        .where(_assignments.c.release_id == release.id, _assignments.c.ended_at.is_not(None))
        .order_by(_assignments.c.id)
    )
    return list(uow.session.execute(statement).scalars())


def check_assigned(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """Refuse whoever was not named, where auditors were.  Raises: PermissionDenied."""
    named = active_assignments(uow, release)
    if named and all(item.auditor_id != actor.user_id for item in named):
        raise PermissionDenied(
            "Reviewing this release was refused: it is assigned to two other auditors. Ask one of "
            "them to hand it to you."
        )
