"""Take a release away and, if it was only suspended, bring it back. A tombstone stays visible.

The state changes first: no new URL is handed out from then on. Then the object moves to another
bucket, which ends the URLs that are out. The reaper finishes a move that was interrupted.
"""

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.errors import Conflict, IllegalTransition, InputRefused
from service.domain.jobs import Job, JobKind, JobState
from service.domain.releases import Location, Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.reviewing import check_revision
from service.store import tables
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork

_BUCKETS = {Location.RELEASED: Bucket.RELEASED, Location.QUARANTINE: Bucket.QUARANTINE}
_PLACES = {
    ReleaseState.PUBLISHED: Location.RELEASED,
    ReleaseState.SUSPENDED: Location.QUARANTINE,
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
    release.move_to(ReleaseState.PUBLISHED)
    release.tombstone = None
    uow.trail(actor, TrailEvent.RELEASE_REINSTATE, release.id, reason=_checked(reason))
    uow.commit()
    settle_bundle(uow, release.id)
    return release


def check_not_failed_again(uow: UnitOfWork, release: Release) -> None:
    """Refuse what failed an audit under the policy in force.  Raises: Conflict."""
    statement = sa.select(Job).where(
        tables.jobs.c.release_id == release.id,
        tables.jobs.c.kind == JobKind.REAUDIT,
        tables.jobs.c.state == JobState.SUCCEEDED,
    )
    for job in uow.session.execute(statement).scalars():
        is_current = job.payload["policy_digest"] == uow.policy.digest
        if is_current and job.result.get("verdict") == "FAIL":
            raise Conflict(
                f"Reinstating was refused: release {release.id} failed when it was audited again "
                f"(job {job.id}). Revoke it; a failed audit cannot be overruled."
            )


def withdraw_release(
    uow: UnitOfWork, actor: Actor, *, release_id: str, reason: str = "", if_match: str | None
) -> Release:
    """Take back a release that is not published yet; nothing of it becomes visible."""
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    release.move_to(ReleaseState.WITHDRAWN)
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
    release.move_to(state)
    release.tombstone = {
        "state": state.value,
        "reason": reason,
        "at": uow.now().isoformat(),
        "name": release.name,
        "version": release.version,
        "bundle_sha256": release.bundle_sha256,
    }
    uow.trail(actor, event, release.id, reason=reason)


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
