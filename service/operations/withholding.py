"""Take a release away and, if it was only suspended, bring it back. A tombstone stays visible.

The state changes first: no new URL is handed out from then on. Then the object moves to another
bucket, which ends the URLs that are out. The reaper finishes a move that was interrupted.
"""

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.errors import Conflict, IllegalTransition, InputRefused
from service.domain.releases import Location, Release, ReleaseState
from service.domain.reviews import Conditions
from service.domain.trail import TrailEvent
from service.operations import review_notices
from service.operations.earlier_rounds import last_failure
from service.operations.reviewing import check_revision
from service.store import tables
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork

_BUCKETS = {Location.RELEASED: Bucket.RELEASED, Location.QUARANTINE: Bucket.QUARANTINE}
_PLACES = {
    ReleaseState.PUBLISHED: Location.RELEASED,
    ReleaseState.SUSPENDED: Location.QUARANTINE,
    ReleaseState.EXPIRED: Location.QUARANTINE,
    ReleaseState.REVOKED: Location.QUARANTINE,
}


def suspend_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, reason: str, if_match: str | None
) -> Release:
    """Stop downloads for now.  Raises: IllegalTransition unless PUBLISHED; PreconditionFailed."""
    return _withhold(
        uow,
        actor,
        release_id,
        reason=reason,
        if_match=if_match,
        state=ReleaseState.SUSPENDED,
        event=TrailEvent.RELEASE_SUSPEND,
    )


def revoke_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, reason: str, if_match: str | None
) -> Release:
    """Stop downloads for ever.  Raises: IllegalTransition unless PUBLISHED or SUSPENDED."""
    return _withhold(
        uow,
        actor,
        release_id,
        reason=reason,
        if_match=if_match,
        state=ReleaseState.REVOKED,
        event=TrailEvent.RELEASE_REVOKE,
    )


def reinstate_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, reason: str, if_match: str | None
) -> Release:
    """Bring a suspended release back.

    Raises: IllegalTransition; PreconditionFailed; Conflict if it failed an audit under the policy
    in force.
    """
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    if release.state is not ReleaseState.SUSPENDED:
        raise IllegalTransition(
            f"Reinstating was refused: release {release.id} is {release.state.value}, "
            "not suspended.",
            state=release.state.value,
        )
    check_not_failed_again(uow, release)
    check_not_expired(uow, release, what="Reinstating")
    release.move_to(ReleaseState.PUBLISHED, at=uow.now())
    release.tombstone = None
    uow.trail(actor, TrailEvent.RELEASE_REINSTATE, release.id, reason=_checked(reason))
    uow.commit()
    settle_bundle(uow, release.id)
    return release


def check_not_failed_again(uow: UnitOfWork, release: Release) -> None:
    """Refuse what failed an audit after publication (see `last_failure`).  Raises: Conflict."""
    failed = last_failure(uow, release)
    if failed is not None:
        raise Conflict(
            f"Reinstating was refused: release {release.id} did not pass when it was audited again "
            f"(job {failed.id}). Have it audited under the policy in force, or revoke it; a failed "
            "audit cannot be overruled."
        )


def check_not_expired(uow: UnitOfWork, release: Release, *, what: str) -> None:
    """Refuse what an approval no longer covers, because its conditions set a day.

    Raises: Conflict.
    """
    day = Conditions.of(release.conditions).expires_on
    if day is not None and day <= uow.now().date():
        raise Conflict(
            f"{what} was refused: the approval held until {day} only. Propose the next version, so "
            "that two auditors approve it.",
            expires_on=str(day),
        )


def expire_releases(uow: UnitOfWork) -> int:
    """Take away every release whose day has come; return how many. Each is its own transaction.

    A bundle that cannot be moved now is moved by `settle_bundles` later.
    """
    over = sa.select(tables.releases.c.id).where(
        tables.releases.c.state.in_([ReleaseState.PUBLISHED, ReleaseState.SUSPENDED]),
        tables.releases.c.expires_at <= uow.now(),
    )
    found = list(uow.session.execute(over.order_by(tables.releases.c.id)).scalars())
    uow.commit()
    return sum(_expire(uow, release_id) for release_id in found)


def _expire(uow: UnitOfWork, release_id: str) -> int:
    release = uow.get(Release, release_id, lock=True)
    live = {ReleaseState.PUBLISHED, ReleaseState.SUSPENDED}
    if release is None or release.state not in live or release.expires_at is None:
        return 0
    if release.expires_at > uow.now():
        return 0
    withhold(
        uow,
        SYSTEM,
        release,
        reason=(
            f"The approval of this release held until {release.expires_at:%Y-%m-%d} only. Stop "
            "using it, or ask its owner for the next version."
        ),
        state=ReleaseState.EXPIRED,
        event=TrailEvent.RELEASE_EXPIRE,
    )
    uow.commit()
    settle_bundle(uow, release_id)
    return 1


def withdraw_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, reason: str = "", if_match: str | None
) -> Release:
    """Take back a release that is not published yet; nothing of it becomes visible."""
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    release.move_to(ReleaseState.WITHDRAWN, at=uow.now())
    uow.trail(actor, TrailEvent.RELEASE_WITHDRAW, release.id, reason=reason[:1000])
    return release


def settle_bundles(uow: UnitOfWork) -> int:
    """Move every bundle that is not where its state wants it; return how many were moved."""
    wrong = sa.or_(
        *(
            sa.and_(tables.releases.c.state == state, tables.releases.c.location != location)
            for state, location in _PLACES.items()
        )
    )
    found = list(uow.session.execute(sa.select(tables.releases.c.id).where(wrong)).scalars())
    uow.commit()
    return sum(settle_bundle(uow, release_id) for release_id in found)


def settle_bundle(uow: UnitOfWork, release_id: str) -> int:
    """Move one bundle to the bucket that its state wants; commits. Safe to repeat."""
    release = uow.get(Release, release_id, lock=True)
    if release is None or release.bundle_key is None:
        return 0
    wanted = _PLACES.get(release.state, release.location)
    if release.location is wanted or release.location is Location.NOWHERE:
        return 0
    uow.objects.move(release.bundle_key, source=_BUCKETS[release.location], target=_BUCKETS[wanted])
    release.location = wanted
    uow.trail(SYSTEM, TrailEvent.RELEASE_MOVE_BUNDLE, release.id, to=wanted.value)
    uow.commit()
    return 1


def _withhold(
    uow: UnitOfWork,
    actor: Actor,
    release_id: str,
    *,
    reason: str,
    if_match: str | None,
    state: ReleaseState,
    event: TrailEvent,
) -> Release:
    release = permissions.check_may_withhold_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    withhold(uow, actor, release, reason=_checked(reason), state=state, event=event)
    uow.commit()
    settle_bundle(uow, release.id)
    return release


def withhold(
    uow: UnitOfWork,
    actor: Actor,
    release: Release,
    *,
    reason: str,
    state: ReleaseState,
    event: TrailEvent,
) -> None:
    """Put a tombstone on a release; the caller commits, then settles the bundle."""
    release.move_to(state, at=uow.now())
    release.tombstone = {
        "state": state.value,
        "reason": reason,
        "at": uow.now().isoformat(),
        "name": release.name,
        "version": release.version,
        "bundle_sha256": release.bundle_sha256,
    }
    uow.trail(actor, event, release.id, reason=reason)
    review_notices.tell_of_withholding(uow, release, reason=reason)


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not 1 <= len(reason) <= 4000:
        raise InputRefused(
            "The change was refused: give a reason of 1 to 4000 characters; it stays on the "
            "release's page.",
            value=len(reason),
            limit=4000,
        )
    return reason
