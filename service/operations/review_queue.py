"""What waits for an auditor, what they decided, and which rule forbids them a vote."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, Role, Scope
from service.domain.datasets import Dataset
from service.domain.errors import DomainError, PermissionDenied
from service.domain.jobs import Job
from service.domain.plan_approvals import PlanApproval, PlanState
from service.domain.policies import PolicyState, PolicyVersion
from service.domain.releases import Decision, Release, ReleaseState
from service.operations import reviewing
from service.operations.plan_approving import check_may_decide
from service.operations.policies import votes_on
from service.operations.reminding import release_due_at
from service.store import policy_tables, review_tables, tables
from service.store.unit_of_work import UnitOfWork

OPEN = (ReleaseState.SUBMITTED, ReleaseState.UNDER_REVIEW)
MOST_WAITING = 200
"""More than this are not listed at once; the oldest are."""

Kind = Literal["release", "plan", "policy"]
Standing = Literal["yours", "voted", "not_yours"]
_ORDER: dict[str, int] = {"yours": 0, "voted": 1, "not_yours": 2}


@dataclass(frozen=True)
class Waiting:
    """One thing that auditors have to decide, as one of them sees it.

    `standing` says whether this auditor's vote is asked for; `why` is the rule if it is not. `votes`
    counts those that the auditor may know of: of a release their own, since even that another one
    is in stays blind.
    """

    kind: Kind
    id: str
    title: str
    about: str
    asked_by: str
    asked_at: datetime
    round: int
    votes: int
    standing: Standing
    why: str = ""
    tier: str = ""
    verdict: str = ""
    epsilon: float | None = None
    due_at: datetime | None = None

    def age(self, now: datetime) -> timedelta:
        """Return how long it has been waiting."""
        return now - self.asked_at


@dataclass(frozen=True)
class Filters:
    """Which of the waiting things are shown; empty means all."""

    kind: str = ""
    tier: str = ""
    verdict: str = ""
    mine: bool = False

    def keep(self, item: Waiting) -> bool:
        """Tell whether an item is shown."""
        return (
            self.kind in ("", item.kind)
            and self.tier in ("", item.tier)
            and self.verdict in ("", item.verdict)
            and (not self.mine or item.standing == "yours")
        )


@dataclass
class _Past:
    """What the trail says of one release: when it was last handed in, and who made any part."""

    asked_at: datetime | None = None
    authors: set[str] = field(default_factory=set)


def check_may_see_queue(actor: Actor) -> None:
    """Refuse whoever decides nothing.  Raises: PermissionDenied."""
    if not actor.has(Role.AUDITOR):
        raise PermissionDenied(
            "Reading the review queue was refused: only an auditor may. Data owners see the state "
            "of each release on its page."
        )
    permissions.check_scope(actor, "Reading the review queue", Scope.READ)


def list_waiting(uow: UnitOfWork, actor: Actor, *, filters: Filters | None = None) -> list[Waiting]:
    """Return what waits for decisions in the actor's tenant: what asks for the actor's first.

    Raises: PermissionDenied.
    """
    check_may_see_queue(actor)
    found = [
        *_waiting_releases(uow, actor),
        *_waiting_plans(uow, actor),
        *_waiting_policies(uow, actor),
    ]
    return sorted(filter((filters or Filters()).keep, found), key=_urgency)


def count_waiting(uow: UnitOfWork, actor: Actor) -> int:
    """Return how many decisions are asked of the actor, quickly: for the badge of every page."""
    if not actor.has(Role.AUDITOR):
        return 0
    voted = (
        sa.select(tables.reviews.c.release_id)
        .where(
            tables.reviews.c.release_id == tables.releases.c.id,
            tables.reviews.c.round == tables.releases.c.round,
            tables.reviews.c.auditor_id == actor.user_id,
        )
        .exists()
    )
    statement = sa.select(sa.func.count()).where(
        tables.releases.c.tenant_id == actor.tenant_id,
        tables.releases.c.state.in_(OPEN),
        tables.releases.c.author_id != actor.user_id,
        ~voted,
    )
    asked = int(uow.session.execute(statement).scalar_one())
    others = (*_waiting_plans(uow, actor), *_waiting_policies(uow, actor))
    return asked + sum(item.standing == "yours" for item in others)


def forbidding_rule(
    uow: UnitOfWork, actor: Actor, release: Release, decision: Decision
) -> str | None:
    """Return the sentence of the rule that forbids the actor this vote, or None.

    A missing reason is no rule yet: the form asks for it.
    """
    try:
        reviewing.check_may_vote(uow, actor, release)
        permissions.check_decision(release, decision=decision, reason="given")
    except DomainError as refusal:
        return refusal.sentence
    return None


def names_of(uow: UnitOfWork, user_ids: Iterable[str]) -> dict[str, str]:
    """Return user id -> name, for those who are known."""
    statement = sa.select(tables.users.c.id, tables.users.c.name).where(
        tables.users.c.id.in_(sorted(set(user_ids)))
    )
    return {row.id: row.name for row in uow.session.execute(statement)}


def _urgency(item: Waiting) -> tuple[int, bool, datetime, str]:
    """Sort what is mine first, then what is due soonest, then what waits longest."""
    return (
        _ORDER[item.standing],
        item.due_at is None,
        item.due_at or item.asked_at,
        item.id,
    )


def _waiting_releases(uow: UnitOfWork, actor: Actor) -> list[Waiting]:
    statement = (
        sa.select(Release, Job, Dataset)
        .join(Job, tables.jobs.c.id == tables.releases.c.audit_job_id)
        .join(Dataset, tables.datasets.c.id == tables.releases.c.dataset_id)
        .where(
            tables.releases.c.tenant_id == actor.tenant_id,
            tables.releases.c.state.in_(OPEN),
        )
        .order_by(tables.releases.c.id)
        .limit(MOST_WAITING)
    )
    found = list(uow.session.execute(statement))
    past = _past(uow, [release.id for release, _, _ in found])
    votes = _votes(uow, [release for release, _, _ in found])
    elsewhere = _elsewhere(uow, actor, [release for release, _, _ in found])
    names = names_of(uow, [release.evidence["submitted_by"] for release, _, _ in found])
    waiting = []
    for release, audit, dataset in found:
        asked_by = release.evidence["submitted_by"]
        involved = {release.author_id, asked_by, audit.requested_by, dataset.created_by}
        standing, why = _standing(
            actor, voters=votes[release.id], authors=involved | past[release.id].authors
        )
        if standing == "yours" and release.id in elsewhere:
            standing, why = "not_yours", elsewhere[release.id]
        waiting.append(
            Waiting(
                kind="release",
                id=release.id,
                title=f"{release.name} {release.version}",
                about=dataset.name,
                asked_by=names.get(asked_by, asked_by),
                asked_at=past[release.id].asked_at or release.created_at,
                round=release.round,
                votes=votes[release.id].count(actor.user_id),
                standing=standing,
                why=why,
                tier=release.tier,
                verdict=release.verdict,
                epsilon=audit.result.get("summary", {}).get("epsilon_claimed"),
                due_at=release_due_at(uow, release),
            )
        )
    return waiting


def _waiting_plans(uow: UnitOfWork, actor: Actor) -> list[Waiting]:
    """Return the training plans that wait for one auditor's approval."""
    plans = review_tables.plan_approvals
    statement = (
        sa.select(PlanApproval)
        .where(plans.c.tenant_id == actor.tenant_id, plans.c.state == PlanState.REQUESTED)
        .order_by(plans.c.id)
        .limit(MOST_WAITING)
    )
    found = list(uow.session.execute(statement).scalars())
    names = names_of(uow, [item.requested_by for item in found])
    days = timedelta(days=uow.settings.review_due_days)
    waiting = []
    for item in found:
        why = _refusal(uow, actor, item)
        waiting.append(
            Waiting(
                kind="plan",
                id=item.id,
                title=f"Plan to train {item.plan['generator']}",
                about=item.purpose[:80],
                asked_by=names.get(item.requested_by, item.requested_by),
                asked_at=item.created_at,
                round=1,
                votes=0,
                standing="not_yours" if why else "yours",
                why=why,
                tier=item.plan["tier"],
                epsilon=item.plan["epsilon"],
                due_at=item.state_since + days,
            )
        )
    return waiting


def _refusal(uow: UnitOfWork, actor: Actor, plan: PlanApproval) -> str:
    try:
        check_may_decide(uow, actor, plan)
    except DomainError as refusal:
        return refusal.sentence
    return ""


def _waiting_policies(uow: UnitOfWork, actor: Actor) -> list[Waiting]:
    """Return the proposal of a policy that waits: at most one of each tenant."""
    statement = sa.select(PolicyVersion).where(
        policy_tables.policy_versions.c.tenant_id == actor.tenant_id,
        policy_tables.policy_versions.c.state == PolicyState.PROPOSED,
    )
    waiting = []
    for version in uow.session.execute(statement).scalars():
        votes = votes_on(uow, version)
        standing, why = _standing(
            actor, voters=[vote.auditor_id for vote in votes], authors={version.author_id}
        )
        waiting.append(
            Waiting(
                kind="policy",
                id=version.id,
                title=f"Policy version {version.number}",
                about=version.reason[:80],
                asked_by=names_of(uow, [version.author_id]).get(version.author_id, ""),
                asked_at=version.created_at,
                round=1,
                votes=len(votes),
                standing=standing,
                why="You proposed it: two others decide." if standing == "not_yours" else why,
            )
        )
    return waiting


def _standing(actor: Actor, *, voters: Sequence[str], authors: set[str]) -> tuple[Standing, str]:
    """Return whether the actor's vote is asked for, and the rule if not."""
    if actor.user_id in voters:
        return "voted", "You voted already in this round."
    if actor.user_id in authors:
        return "not_yours", "You made a part of it: two other auditors must review it."
    return "yours", ""


def _past(uow: UnitOfWork, release_ids: Sequence[str]) -> dict[str, _Past]:
    """Read of several releases' trails when they were handed in, and by whom they were made."""
    rows = tables.journal
    statement = (
        sa.select(rows.c.subject, rows.c.event, rows.c.actor, rows.c.at)
        .where(
            rows.c.subject.in_(release_ids),
            rows.c.event.in_(sorted(reviewing.AUTHORSHIP | reviewing.HANDED_IN)),
        )
        .order_by(rows.c.seq)
    )
    found: dict[str, _Past] = defaultdict(_Past)
    for release_id, event, by, at in uow.session.execute(statement):
        if event in reviewing.AUTHORSHIP:
            found[release_id].authors.add(by)
        if event in reviewing.HANDED_IN:
            found[release_id].asked_at = at
    return found


def _elsewhere(uow: UnitOfWork, actor: Actor, releases: Sequence[Release]) -> dict[str, str]:
    """Return release id -> why it is not the actor's: others are named, or they stepped aside."""
    named, aside = review_tables.review_assignments, review_tables.recusals
    assigned: dict[str, set[str]] = defaultdict(set)
    active = sa.select(named.c.release_id, named.c.auditor_id).where(
        named.c.release_id.in_([release.id for release in releases]), named.c.ended_at.is_(None)
    )
    for release_id, auditor_id in uow.session.execute(active):
        assigned[release_id].add(auditor_id)
    own = sa.select(aside.c.dataset_id).where(aside.c.auditor_id == actor.user_id)
    left = set(uow.session.execute(own).scalars())
    found = {}
    for release in releases:
        if release.dataset_id in left:
            found[release.id] = "You stepped aside for everything from this dataset."
        elif assigned[release.id] and actor.user_id not in assigned[release.id]:
            found[release.id] = "Two other auditors are named for it."
    return found


def _votes(uow: UnitOfWork, releases: Sequence[Release]) -> dict[str, list[str]]:
    """Return release id -> who voted in its present round."""
    rounds = {release.id: release.round for release in releases}
    statement = sa.select(
        tables.reviews.c.release_id, tables.reviews.c.round, tables.reviews.c.auditor_id
    ).where(tables.reviews.c.release_id.in_(list(rounds)))
    found: dict[str, list[str]] = defaultdict(list)
    for release_id, cast_in, auditor_id in uow.session.execute(statement):
        if cast_in == rounds[release_id]:
            found[release_id].append(auditor_id)
    return found
