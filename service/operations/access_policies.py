"""Who may have a release, as its data owner chose; and what an actor still lacks to download it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from service.domain import access_permissions as may
from service.domain import permissions
from service.domain.access import (
    LONGEST_GRANT_DAYS,
    AccessMode,
    AccessPolicy,
    AccessRequest,
    Agreement,
    RequestState,
    ruling_mode,
    why_not_open,
)
from service.domain.access_fields import PURPOSE, RequestField, check_fields
from service.domain.accounts import Actor
from service.domain.errors import Conflict, InputRefused
from service.domain.releases import Acceptance, Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.agreements import AgreementView, view_agreement
from service.operations.notifying import notify
from service.store import access_tables, tables
from service.store.unit_of_work import UnitOfWork

DEFAULT_GRANT_DAYS = 365
_requests = access_tables.access_requests


@dataclass(frozen=True)
class Standing:
    """What an actor has, and lacks, of what a download of a release needs.

    `refusals` are sentences, the first one first to mend; without any, a download is theirs.
    """

    mode: AccessMode
    is_insider: bool
    has_accepted_terms: bool
    agreement: AgreementView | None
    request: AccessRequest | None
    """The newest request or grant of the actor for this release."""
    grant: AccessRequest | None
    refusals: tuple[str, ...]

    @property
    def needs_agreement(self) -> bool:
        """Tell whether the version in force waits for the actor's acceptance."""
        if self.is_insider or self.agreement is None:
            return False
        return self.agreement.current is not None and self.agreement.acceptance is None


def set_access_policy(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    mode: AccessMode,
    fields: Sequence[RequestField] = (),
    agreement_id: str | None = None,
    grant_days: int = DEFAULT_GRANT_DAYS,
) -> AccessPolicy:
    """Choose who may have a release; grants that are given stay.

    Whoever voted for a release that was given on request is told when it is opened.
    Raises: NotFound for another tenant's agreement; InputRefused for fields or days out of bounds;
    Conflict for opening a release of a tier that is given on request only.
    """
    release = may.check_may_govern_access(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    if agreement_id is not None:
        may.check_may_change_agreement(actor, uow.get(Agreement, agreement_id), asked=agreement_id)
    check_days(grant_days)
    refusal = why_not_open(release.tier)
    if mode is AccessMode.OPEN and refusal is not None:
        raise Conflict(refusal, tier=release.tier)
    before = policy_of(uow, release).mode
    policy = uow.get(AccessPolicy, release.id)
    documents = check_fields(fields)
    if policy is None:
        policy = AccessPolicy(
            release.id, mode, documents, agreement_id, grant_days, actor.user_id, uow.now()
        )
        uow.session.add(policy)
    policy.mode, policy.fields, policy.agreement_id = mode, documents, agreement_id
    policy.grant_days, policy.changed_by, policy.changed_at = grant_days, actor.user_id, uow.now()
    uow.trail(
        actor,
        TrailEvent.ACCESS_SET_POLICY,
        release.id,
        mode=mode.value,
        before=before.value,
        fields=[field["name"] for field in documents],
        agreement=agreement_id,
        grant_days=grant_days,
    )
    if (before, mode) == (AccessMode.BY_REQUEST, AccessMode.OPEN):
        _tell_voters(uow, release)
    return policy


def get_access_policy(uow: UnitOfWork, actor: Actor, *, release_id: str) -> AccessPolicy:
    """Return who may have a release that the actor may see, as it rules in the release's tier."""
    release = permissions.check_may_see_release(
        actor, uow.get(Release, release_id), asked=release_id
    )
    return policy_of(uow, release)


def policy_of(uow: UnitOfWork, release: Release) -> AccessPolicy:
    """Return the policy of a release, in the mode that rules; what was not chosen is not stored.

    The tier may have become narrower since the choice: two auditors' conditions do that.
    """
    chosen = uow.get(AccessPolicy, release.id)
    if chosen is not None:
        mode = ruling_mode(chosen.mode, tier=release.tier)
        return chosen if mode is chosen.mode else replace(chosen, mode=mode)
    return AccessPolicy(
        release.id,
        ruling_mode(AccessMode.OPEN, tier=release.tier),
        [],
        None,
        DEFAULT_GRANT_DAYS,
        release.author_id,
        release.created_at,
    )


def asked_fields(policy: AccessPolicy) -> list[RequestField]:
    """Return the questions of a policy; one about the purpose where none are declared."""
    return [RequestField.model_validate(field) for field in policy.fields] or [PURPOSE]


def standing_of(uow: UnitOfWork, actor: Actor, release: Release, *, terms: str) -> Standing:
    """Return what the actor lacks to download a release; `terms` is the digest of its terms."""
    policy = policy_of(uow, release)
    insider = permissions.is_insider(actor, release)
    agreement = uow.get(Agreement, policy.agreement_id) if policy.agreement_id else None
    view = view_agreement(uow, agreement, user_id=actor.user_id) if agreement else None
    acceptance = uow.get(Acceptance, (release.id, actor.user_id))
    accepted = acceptance is not None and acceptance.terms_digest == terms
    newest = newest_request(uow, release_id=release.id, user_id=actor.user_id)
    grant = valid_grant(uow, release_id=release.id, user_id=actor.user_id)
    found = Standing(policy.mode, insider, accepted, view, newest, grant, ())
    return Standing(**{**vars(found), "refusals": tuple(_refusals(release, found, uow.now()))})


def newest_request(uow: UnitOfWork, *, release_id: str, user_id: str) -> AccessRequest | None:
    """Return the last request of a user for a release, whatever became of it."""
    statement = (
        sa.select(AccessRequest)
        .where(_requests.c.release_id == release_id, _requests.c.user_id == user_id)
        .order_by(_requests.c.created_at.desc(), _requests.c.id.desc())
        .limit(1)
    )
    return uow.session.execute(statement).scalars().first()


def valid_grant(uow: UnitOfWork, *, release_id: str, user_id: str) -> AccessRequest | None:
    """Return the grant that lets a user download a release now, if there is one."""
    statement = sa.select(AccessRequest).where(
        _requests.c.release_id == release_id,
        _requests.c.user_id == user_id,
        _requests.c.state == RequestState.APPROVED,
    )
    grants = uow.session.execute(statement).scalars()
    return next((grant for grant in grants if grant.is_valid(uow.now())), None)


def check_days(days: int) -> None:
    """Refuse a grant that is too short or too long.  Raises: InputRefused."""
    if not 1 <= days <= LONGEST_GRANT_DAYS:
        raise InputRefused(
            f"A grant of {days} days was refused. Choose 1 to {LONGEST_GRANT_DAYS}.",
            value=days,
            limit=LONGEST_GRANT_DAYS,
        )


def _tell_voters(uow: UnitOfWork, release: Release) -> None:
    """Tell those whose votes count that what they saw given on request is open now."""
    reviews = tables.reviews.c
    statement = sa.select(reviews.auditor_id).where(
        reviews.release_id == release.id, reviews.round == release.round
    )
    notify(
        uow,
        to=list(uow.session.execute(statement).scalars()),
        kind="access.opened",
        subject=f"{release.name} {release.version} is open to every collaborator now",
        text="It was given on request before. If your approval rests on that, talk to its owner.",
        link=f"/releases/{release.id}",
    )


def _refusals(release: Release, found: Standing, now: datetime) -> list[str]:
    """Return the sentence of each rule that stands in the way of a download."""
    refused = []
    if release.state is not ReleaseState.PUBLISHED:
        refused.append(
            f"The download was refused: release {release.id} is {release.state.value}. "
            "Its page says why."
        )
    if release.expires_at is not None and release.expires_at <= now:
        refused.append(f"The download was refused: release {release.id} has expired.")
    if found.mode is AccessMode.BY_REQUEST and not found.is_insider and found.grant is None:
        refused.append("The download was refused: " + _why_no_grant(found.request))
    if found.needs_agreement and found.agreement and found.agreement.current:
        refused.append(
            "The download was refused: you have not accepted version "
            f"{found.agreement.current.number} of the agreement "
            f"{found.agreement.agreement.name!r}. Read and accept it first."
        )
    if not found.has_accepted_terms:
        refused.append(
            "The download was refused: you have not accepted the terms of this release. "
            "Read and accept them first."
        )
    return refused


def _why_no_grant(request: AccessRequest | None) -> str:
    ask = "Ask for access on the page of the release."
    if request is None:
        return f"this release is given on request only. {ask}"
    if request.state is RequestState.SUBMITTED:
        return "your request for access is not decided yet. You will be told when it is."
    if request.state is RequestState.REJECTED:
        return f"your request for access was rejected: {request.reason} You may ask again."
    if request.state is RequestState.REVOKED:
        return f"your access was revoked: {request.end_reason} You may ask again."
    if request.state is RequestState.WITHDRAWN:
        return f"you withdrew your request for access. {ask}"
    until = f" on {request.expires_at:%Y-%m-%d}" if request.expires_at else ""
    return f"your access expired{until}. Ask for it to be renewed."
