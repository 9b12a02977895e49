"""Remind whose turn it is: once before something is due, once after. Run by the workers' beat.

What was reminded of is remembered by thing, by the moment at which it entered its state, and by kind:
a beat that runs twice, or two that run at once, remind once.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.domain.accounts import SYSTEM, Role
from service.domain.plan_approvals import PlanApproval, PlanState
from service.domain.releases import (
    DUE,
    OWNERS,
    Due,
    Release,
    ReleaseState,
    StateOwner,
    due_at,
)
from service.domain.reviews import Reminder
from service.domain.trail import TrailEvent
from service.operations import notifying, review_notices
from service.store import review_tables, tables
from service.store.unit_of_work import UnitOfWork

BEFORE, AFTER = "before", "after"
_releases = tables.releases


def release_due_at(uow: UnitOfWork, release: Release) -> datetime | None:
    """Return when the owner of the release's state should have acted, or None."""
    settings = uow.settings
    return due_at(
        release, review_days=settings.review_due_days, author_days=settings.author_due_days
    )


def remind(uow: UnitOfWork) -> int:
    """Send every reminder that has come due; return how many. Each is its own transaction."""
    soon = uow.now() + timedelta(days=uow.settings.remind_before_days)
    found = _ids(uow, _candidates(uow, soon))
    plans = _ids(uow, _open_plans(uow, soon))
    uow.commit()
    sent = sum(_remind_of_release(uow, release_id) for release_id in found)
    return sent + sum(_remind_of_plan(uow, plan_id) for plan_id in plans)


def _ids(uow: UnitOfWork, statement: sa.Select[Any]) -> list[str]:
    return list(uow.session.execute(statement).scalars())


def _candidates(uow: UnitOfWork, soon: datetime) -> sa.Select[Any]:
    settings = uow.settings
    days = {Due.REVIEW: settings.review_due_days, Due.AUTHOR: settings.author_due_days}
    late = [
        sa.and_(
            _releases.c.state.in_([state for state, how in DUE.items() if how is due]),
            _releases.c.state_since <= soon - timedelta(days=number),
        )
        for due, number in days.items()
    ]
    ending = sa.and_(_releases.c.state == ReleaseState.PUBLISHED, _releases.c.expires_at <= soon)
    unsent = _lacks_reminder(_releases.c.id, _releases.c.state_since)
    return sa.select(_releases.c.id).where(sa.or_(*late, ending), unsent).order_by(_releases.c.id)


def _open_plans(uow: UnitOfWork, soon: datetime) -> sa.Select[Any]:
    plans = review_tables.plan_approvals
    days = timedelta(days=uow.settings.review_due_days)
    return (
        sa.select(plans.c.id)
        .where(
            plans.c.state == PlanState.REQUESTED,
            plans.c.state_since <= soon - days,
            _lacks_reminder(plans.c.id, plans.c.state_since),
        )
        .order_by(plans.c.id)
    )


def _lacks_reminder(
    subject: sa.ColumnElement[str], since: sa.ColumnElement[datetime | None]
) -> sa.ColumnElement[bool]:
    """Leave out what was reminded of after it was due: nothing follows that."""
    reminders = review_tables.reminders
    return ~(
        sa.select(reminders.c.subject_id)
        .where(
            reminders.c.subject_id == subject,
            reminders.c.since == since,
            reminders.c.kind == AFTER,
        )
        .exists()
    )


def _remind_of_release(uow: UnitOfWork, release_id: str) -> int:
    release = uow.get(Release, release_id, lock=True)
    due = None if release is None else release_due_at(uow, release)
    if release is None or due is None or release.state_since is None:
        uow.rollback()
        return 0
    what = f"{release.name} {release.version}"
    words = "expires" if release.state is ReleaseState.PUBLISHED else _waits(release.state)
    return _send(
        uow,
        release.id,
        since=release.state_since,
        due=due,
        to=_turn(uow, release),
        subject=what,
        words=words,
        link=f"/{_place(release.state)}/{release.id}",
    )


def _remind_of_plan(uow: UnitOfWork, plan_id: str) -> int:
    plan = uow.get(PlanApproval, plan_id, lock=True)
    if plan is None or plan.state is not PlanState.REQUESTED:
        uow.rollback()
        return 0
    auditors = notifying.users_with_role(uow, plan.tenant_id, Role.AUDITOR)
    return _send(
        uow,
        plan.id,
        since=plan.state_since,
        due=plan.state_since + timedelta(days=uow.settings.review_due_days),
        to=[user_id for user_id in auditors if user_id != plan.requested_by],
        subject="A training plan",
        words="waits for an auditor's approval",
        link=f"/plans/{plan.id}",
    )


def _send(
    uow: UnitOfWork,
    subject_id: str,
    *,
    since: datetime,
    due: datetime,
    to: Iterable[str],
    subject: str,
    words: str,
    link: str,
) -> int:
    """Send the reminder that is due, unless it was sent; commits."""
    is_late = due <= uow.now()
    kind = AFTER if is_late else BEFORE
    if uow.get(Reminder, (subject_id, since, kind)) is not None:
        uow.rollback()
        return 0
    uow.session.add(Reminder(subject_id, since, kind, uow.now()))
    uow.trail(SYSTEM, TrailEvent.REMINDER_SEND, subject_id, kind=kind, due=due.isoformat())
    notifying.notify(
        uow,
        to=to,
        kind="reminder.overdue" if is_late else "reminder.due",
        subject=f"{'Overdue' if is_late else 'Due soon'}: {subject}",
        text=f"It {words}; it {'was' if is_late else 'is'} due on {due:%Y-%m-%d}.",
        link=link,
    )
    uow.commit()
    return 1


def _turn(uow: UnitOfWork, release: Release) -> list[str]:
    """Return whose turn it is; of the auditors, those whose vote is not in."""
    if OWNERS[release.state] is not StateOwner.REVIEWER:
        return review_notices.owners(uow, release)
    voted = sa.select(tables.reviews.c.auditor_id).where(
        tables.reviews.c.release_id == release.id, tables.reviews.c.round == release.round
    )
    done = set(uow.session.execute(voted).scalars())
    return [user_id for user_id in review_notices.reviewers(uow, release) if user_id not in done]


def _place(state: ReleaseState) -> str:
    return "review" if OWNERS[state] is StateOwner.REVIEWER else "releases"


def _waits(state: ReleaseState) -> str:
    return {
        ReleaseState.RETURNED: "was returned and waits for its author",
        ReleaseState.APPROVED: "was approved and waits to be published",
        ReleaseState.SUSPENDED: "is suspended and waits for its owner",
    }.get(state, "waits for your review")
