"""Who must not judge a release: whoever made a part of it, works in the same lab, or stepped aside."""

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor, Role, User
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import PermissionDenied
from service.domain.releases import Release
from service.domain.reviews import Recusal
from service.domain.trail import TrailEvent
from service.operations import factor_resets, notifying
from service.operations.evidence import candidate_jobs
from service.store import journal, tables
from service.store.unit_of_work import UnitOfWork

AUTHORSHIP = frozenset(
    {
        TrailEvent.RELEASE_CREATE.value,
        TrailEvent.RELEASE_REVISE.value,
        TrailEvent.RELEASE_DECLARE.value,
        TrailEvent.RELEASE_SUBMIT.value,
    }
)


class Interest(StrEnum):
    """Why somebody must not judge; the words complete "… cannot review this release: "."""

    INVOLVED = (
        "they brought the data, trained the candidate, or wrote, declared or submitted the release. "
        "Two other auditors must review it."
    )
    SAME_LAB = (
        "they work in the lab of somebody who made a part of it. Two auditors of other labs must "
        "review it."
    )
    RECUSED = "they declared that they must not judge what comes from this dataset."
    NOT_AN_AUDITOR = "they are not an auditor of this tenant. Name one who is."


_TO_THEMSELVES = {
    Interest.INVOLVED: (
        "you brought the data, trained the candidate, or wrote, declared or submitted the release. "
        "Two other auditors must review it."
    ),
    Interest.SAME_LAB: (
        "you work in the lab of somebody who made a part of it. Two auditors of other labs must "
        "review it."
    ),
    Interest.RECUSED: "you declared that you must not judge what comes from this dataset.",
    Interest.NOT_AN_AUDITOR: "you are not an auditor of this tenant.",
}


@dataclass(frozen=True)
class Candidate:
    """An auditor of the tenant, and the sentence why they cannot review a release, if any."""

    user_id: str
    name: str
    lab: str
    refusal: str | None


def makers(uow: UnitOfWork, release: Release) -> set[str]:
    """Return everybody who made any part of what is reviewed, in whatever round."""
    train, sample, audit = candidate_jobs(uow, release)
    version = uow.get(DatasetVersion, str(train.version_id))
    dataset = uow.get(Dataset, release.dataset_id)
    found = {release.author_id, train.requested_by, sample.requested_by, audit.requested_by}
    found |= {made.created_by for made in (version, dataset) if made is not None}
    if "submitted_by" in release.evidence:
        found.add(release.evidence["submitted_by"])
    written = tables.journal.c.event.in_(sorted(AUTHORSHIP))
    for row in journal.read_rows(uow.session, subject=release.id, only=[written]):
        found.add(row.document["body"]["actor"])
    return found


def interest_of(
    uow: UnitOfWork, user_id: str, release: Release, *, involved: set[str] | None = None
) -> Interest | None:
    """Return why a user must not judge a release, or None. `involved` saves asking again."""
    return interest_in(
        uow,
        user_id,
        tenant_id=release.tenant_id,
        dataset_id=release.dataset_id,
        involved=makers(uow, release) if involved is None else involved,
    )


def interest_in(
    uow: UnitOfWork, user_id: str, *, tenant_id: str, dataset_id: str, involved: set[str]
) -> Interest | None:
    """Return why a user must not judge what `involved` made from a dataset, or None."""
    user = uow.get(User, user_id)
    if user is None or user.tenant_id != tenant_id or Role.AUDITOR.value not in user.roles:
        return Interest.NOT_AN_AUDITOR
    if user_id in involved:
        return Interest.INVOLVED
    if user.lab.strip() and user.lab.strip().casefold() in _labs(uow, involved):
        return Interest.SAME_LAB
    if uow.get(Recusal, (user_id, dataset_id)) is not None:
        return Interest.RECUSED
    return None


def check_uninvolved(uow: UnitOfWork, actor: Actor, release: Release) -> None:
    """Refuse whoever must not judge this release.  Raises: PermissionDenied."""
    factor_resets.check_settled(uow, actor, "Reviewing this release")
    interest = interest_of(uow, actor.user_id, release)
    if interest is not None:
        raise PermissionDenied(
            f"Reviewing this release was refused: {_TO_THEMSELVES[interest]}",
            interest=interest.name.lower(),
        )


def check_may_be_judge(uow: UnitOfWork, user_id: str, release: Release) -> None:
    """Refuse to name somebody who must not judge this release.  Raises: PermissionDenied."""
    user = uow.get(User, user_id)
    is_theirs = user is not None and user.tenant_id == release.tenant_id
    interest = interest_of(uow, user_id, release)
    name = user.name if user is not None and is_theirs else user_id
    if user is not None and is_theirs and user.disabled_at is not None:
        raise PermissionDenied(f"{name} cannot review this release: the account is disabled.")
    if interest is not None:
        raise PermissionDenied(
            f"{name} cannot review this release: {interest.value}", interest=interest.name.lower()
        )


def is_judge(uow: UnitOfWork, actor: Actor, release: Release) -> bool:
    """Tell whether the actor could vote on the release, so that it must stay blind to them."""
    return actor.has(Role.AUDITOR) and interest_of(uow, actor.user_id, release) is None


def list_candidates(uow: UnitOfWork, actor: Actor, *, release_id: str) -> list[Candidate]:
    """Return every auditor of the release's tenant, with the sentence why one cannot review it.

    Raises: NotFound, PermissionDenied.
    """
    release = permissions.check_may_review(actor, uow.get(Release, release_id), asked=release_id)
    involved = makers(uow, release)
    found = []
    for user_id in notifying.users_with_role(uow, release.tenant_id, Role.AUDITOR):
        user = uow.get(User, user_id)
        interest = interest_of(uow, user_id, release, involved=involved)
        name, lab = (user.name, user.lab) if user is not None else ("", "")
        refusal = f"{name} cannot review this release: {interest.value}" if interest else None
        found.append(Candidate(user_id, name, lab, refusal))
    return found


def judges(uow: UnitOfWork, release: Release) -> list[str]:
    """Return the ids of every auditor who may review a release."""
    involved = makers(uow, release)
    return [
        user_id
        for user_id in notifying.users_with_role(uow, release.tenant_id, Role.AUDITOR)
        if interest_of(uow, user_id, release, involved=involved) is None
    ]


def _labs(uow: UnitOfWork, user_ids: set[str]) -> set[str]:
    statement = sa.select(tables.users.c.lab).where(tables.users.c.id.in_(sorted(user_ids)))
    found = uow.session.execute(statement).scalars()
    return {lab.strip().casefold() for lab in found if lab.strip()}
