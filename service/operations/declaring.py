"""Declare licence, data use terms and citation of a release while it may still be revised."""

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.declarations import ReleaseDeclaration
from service.domain.errors import IllegalTransition
from service.domain.releases import Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.reviewing import check_revision
from service.store.unit_of_work import UnitOfWork

REVISABLE = frozenset({ReleaseState.DRAFT, ReleaseState.RETURNED})


def declare_release(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    declaration: ReleaseDeclaration,
    if_match: str | None,
) -> Release:
    """Replace what is declared about a DRAFT or RETURNED release: auditors vote on it as well.

    Raises: NotFound, PermissionDenied, IllegalTransition, PreconditionFailed.
    """
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    if release.state not in REVISABLE:
        raise IllegalTransition(
            f"Declaring was refused: release {release.id} is {release.state.value}. Licence, uses "
            "and citation are part of what auditors approve; only a draft or a returned release "
            "may be changed.",
            state=release.state.value,
        )
    release.declared = declaration.model_dump(mode="json", exclude_defaults=True)
    uow.trail(
        actor,
        TrailEvent.RELEASE_DECLARE,
        release.id,
        licence=declaration.licence,
        duo=list(declaration.duo),
    )
    return release


def declaration_of(release: Release) -> ReleaseDeclaration:
    """Return what is declared about a release; defaults where nothing is."""
    return ReleaseDeclaration.model_validate(release.declared or {})
