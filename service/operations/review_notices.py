"""What people are told about a release's way through review, and after it.

Nothing is told of a vote or a private comment before both auditors have voted: a notice, or its
absence from a webhook, would say as much as the vote.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from service.domain.accounts import Role
from service.domain.jobs import JobKind, JobState
from service.domain.releases import Decision, Release
from service.operations import conflicts, notifying
from service.operations.assignments import active_assignments
from service.store import tables
from service.store.unit_of_work import UnitOfWork

_DECIDED = {
    Decision.APPROVE: ("release.approved", "was approved", "Its author may publish it now."),
    Decision.RETURN: ("release.returned", "was returned", "Its author may change and resubmit it."),
    Decision.REJECT: ("release.rejected", "was rejected", "These samples cannot be released."),
}


def tell_judges(uow: UnitOfWork, release: Release, *, again: str = "") -> None:
    """Tell those who may vote that they are asked to."""
    notifying.notify(
        uow,
        to=reviewers(uow, release),
        kind="review.requested",
        subject=f"Review {release.name} {release.version}",
        text=f"{again}, so the review begins again." if again else "It waits for two auditors.",
        link=f"/review/{release.id}",
    )


def tell_of_decision(
    uow: UnitOfWork, release: Release, decided: Decision, auditors: Sequence[str]
) -> None:
    """Tell author and auditors what both votes came to."""
    kind, what, onward = _DECIDED[decided]
    conditions = " The approval has conditions." if release.conditions else ""
    notifying.notify(
        uow,
        to=[*owners(uow, release), *auditors],
        kind=kind,
        subject=f"{release.name} {release.version} {what}",
        text=f"Both auditors have voted. {onward}{conditions}",
        link=f"/releases/{release.id}",
    )


def tell_of_publication(uow: UnitOfWork, release: Release) -> None:
    """Tell the author that the bundle can be downloaded."""
    until = f" It expires on {release.expires_at:%Y-%m-%d}." if release.expires_at else ""
    notifying.notify(
        uow,
        to=owners(uow, release),
        kind="release.published",
        subject=f"{release.name} {release.version} is published",
        text=f"Collaborators can download it.{until}",
        link=f"/releases/{release.id}",
    )


def tell_of_withholding(uow: UnitOfWork, release: Release, *, reason: str) -> None:
    """Tell the author, and everybody who got a link to the bundle or an edit made from it."""
    notifying.notify(
        uow,
        to=[*owners(uow, release), *_holders(uow, release)],
        kind=f"release.{release.state.value}",
        subject=f"{release.name} {release.version} is {release.state.value}",
        text=reason,
        link=f"/releases/{release.id}",
    )


def owners(uow: UnitOfWork, release: Release) -> list[str]:
    """Return who answers for a release: its author, and every data owner once that one is gone."""
    owning = notifying.users_with_role(uow, release.tenant_id, Role.DATA_OWNER)
    return [release.author_id] if release.author_id in owning else owning


def reviewers(uow: UnitOfWork, release: Release) -> list[str]:
    """Return whose votes are asked for: the auditors named, or all who may judge it."""
    named = [item.auditor_id for item in active_assignments(uow, release)]
    return named or conflicts.judges(uow, release)


def _holders(uow: UnitOfWork, release: Release) -> list[str]:
    jobs = tables.jobs.c
    links = sa.select(tables.downloads.c.user_id).where(tables.downloads.c.release_id == release.id)
    edits = sa.select(jobs.requested_by).where(
        jobs.release_id == release.id,
        jobs.kind == JobKind.EDIT,
        jobs.state == JobState.SUCCEEDED,
    )
    return list(uow.session.execute(links.union(edits)).scalars())
