"""May this actor ask for a release, decide on it, or change who may? One sentence per refusal."""

from service.domain.access import AccessRequest, Agreement
from service.domain.accounts import Actor, Role, Scope
from service.domain.errors import Conflict, NotFound, PermissionDenied
from service.domain.permissions import check_scope, is_insider, is_visible
from service.domain.releases import Release

_MAY_HAVE = frozenset({Role.COLLABORATOR, Role.DATA_OWNER, Role.AUDITOR})


def check_may_govern_access(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor decides who may have it: a data owner of its tenant."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    if release.tenant_id != actor.tenant_id:
        raise PermissionDenied(
            "Governing access to this release was refused: it belongs to another tenant."
        )
    _check_owner(actor, "Governing access to a release", Scope.RELEASES)
    return release


def check_may_see_download_log(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor may read who downloaded it: data owners of its tenant."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    if release.tenant_id != actor.tenant_id:
        raise PermissionDenied(
            "Reading the download log was refused: the release belongs to another tenant."
        )
    _check_owner(actor, "Reading the download log", Scope.READ)
    return release


def check_may_ask(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor may ask for access to it."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    if not actor.roles & _MAY_HAVE:
        raise PermissionDenied(
            "Asking for access was refused: only a collaborator, a data owner or an auditor may. "
            "Ask an operator."
        )
    check_scope(actor, "Asking for access", Scope.DOWNLOADS)
    if is_insider(actor, release):
        raise Conflict(
            "Asking for access was refused: you are a data owner or an auditor of the release's "
            "own tenant and need no grant."
        )
    return release


def check_may_see_request(
    actor: Actor, request: AccessRequest | None, *, asked: str
) -> AccessRequest:
    """Return the request if it is the actor's, or made to their tenant and they are data owner."""
    if request is None or not (request.user_id == actor.user_id or decides_on(actor, request)):
        raise _not_found("access request", asked)
    check_scope(actor, "Reading an access request", Scope.READ)
    return request


def check_may_decide(actor: Actor, request: AccessRequest | None, *, asked: str) -> AccessRequest:
    """Return the request if the actor decides on it: a data owner of its tenant, never its author."""
    if request is None or not (request.user_id == actor.user_id or decides_on(actor, request)):
        raise _not_found("access request", asked)
    if request.user_id == actor.user_id:
        raise PermissionDenied(
            "Deciding on this access request was refused: you made it yourself. Another data "
            "owner of the release's tenant must decide."
        )
    check_scope(actor, "Deciding on an access request", Scope.RELEASES)
    return request


def check_may_withdraw(actor: Actor, request: AccessRequest | None, *, asked: str) -> AccessRequest:
    """Return the request if the actor made it."""
    found = check_may_see_request(actor, request, asked=asked)
    if found.user_id != actor.user_id:
        raise PermissionDenied(
            "Withdrawing this access request was refused: only who made it may. Reject it instead."
        )
    check_scope(actor, "Withdrawing an access request", Scope.DOWNLOADS)
    return found


def decides_on(actor: Actor, request: AccessRequest) -> bool:
    """Tell whether the actor is a data owner of the tenant that was asked."""
    return request.tenant_id == actor.tenant_id and actor.has(Role.DATA_OWNER)


def check_may_list_incoming(actor: Actor) -> None:
    """Requests to a tenant concern its data owners."""
    _check_owner(actor, "Listing requests for access", Scope.READ)


def check_may_write_agreements(actor: Actor) -> None:
    """Agreements are written by data owners."""
    _check_owner(actor, "Writing an agreement", Scope.RELEASES)


def check_may_change_agreement(
    actor: Actor, agreement: Agreement | None, *, asked: str
) -> Agreement:
    """Return the agreement if the actor is a data owner of its tenant."""
    if agreement is None or agreement.tenant_id != actor.tenant_id:
        raise _not_found("agreement", asked)
    check_may_write_agreements(actor)
    return agreement


def check_may_accept_agreements(actor: Actor) -> None:
    """Whoever may download may enter into what that needs."""
    if not actor.roles & _MAY_HAVE:
        raise PermissionDenied(
            "Accepting an agreement was refused: only a collaborator, a data owner or an auditor "
            "may. Ask an operator."
        )
    check_scope(actor, "Accepting an agreement", Scope.DOWNLOADS)


def _check_owner(actor: Actor, action: str, scope: Scope) -> None:
    if not actor.has(Role.DATA_OWNER):
        raise PermissionDenied(f"{action} was refused: only a data owner may. Ask an operator.")
    check_scope(actor, action, scope)


def _not_found(what: str, asked: str) -> NotFound:
    return NotFound(f"No {what} {asked!r} was found. Check the identifier.")
