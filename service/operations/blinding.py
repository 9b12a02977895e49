"""What stays hidden from whom until both auditors have voted: votes, comments, their traces.

A round that was voided before both had voted stays blind for ever: its auditors judge the same
candidate again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.accounts import Actor, Role
from service.domain.releases import AUDITORS_NEEDED, Release
from service.domain.reviews import Audience, Comment
from service.domain.trail import TrailEvent
from service.operations.conflicts import is_judge
from service.store import journal, review_tables, tables
from service.store.unit_of_work import UnitOfWork

_comments = review_tables.review_comments


@dataclass(frozen=True)
class Blindfold:
    """What of a release's rounds one actor must not see; made once, asked about many rows."""

    user_id: str
    decided: frozenset[int]
    """Rounds in which everybody has voted."""
    hidden_comments: frozenset[str]

    def hides_vote(self, *, round_number: int, auditor_id: str) -> bool:
        """Tell whether a vote must not be shown, counted or hinted at."""
        return auditor_id != self.user_id and round_number not in self.decided

    def hides(self, body: Mapping[str, Any]) -> bool:
        """Tell whether a row of the trail, given by its body, would show what is hidden."""
        if body["event"] == TrailEvent.RELEASE_REVIEW.value:
            return self.hides_vote(
                round_number=int(body["details"]["round"]), auditor_id=str(body["actor"])
            )
        if body["event"] == TrailEvent.RELEASE_COMMENT.value:
            return body["details"]["comment"] in self.hidden_comments
        return False


def blindfold(uow: UnitOfWork, actor: Actor, release: Release) -> Blindfold:
    """Return what the actor must not see of the release's rounds."""
    found = _all_comments(uow, release)
    shown = {comment.id for comment in _shown(uow, actor, release, found)} if found else set()
    hidden = frozenset(comment.id for comment in found if comment.id not in shown)
    return Blindfold(actor.user_id, _decided(uow, release), hidden)


def hidden_positions(uow: UnitOfWork, actor: Actor) -> list[int]:
    """Return the positions of the rows of the whole journal that must not be shown to the actor.

    Operators read every row, and may be auditors or data owners of a tenant as well.
    """
    if not actor.roles & {Role.AUDITOR, Role.DATA_OWNER}:
        return []
    kinds = [TrailEvent.RELEASE_REVIEW.value, TrailEvent.RELEASE_COMMENT.value]
    hidden = []
    for release in _undecided(uow, actor.tenant_id):
        blind = blindfold(uow, actor, release)
        rows = journal.read_rows(
            uow.session, subject=[release.id], only=[tables.journal.c.event.in_(kinds)]
        )
        hidden += [row.seq for row in rows if blind.hides(row.document["body"])]
    return hidden


def _undecided(uow: UnitOfWork, tenant_id: str) -> list[Release]:
    """Return the releases with a vote or a comment in a round that nobody has decided."""
    reviews = tables.reviews.c
    open_votes = (
        sa.select(reviews.release_id)
        .group_by(reviews.release_id, reviews.round)
        .having(sa.func.count() < AUDITORS_NEEDED)
    )
    votes = (
        sa.select(sa.func.count())
        .where(reviews.release_id == _comments.c.release_id, reviews.round == _comments.c.round)
        .scalar_subquery()
    )
    open_comments = sa.select(_comments.c.release_id).where(votes < AUDITORS_NEEDED)
    statement = sa.select(Release).where(
        tables.releases.c.tenant_id == tenant_id,
        sa.or_(tables.releases.c.id.in_(open_votes), tables.releases.c.id.in_(open_comments)),
    )
    return list(uow.session.execute(statement).scalars())


def visible_comments(uow: UnitOfWork, actor: Actor, release: Release) -> list[Comment]:
    """Return the comments on a release that the actor, an insider, may see, oldest first."""
    return _shown(uow, actor, release, _all_comments(uow, release))


def _shown(uow: UnitOfWork, actor: Actor, release: Release, found: list[Comment]) -> list[Comment]:
    writers = {comment.id: comment.author_id for comment in found}
    eyes = _Eyes(actor, _decided(uow, release), judge=is_judge(uow, actor, release))
    return [
        comment
        for comment in found
        if eyes.sees(comment, answered=writers.get(comment.reply_to or ""))
    ]


@dataclass(frozen=True)
class _Eyes:
    actor: Actor
    decided: frozenset[int]
    judge: bool
    """Whether the actor could vote, and so must not know what another auditor thinks."""

    def sees(self, comment: Comment, *, answered: str | None) -> bool:
        """Tell whether a comment may be shown; `answered` wrote the one that it replies to."""
        if comment.author_id == self.actor.user_id:
            return True
        is_decided = comment.round in self.decided
        if comment.audience is Audience.EVERYBODY:
            return answered in {None, self.actor.user_id} or is_decided or not self.judge
        if comment.audience is Audience.AUTHOR and self.actor.has(Role.DATA_OWNER):
            return is_decided or not self.judge
        return is_decided and self.actor.has(Role.AUDITOR)


def _all_comments(uow: UnitOfWork, release: Release) -> list[Comment]:
    statement = sa.select(Comment).where(_comments.c.release_id == release.id)
    return list(uow.session.execute(statement.order_by(_comments.c.id)).scalars())


def _decided(uow: UnitOfWork, release: Release) -> frozenset[int]:
    counted = (
        sa.select(tables.reviews.c.round)
        .where(tables.reviews.c.release_id == release.id)
        .group_by(tables.reviews.c.round)
        .having(sa.func.count() >= AUDITORS_NEEDED)
    )
    return frozenset(uow.session.execute(counted).scalars())
