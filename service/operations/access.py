"""Ask for a release, decide, withdraw, revoke, renew; grants end by themselves at their time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from service.domain import access_permissions as may
from service.domain import permissions
from service.domain.access import AccessMode, AccessRequest, RequestState
from service.domain.access_fields import check_answers
from service.domain.accounts import SYSTEM, Actor, Role, Scope, User
from service.domain.errors import Conflict, IllegalTransition, InputRefused, PreconditionFailed
from service.domain.identifiers import new_id
from service.domain.releases import Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.access_policies import (
    asked_fields,
    check_days,
    newest_request,
    policy_of,
)
from service.operations.agreements import accept_agreement
from service.operations.factor_resets import check_settled
from service.operations.notifying import notify, users_with_role
from service.store import access_tables, tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

RENEWAL_DAYS = 30
"""From how long before its end a grant may be renewed; its user is told once, half as long before."""

_requests = access_tables.access_requests
_REASON_LIMIT = 4000


@dataclass(frozen=True)
class RequestView:
    """A request with the names that a person needs to decide on it."""

    request: AccessRequest
    release_name: str
    release_version: str
    user_name: str
    user_tenant: str


def request_access(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    answers: Mapping[str, object],
    agreement_number: int | None = None,
    agreement_sha256: str | None = None,
) -> AccessRequest:
    """Ask for a release that is given on request, or for the renewal of a grant that ends soon.

    The agreement that the release needs is accepted with it, by number and digest of its text.
    Raises: NotFound; Conflict while a request is open, a grant runs for long, or the release is
    open to everybody; InputRefused for the answers.
    """
    uow.get(User, actor.user_id, lock=True)  # whoever asks twice at once is answered in turn
    release, last = check_may_request(uow, actor, release_id=release_id)
    policy = policy_of(uow, release)
    fields = asked_fields(policy)
    documents = [field.model_dump(mode="json") for field in fields]
    checked = check_answers(documents, answers)
    if policy.agreement_id is not None:
        _enter(uow, actor, policy.agreement_id, agreement_number, agreement_sha256)
    request = AccessRequest(
        id=new_id("acc"),
        release_id=release.id,
        tenant_id=release.tenant_id,
        user_id=actor.user_id,
        fields=documents,
        answers=checked,
        agreement_id=policy.agreement_id,
        agreement_number=agreement_number if policy.agreement_id else None,
        created_at=uow.now(),
        renews_id=last.id if last and last.state is RequestState.APPROVED else None,
    )
    uow.session.add(request)
    uow.trail(
        actor, TrailEvent.ACCESS_REQUEST, request.id, release=release.id, renews=request.renews_id
    )
    notify(
        uow,
        to=users_with_role(uow, release.tenant_id, Role.DATA_OWNER),
        kind="access.requested",
        subject=f"{actor.name or 'Somebody'} asks for {release.name} {release.version}",
        text="A request for access waits for a decision.",
        link=f"/access/{request.id}",
    )
    return request


def check_may_request(
    uow: UnitOfWork, actor: Actor, *, release_id: str
) -> tuple[Release, AccessRequest | None]:
    """Return the release that the actor may ask for now, and their last request for it.

    Raises: NotFound, PermissionDenied, IllegalTransition, Conflict.
    """
    release = may.check_may_ask(actor, uow.get(Release, release_id), asked=release_id)
    if release.state is not ReleaseState.PUBLISHED:
        raise IllegalTransition(
            f"Asking for access was refused: release {release.id} is {release.state.value}.",
            state=release.state.value,
        )
    if policy_of(uow, release).mode is not AccessMode.BY_REQUEST:
        raise Conflict(
            "Asking for access was refused: this release is open to everybody who accepts its "
            "terms. Accept them and download it."
        )
    last = newest_request(uow, release_id=release.id, user_id=actor.user_id)
    _check_may_ask_now(uow, last)
    return release, last


def approve_access(
    uow: UnitOfWork,
    actor: Actor,
    *,
    request_id: str,
    days: int | None = None,
    reason: str = "",
    if_match: str | None = None,
) -> AccessRequest:
    """Grant access for `days`, or as long as the release's policy says. A renewed grant ends.

    Raises: IllegalTransition if it is decided already; PermissionDenied for one's own request;
    PreconditionFailed; Conflict if another decision came first.
    """
    request = _to_decide(uow, actor, request_id, if_match)
    check_settled(uow, actor, "Approving")
    release = uow.get(Release, request.release_id)
    if release is None or release.state is not ReleaseState.PUBLISHED:
        raise Conflict("Approving was refused: the release is not published any more.")
    span = policy_of(uow, release).grant_days if days is None else days
    check_days(span)
    _check_state(request, RequestState.SUBMITTED, "Approving")
    _end_replaced(uow, actor, request)
    request.move_to(RequestState.APPROVED)
    _note_decision(uow, actor, request, _checked(reason, needed=False))
    request.expires_at = uow.now() + timedelta(days=span)
    uow.trail(
        actor,
        TrailEvent.ACCESS_APPROVE,
        request.id,
        release=request.release_id,
        user=request.user_id,
        expires_at=request.expires_at.isoformat(),
    )
    _tell(uow, request, release, "granted", f"Until {request.expires_at:%Y-%m-%d}. {reason}")
    return request


def reject_access(
    uow: UnitOfWork, actor: Actor, *, request_id: str, reason: str, if_match: str | None = None
) -> AccessRequest:
    """Refuse a request, with the reason that its author reads."""
    request = _to_decide(uow, actor, request_id, if_match)
    reason = _checked(reason)
    _check_state(request, RequestState.SUBMITTED, "Rejecting")
    request.move_to(RequestState.REJECTED)
    _note_decision(uow, actor, request, reason)
    uow.trail(actor, TrailEvent.ACCESS_REJECT, request.id, release=request.release_id)
    _tell(uow, request, uow.get(Release, request.release_id), "rejected", reason)
    return request


def withdraw_access_request(
    uow: UnitOfWork, actor: Actor, *, request_id: str, if_match: str | None = None
) -> AccessRequest:
    """Take back one's own request before it is decided."""
    request = may.check_may_withdraw(
        actor, uow.get(AccessRequest, request_id, lock=True), asked=request_id
    )
    _check_revision(request, if_match)
    request.move_to(RequestState.WITHDRAWN)
    request.ended_by, request.ended_at = actor.user_id, uow.now()
    uow.trail(actor, TrailEvent.ACCESS_WITHDRAW, request.id, release=request.release_id)
    return request


def revoke_access(
    uow: UnitOfWork, actor: Actor, *, request_id: str, reason: str, if_match: str | None = None
) -> AccessRequest:
    """End a grant at once: no link is handed out to its user from now on."""
    request = _to_decide(uow, actor, request_id, if_match)
    reason = _checked(reason)
    request.move_to(RequestState.REVOKED)
    request.ended_by, request.ended_at, request.end_reason = actor.user_id, uow.now(), reason
    uow.trail(
        actor,
        TrailEvent.ACCESS_REVOKE,
        request.id,
        release=request.release_id,
        user=request.user_id,
        reason=reason,
    )
    _tell(uow, request, uow.get(Release, request.release_id), "revoked", reason)
    return request


def get_access_request(uow: UnitOfWork, actor: Actor, *, request_id: str) -> RequestView:
    """Return a request that the actor made or decides on.  Raises: NotFound for any other."""
    request = may.check_may_see_request(actor, uow.get(AccessRequest, request_id), asked=request_id)
    return _viewed(uow, [request])[0]


def list_access_requests(
    uow: UnitOfWork,
    actor: Actor,
    *,
    whose: Literal["mine", "incoming"] = "mine",
    state: RequestState | None = None,
    release_id: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[RequestView]:
    """Return the actor's own requests, or those made to their tenant; newest first."""
    permissions.check_scope(actor, "Listing access requests", Scope.READ)
    statement = sa.select(AccessRequest)
    if whose == "incoming":
        may.check_may_list_incoming(actor)
        statement = statement.where(_requests.c.tenant_id == actor.tenant_id)
    else:
        statement = statement.where(_requests.c.user_id == actor.user_id)
    if state is not None:
        statement = statement.where(_requests.c.state == state)
    if release_id is not None:
        statement = statement.where(_requests.c.release_id == release_id)
    page = fetch_page(uow.session, statement, id_column=_requests.c.id, cursor=cursor, limit=limit)
    return Page(_viewed(uow, page.items), page.next_cursor)


def expire_grants(uow: UnitOfWork, *, limit: int = 500) -> int:
    """End grants whose time is over, and tell once whose time is nearly over; return how many.

    A download looks at the time itself: this only keeps states and lists true. Commits.
    """
    now = uow.now()
    over = sa.select(AccessRequest).where(
        _requests.c.state == RequestState.APPROVED, _requests.c.expires_at <= now
    )
    count = 0
    for grant in list(uow.session.execute(over.limit(limit)).scalars()):
        _expire(uow, SYSTEM, grant, why="")
        _tell(uow, grant, uow.get(Release, grant.release_id), "expired", "Ask for its renewal.")
        count += 1
    count += _remind(uow, now, limit=limit)
    uow.commit()
    return count


def _remind(uow: UnitOfWork, now: datetime, *, limit: int) -> int:
    soon = sa.select(AccessRequest).where(
        _requests.c.state == RequestState.APPROVED,
        _requests.c.expires_at > now,
        _requests.c.expires_at <= now + timedelta(days=RENEWAL_DAYS / 2),
        _requests.c.reminded_at.is_(None),
        # A grant of a few days is no news to whoever has just got it.
        _requests.c.decided_at <= now - timedelta(days=1),
    )
    found = list(uow.session.execute(soon.limit(limit)).scalars())
    for grant in found:
        grant.reminded_at = now
        end = f"{grant.expires_at:%Y-%m-%d}" if grant.expires_at else ""
        release = uow.get(Release, grant.release_id)
        _tell(uow, grant, release, "ending soon", f"It ends on {end}. Ask for its renewal.")
        uow.without_trail("a reminder changes nobody's access")
    return len(found)


def _check_may_ask_now(uow: UnitOfWork, last: AccessRequest | None) -> None:
    if last is None:
        return
    if last.state is RequestState.SUBMITTED:
        raise Conflict(
            f"Asking for access was refused: your request {last.id} is open. Withdraw it to ask "
            "in other words."
        )
    early = last.expires_at and last.expires_at - timedelta(days=RENEWAL_DAYS)
    if last.is_valid(uow.now()) and early and early > uow.now():
        raise Conflict(
            f"Asking for access was refused: you have it until {last.expires_at:%Y-%m-%d}. It "
            f"can be renewed from {early:%Y-%m-%d}."
        )


def _enter(
    uow: UnitOfWork, actor: Actor, agreement_id: str, number: int | None, sha256: str | None
) -> None:
    if number is None or sha256 is None:
        raise InputRefused(
            "The request was refused: this release needs an agreement. Read it, and name the "
            "version and the digest of its text with your request.",
            field="agreement_number",
        )
    accept_agreement(uow, actor, agreement_id=agreement_id, number=number, sha256=sha256)


def _to_decide(
    uow: UnitOfWork, actor: Actor, request_id: str, if_match: str | None
) -> AccessRequest:
    request = may.check_may_decide(
        actor, uow.get(AccessRequest, request_id, lock=True), asked=request_id
    )
    _check_revision(request, if_match)
    return request


def _check_revision(request: AccessRequest, if_match: str | None) -> None:
    if if_match is not None and if_match != request.etag:
        raise PreconditionFailed(
            f"The change was refused: the access request {request.id} has changed since you read "
            "it. Read it again."
        )


def _check_state(request: AccessRequest, wanted: RequestState, what: str) -> None:
    if request.state is not wanted:
        raise IllegalTransition(
            f"{what} was refused: the access request {request.id} is {request.state.value} already.",
            state=request.state.value,
        )


def _note_decision(uow: UnitOfWork, actor: Actor, request: AccessRequest, reason: str) -> None:
    request.decided_by, request.decided_at, request.reason = actor.user_id, uow.now(), reason


def _end_replaced(uow: UnitOfWork, actor: Actor, request: AccessRequest) -> None:
    """End the grant that a renewal replaces, or one whose time is over: one grant at a time."""
    statement = sa.select(AccessRequest).where(
        _requests.c.slot == f"granted:{request.release_id}:{request.user_id}"
    )
    for grant in list(uow.session.execute(statement).scalars()):
        _expire(uow, actor, grant, why=f"replaced by {request.id}")
    uow.session.flush()  # its slot is free before the new grant takes it


def _expire(uow: UnitOfWork, actor: Actor, grant: AccessRequest, *, why: str) -> None:
    grant.move_to(RequestState.EXPIRED)
    grant.ended_by, grant.ended_at, grant.end_reason = actor.user_id, uow.now(), why
    uow.trail(actor, TrailEvent.ACCESS_EXPIRE, grant.id, release=grant.release_id)


def _tell(
    uow: UnitOfWork, request: AccessRequest, release: Release | None, what: str, text: str
) -> None:
    named = f"{release.name} {release.version}" if release else request.release_id
    notify(
        uow,
        to=[request.user_id],
        kind="access." + what.replace(" ", "_"),
        subject=f"Your access to {named} is {what}",
        text=text.strip() or "See its page.",
        link=f"/access/{request.id}",
    )


def _checked(reason: str, *, needed: bool = True) -> str:
    reason = reason.strip()
    if len(reason) > _REASON_LIMIT or (needed and not reason) or "\x00" in reason:
        raise InputRefused(
            f"The decision was refused: give a reason of 1 to {_REASON_LIMIT} characters; who asked "
            "will read it.",
            value=len(reason),
            limit=_REASON_LIMIT,
        )
    return reason


def _viewed(uow: UnitOfWork, requests: list[AccessRequest]) -> list[RequestView]:
    """Add names, with one query for all."""
    users, tenants, releases = tables.users.c, tables.tenants.c, tables.releases.c
    statement = sa.select(users.id, users.name, tenants.name).select_from(
        tables.users.join(tables.tenants)
    )
    statement = statement.where(users.id.in_({request.user_id for request in requests}))
    people = {row[0]: (row[1], row[2]) for row in uow.session.execute(statement)}
    named = sa.select(releases.id, releases.name, releases.version).where(
        releases.id.in_({request.release_id for request in requests})
    )
    names = {row[0]: (row[1], row[2]) for row in uow.session.execute(named)}
    return [
        RequestView(request, *names[request.release_id], *people[request.user_id])
        for request in requests
    ]
