"""Name the two auditors of a release, hand an assignment on, step aside.

Replacing auditors while a review is open begins the round again whether anybody had voted or not,
so that the replacement neither keeps nor betrays a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm.attributes import flag_modified

from service.domain import permissions
from service.domain.accounts import Actor, Role, Scope
from service.domain.datasets import Dataset
from service.domain.errors import Conflict, InputRefused, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.releases import AUDITORS_NEEDED, Release, ReleaseState, Review
from service.domain.review_permissions import OPEN, check_open
from service.domain.reviews import Assignment, Recusal
from service.domain.trail import TrailEvent
from service.operations import conflicts, notifying
from service.operations.assignments import active_assignments, past_assignments
from service.operations.reviewing import check_evidence, check_revision, restart_round
from service.store import tables
from service.store.unit_of_work import UnitOfWork

_REASON_LIMIT = 4000


@dataclass(frozen=True)
class Assigned:
    """Who is to review a release now, and who was before."""

    now: list[Assignment]
    before: list[Assignment]


def assign_auditors(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    auditor_ids: Sequence[str],
    if_match: str | None,
) -> Release:
    """Name the two auditors of a release; only they may vote from then on. Auditors name auditors.

    Raises: PermissionDenied if one of them, or the actor, must not judge it; InputRefused unless two
    are named; IllegalTransition unless it is submitted or under review; PreconditionFailed.
    """
    release = permissions.check_may_review(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_open(release, what="Assigning")
    check_revision(release, if_match)
    named = list(dict.fromkeys(auditor_ids))
    if len(named) != AUDITORS_NEEDED:
        raise InputRefused(
            f"The assignment was refused: {len(named)} auditors are named. Name "
            f"{AUDITORS_NEEDED} different ones.",
            value=len(named),
            limit=AUDITORS_NEEDED,
        )
    check_evidence(uow, actor, release)
    conflicts.check_uninvolved(uow, actor, release)
    for user_id in named:
        conflicts.check_may_be_judge(uow, user_id, release)
    before = active_assignments(uow, release)
    if {item.auditor_id for item in before} == set(named):
        uow.without_trail("these auditors were assigned already")
        return release
    for item in before:
        item.ended_at = uow.now()
    _assign(uow, actor, release, named)
    uow.trail(actor, TrailEvent.RELEASE_ASSIGN, release.id, auditors=sorted(named))
    if release.state is ReleaseState.UNDER_REVIEW:
        restart_round(uow, actor, release, why="Other auditors were assigned")
    _touch(release)
    _tell(uow, release, named, text=f"{actor.name or 'An auditor'} named you for this review.")
    return release


def delegate_review(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    to: str,
    reason: str,
    if_match: str | None,
) -> Release:
    """Hand one's own assignment to another auditor of the tenant.

    Raises: PermissionDenied if the other must not judge it; Conflict if the actor has no assignment
    or voted already, or the other has one; InputRefused; IllegalTransition; PreconditionFailed.
    """
    release = permissions.check_may_review(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_open(release, what="Delegating")
    check_revision(release, if_match)
    reason = _checked(reason)
    active = active_assignments(uow, release)
    mine = next((item for item in active if item.auditor_id == actor.user_id), None)
    if mine is None:
        raise Conflict(
            "Delegating was refused: this review is not assigned to you. Without assignments any "
            "two auditors who may judge it vote."
        )
    if any(item.auditor_id == to for item in active):
        raise Conflict("Delegating was refused: the other auditor reviews this release already.")
    if uow.get(Review, (release.id, release.round, actor.user_id)) is not None:
        raise Conflict("Delegating was refused: you voted already in this round.")
    conflicts.check_may_be_judge(uow, to, release)
    mine.ended_at, mine.delegated_to, mine.reason = uow.now(), to, reason
    _assign(uow, actor, release, [to])
    uow.trail(actor, TrailEvent.RELEASE_DELEGATE, release.id, to=to, reason=reason)
    _touch(release)
    _tell(uow, release, [to], text=f"{actor.name or 'An auditor'} handed this review to you.")
    return release


def recuse(uow: UnitOfWork, actor: Actor, *, dataset_id: str, reason: str) -> Recusal:
    """Declare that one must not judge what comes from a dataset; it holds for ever.

    Open reviews of it in which the actor could vote begin again.  Raises: NotFound, PermissionDenied,
    InputRefused.
    """
    dataset = permissions.check_may_see_dataset(
        actor, uow.get(Dataset, dataset_id), asked=dataset_id
    )
    if not actor.has(Role.AUDITOR):
        raise PermissionDenied("Stepping aside was refused: only an auditor has to. Nothing to do.")
    permissions.check_scope(actor, "Stepping aside", Scope.REVIEWS)
    reason = _checked(reason)
    found = uow.get(Recusal, (actor.user_id, dataset.id))
    if found is not None:
        uow.without_trail("the auditor had stepped aside before")
        return found
    for release in _open_releases(uow, dataset.id):
        _leave(uow, actor, release)
    found = Recusal(actor.user_id, dataset.id, reason, uow.now())
    uow.session.add(found)
    uow.trail(actor, TrailEvent.AUDITOR_RECUSE, dataset.id, auditor=actor.user_id)
    return found


def list_assigned(uow: UnitOfWork, actor: Actor, *, release_id: str) -> Assigned:
    """Return who is to review a release, and who was.  Raises: NotFound, PermissionDenied."""
    release = permissions.check_may_see_release(
        actor, uow.get(Release, release_id), asked=release_id
    )
    if not permissions.is_insider(actor, release):
        raise PermissionDenied(
            "Listing assignments was refused: only data owners and auditors of the release's own "
            "tenant may."
        )
    return Assigned(active_assignments(uow, release), past_assignments(uow, release))


def _leave(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """End the actor's part in an open review; a vote that they may have cast must not count."""
    for item in active_assignments(uow, release):
        if item.auditor_id == actor.user_id:
            item.ended_at, item.reason = uow.now(), "stepped aside"
    if release.state is ReleaseState.UNDER_REVIEW:
        restart_round(uow, actor, release, why="An auditor stepped aside")


def _open_releases(uow: UnitOfWork, dataset_id: str) -> list[Release]:
    statement = sa.select(tables.releases.c.id).where(
        tables.releases.c.dataset_id == dataset_id, tables.releases.c.state.in_(list(OPEN))
    )
    named = uow.session.execute(statement.order_by(tables.releases.c.id)).scalars()
    found = [uow.get(Release, release_id, lock=True) for release_id in named]
    return [release for release in found if release is not None and release.state in OPEN]


def _assign(uow: UnitOfWork, actor: Actor, release: Release, named: Sequence[str]) -> None:
    now = uow.now()
    uow.session.add_all(
        Assignment(new_id("asg"), release.id, user_id, actor.user_id, now) for user_id in named
    )


def _touch(release: Release) -> None:
    """Raise the revision: whoever read who reviews it has read something old.

    Nothing else changes, so that handing a review on does not put off the day on which it is due.
    """
    flag_modified(release, "state_since")


def _tell(uow: UnitOfWork, release: Release, named: Sequence[str], *, text: str) -> None:
    notifying.notify(
        uow,
        to=named,
        kind="review.assigned",
        subject=f"Review {release.name} {release.version}",
        text=text,
        link=f"/review/{release.id}",
    )


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not 1 <= len(reason) <= _REASON_LIMIT or "\x00" in reason:
        raise InputRefused(
            f"The reason was refused: give 1 to {_REASON_LIMIT} characters.",
            value=len(reason),
            limit=_REASON_LIMIT,
        )
    return reason
