"""What an auditor decided, and what became of it."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from service.domain.accounts import Actor
from service.domain.plan_approvals import PlanApproval, PlanState
from service.domain.policies import PolicyVersion, PolicyVote
from service.operations.review_queue import Kind, check_may_see_queue
from service.store import policy_tables, review_tables, tables
from service.store.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Decided:
    """One vote that an auditor cast, and what became of the thing."""

    kind: Kind
    id: str
    title: str
    round: int
    decision: str
    reason: str
    at: datetime
    state: str


def list_decided(uow: UnitOfWork, actor: Actor, *, limit: int = 500) -> list[Decided]:
    """Return the actor's own votes, newest first.  Raises: PermissionDenied."""
    check_may_see_queue(actor)
    # Columns and no entities: a release's documents are kilobytes, and an export has thousands of votes.
    release, vote = tables.releases.c, tables.reviews.c
    statement = (
        sa.select(
            release.id, release.name, release.version, release.state,
            vote.round, vote.decision, vote.reason, vote.created_at,
        )
        .join(tables.releases, release.id == vote.release_id)
        .where(vote.auditor_id == actor.user_id)
        .order_by(vote.created_at.desc(), vote.release_id)
        .limit(limit)
    )  # fmt: skip
    found = [
        Decided(
            "release",
            release_id,
            f"{name} {version}",
            round_,
            decision.value,
            reason,
            at,
            state.value,
        )
        for release_id, name, version, state, round_, decision, reason, at in uow.session.execute(
            statement
        )
    ]
    found += [
        *_decided_policies(uow, actor, limit=limit),
        *_decided_plans(uow, actor, limit=limit),
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:limit]


def _decided_plans(uow: UnitOfWork, actor: Actor, *, limit: int) -> list[Decided]:
    plans = review_tables.plan_approvals
    statement = sa.select(PlanApproval).where(plans.c.decided_by == actor.user_id)
    found = uow.session.execute(statement.order_by(plans.c.id.desc()).limit(limit)).scalars()
    return [
        Decided(
            "plan",
            item.id,
            f"Plan to train {item.plan['generator']}",
            0,
            "reject" if item.state is PlanState.REFUSED else "approve",
            item.reason,
            item.state_since,
            item.state.value,
        )
        for item in found
    ]


def _decided_policies(uow: UnitOfWork, actor: Actor, *, limit: int) -> list[Decided]:
    versions, votes = policy_tables.policy_versions, policy_tables.policy_votes
    statement = (
        sa.select(PolicyVote, PolicyVersion)
        .join(PolicyVersion, versions.c.id == votes.c.policy_id)
        .where(votes.c.auditor_id == actor.user_id)
        .order_by(votes.c.created_at.desc())
        .limit(limit)
    )
    return [
        Decided(
            "policy",
            version.id,
            f"Policy version {version.number}",
            0,
            "approve" if vote.approves else "reject",
            vote.reason,
            vote.created_at,
            version.state.value,
        )
        for vote, version in uow.session.execute(statement)
    ]
