"""May this actor do this to a review? The rest of `permissions`, for what surrounds a vote."""

from service.domain.accounts import Actor, Role, Scope
from service.domain.errors import IllegalTransition, NotFound, PermissionDenied
from service.domain.permissions import check_scope, is_insider, is_visible
from service.domain.releases import Release, ReleaseState

OPEN = frozenset({ReleaseState.SUBMITTED, ReleaseState.UNDER_REVIEW})
"""States in which auditors vote."""
DISCUSSED = OPEN | {ReleaseState.RETURNED, ReleaseState.APPROVED}
"""States in which something may be said."""


def check_open(release: Release, *, what: str) -> None:
    """Refuse what only makes sense while auditors decide.  Raises: IllegalTransition."""
    if release.state not in OPEN:
        raise IllegalTransition(
            f"{what} was refused: release {release.id} is {release.state.value}, not under review.",
            state=release.state.value,
        )


def check_may_comment(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor is a data owner or an auditor of its tenant."""
    release = check_may_read_comments(actor, release, asked=asked)
    if actor.has(Role.AUDITOR):
        check_scope(actor, "Commenting on a release", Scope.REVIEWS)
    else:
        check_scope(actor, "Commenting on a release", Scope.RELEASES)
    if release.state not in DISCUSSED:
        raise IllegalTransition(
            f"The comment was refused: release {release.id} is {release.state.value}. Comments are "
            "made while it is submitted, under review, returned or approved.",
            state=release.state.value,
        )
    return release


def check_may_read_comments(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor is an insider of its tenant."""
    if release is None or release.tenant_id != actor.tenant_id or not is_visible(actor, release):
        raise NotFound(f"No release {asked!r} was found. Check the identifier.")
    if not is_insider(actor, release):
        raise PermissionDenied(
            "Reading comments was refused: only a data owner or an auditor may. Ask an operator."
        )
    check_scope(actor, "Reading comments", Scope.READ)
    return release


def check_may_approve_plans(actor: Actor) -> None:
    """Auditors approve training plans."""
    if not actor.has(Role.AUDITOR):
        raise PermissionDenied(
            "Deciding about a training plan was refused: only an auditor may. Ask an operator."
        )
    check_scope(actor, "Deciding about a training plan", Scope.REVIEWS)


def check_may_manage_webhooks(actor: Actor) -> None:
    """Data owners manage the webhooks of their tenant, operators those of theirs."""
    if not (actor.has(Role.DATA_OWNER) or actor.has(Role.OPERATOR)):
        raise PermissionDenied(
            "Managing webhooks was refused: only a data owner or an operator may. Ask an operator."
        )
    is_owner = actor.has(Role.DATA_OWNER)
    scope = Scope.RELEASES if is_owner else Scope.ADMINISTRATION
    check_scope(actor, "Managing webhooks", scope)
