"""Propose the next version of a release: the same samples, for a new approval of their own.

A version has one bundle for ever. What expired stays expired; its next version carries what two
auditors approve then, and a certificate that states what has been spent by then.
"""

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.errors import IllegalTransition, InputRefused
from service.domain.releases import Release, ReleaseState
from service.operations.earlier_rounds import check_not_rejected
from service.operations.releases import create_release
from service.store.unit_of_work import UnitOfWork

_RENEWABLE = frozenset({ReleaseState.PUBLISHED, ReleaseState.EXPIRED})


def renew_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, version: str | None = None
) -> Release:
    """Return the DRAFT of the next version; without `version`, the last number is raised.

    Raises: IllegalTransition unless PUBLISHED or EXPIRED; Conflict if the version is taken or these
    samples were rejected; InputRefused, NotFound, PermissionDenied.
    """
    old = check_may_renew(uow, actor, release_id=release_id)
    if version is not None and _number(version) <= _number(old.version):
        raise InputRefused(
            f"The version {version} was refused: it does not follow {old.version}. Raise it.",
            value=version,
            limit=old.version,
        )
    made = create_release(
        uow,
        actor,
        dataset_id=old.dataset_id,
        audit_job_id=old.audit_job_id,
        name=old.name,
        version=version or _next(old.version),
        terms=old.terms,
    )
    made.renews_id, made.declared = old.id, dict(old.declared)
    return made


def check_may_renew(uow: UnitOfWork, actor: Actor, *, release_id: str) -> Release:
    """Return the release if the actor may propose its next version now; changes nothing.

    Raises: IllegalTransition, Conflict if its samples were rejected or failed an audit since;
    NotFound, PermissionDenied.
    """
    old = permissions.check_may_change_release(
        actor, uow.get(Release, release_id), asked=release_id
    )
    if old.state not in _RENEWABLE:
        raise IllegalTransition(
            f"Renewing was refused: release {old.id} is {old.state.value}. Only a published or an "
            "expired release may be renewed.",
            state=old.state.value,
        )
    check_not_rejected(uow, old.audit_job_id, what="Renewing")
    return old


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise InputRefused(
            f"The version {version[:80]!r} was refused. Give one such as 1.0.1.",
            value=version[:80],
        )
    return tuple(int(part) for part in parts)


def _next(version: str) -> str:
    major, minor, patch = _number(version)
    return f"{major}.{minor}.{patch + 1}"
