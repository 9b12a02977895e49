"""Propose, read and list releases. Review, publication and withholding are offered here as well."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import Dataset
from service.domain.declarations import ReleaseDeclaration
from service.domain.errors import Conflict, IllegalTransition, InputRefused
from service.domain.identifiers import new_id
from service.domain.jobs import Job, JobKind, JobState
from service.domain.releases import (
    IN_CATALOGUE,
    Acceptance,
    Release,
    ReleaseState,
    Review,
)
from service.domain.trail import TrailEvent
from service.domain.versions import check_version
from service.operations import stories
from service.operations.blinding import blindfold
from service.operations.declaring import fit_formats
from service.operations.earlier_rounds import (
    EarlierRelease,
    all_votes,
    check_not_rejected,
    earlier_releases,
    shown_votes,
)
from service.operations.publication import (
    PublicationFacts,
    finish_publication,
    publication_facts,
    publish_release,
)
from service.operations.reminding import release_due_at
from service.operations.reviewing import check_revision, review_release, submit_release
from service.operations.withholding import (
    reinstate_release,
    revoke_release,
    settle_bundles,
    suspend_release,
    withdraw_release,
)
from service.store import tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

__all__ = [
    "PublicationFacts",
    "ReleaseView",
    "create_release",
    "finish_publication",
    "get_release",
    "list_releases",
    "list_trail",
    "publication_facts",
    "publish_release",
    "reinstate_release",
    "review_release",
    "revise_release",
    "revoke_release",
    "settle_bundles",
    "submit_release",
    "suspend_release",
    "withdraw_release",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TERMS_LIMIT = 20_000


@dataclass(frozen=True)
class ReleaseView:
    """A release as one actor may see it.

    Whoever is not an insider sees what was published and nothing that led to it. `reviews` holds
    only the votes that the actor may see; `votes_cast` counts those of this round. `earlier` are the
    other releases of the same samples, for insiders.
    """

    release: Release
    is_insider: bool
    reviews: list[Review]
    votes_cast: int
    has_accepted: bool
    earlier: list[EarlierRelease]
    due_at: datetime | None = None


def create_release(
    uow: UnitOfWork,
    actor: Actor,
    *,
    dataset_id: str,
    audit_job_id: str,
    name: str,
    version: str = "1.0.0",
    terms: str = "",
    declared: ReleaseDeclaration | Mapping[str, Any] | None = None,
) -> Release:
    """Propose an audited candidate as a DRAFT.

    Raises: InputRefused, Conflict if name and version are taken or auditors rejected these samples
    before, NotFound, PermissionDenied.
    """
    permissions.check_may_create_release(actor)
    dataset = permissions.check_may_change_dataset(
        actor, uow.get(Dataset, dataset_id), asked=dataset_id
    )
    job = _audit_job(uow, actor, audit_job_id, dataset_id=dataset.id)
    check_not_rejected(uow, job.id, what="The release")
    if not _NAME.fullmatch(name):
        raise InputRefused(
            f"The name {name[:80]!r} was refused. Use lower-case letters, digits and hyphens, 63 "
            "at most, the first no hyphen.",
            value=name[:80],
        )
    check_version(version)
    _check_terms(terms)
    taken = sa.select(tables.releases.c.id).where(
        tables.releases.c.tenant_id == actor.tenant_id,
        tables.releases.c.name == name,
        tables.releases.c.version == version,
    )
    if uow.session.execute(taken).first():
        raise Conflict(f"A release {name} {version} exists already. Raise the version.")
    declaration = fit_formats(ReleaseDeclaration.model_validate(declared or {}), dataset)
    release = Release(
        id=new_id("rel"),
        tenant_id=actor.tenant_id,
        dataset_id=dataset.id,
        audit_job_id=job.id,
        name=name,
        version=version,
        terms=terms,
        author_id=actor.user_id,
        created_at=uow.now(),
        tier=str(job.payload["tier"]),
        verdict=str(job.result["verdict"]),
        declared=declaration.model_dump(mode="json", exclude_defaults=True),
    )
    uow.session.add(release)
    uow.trail(actor, TrailEvent.RELEASE_CREATE, release.id, audit=job.id)
    return release


def revise_release(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    if_match: str | None,
    audit_job_id: str | None = None,
    terms: str | None = None,
) -> Release:
    """Change a DRAFT or RETURNED release: another candidate, or other terms."""
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    if release.state not in {ReleaseState.DRAFT, ReleaseState.RETURNED}:
        raise IllegalTransition(
            f"The change was refused: release {release.id} is {release.state.value}. Only a draft "
            "or a returned release may be changed.",
            state=release.state.value,
        )
    if audit_job_id is not None:
        job = _audit_job(uow, actor, audit_job_id, dataset_id=release.dataset_id)
        check_not_rejected(uow, job.id, what="The change", release_id=release.id)
        release.audit_job_id = job.id
        release.tier, release.verdict = str(job.payload["tier"]), str(job.result["verdict"])
    if terms is not None:
        _check_terms(terms)
        release.terms = terms
    uow.trail(actor, TrailEvent.RELEASE_REVISE, release.id, audit=release.audit_job_id)
    return release


def get_release(uow: UnitOfWork, actor: Actor, *, release_id: str) -> ReleaseView:
    """Return a release as the actor may see it. Other auditors' votes stay hidden until all voted.

    Raises: NotFound for what the actor may not know of.
    """
    release = permissions.check_may_see_release(
        actor, uow.get(Release, release_id), asked=release_id
    )
    insider = permissions.is_insider(actor, release)
    votes = all_votes(uow, release) if insider else []
    cast = _votes_cast(uow, actor, release, votes) if insider else 0
    accepted = uow.get(Acceptance, (release.id, actor.user_id)) is not None
    earlier = earlier_releases(uow, actor, release) if insider else []
    due = release_due_at(uow, release) if insider else None
    return ReleaseView(release, insider, shown_votes(votes, actor), cast, accepted, earlier, due)


def _votes_cast(uow: UnitOfWork, actor: Actor, release: Release, votes: list[Review]) -> int:
    """Count the votes of this round that the actor may know of."""
    hides_vote = blindfold(uow, actor, release).hides_vote
    return sum(
        vote.round == release.round
        and not hides_vote(round_number=vote.round, auditor_id=vote.auditor_id)
        for vote in votes
    )


def list_releases(
    uow: UnitOfWork,
    actor: Actor,
    *,
    catalogue: bool = True,
    state: ReleaseState | None = None,
    dataset_id: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Release]:
    """Return releases, newest first: the instance's catalogue, or all of the actor's tenant."""
    visible: sa.ColumnElement[bool] = tables.releases.c.state.in_(list(IN_CATALOGUE))
    if not catalogue:
        permissions.check_may_list_datasets(actor)
        visible = tables.releases.c.tenant_id == actor.tenant_id
    statement = sa.select(Release).where(visible)
    if state is not None:
        statement = statement.where(tables.releases.c.state == state)
    if dataset_id is not None:
        statement = statement.where(
            tables.releases.c.dataset_id == dataset_id,
            tables.releases.c.tenant_id == actor.tenant_id,
        )
    return fetch_page(
        uow.session, statement, id_column=tables.releases.c.id, cursor=cursor, limit=limit
    )


def list_trail(
    uow: UnitOfWork, actor: Actor, *, release_id: str, after: int = 0, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the trail of a release, oldest first; insiders see all, others its public moves.

    Each row is the journal's document: seq, at, kind, subject, body, previous. Fewer than `limit`
    rows mean that there are no more: what the actor may not see takes no place on a page.
    """
    release = permissions.check_may_see_release(
        actor, uow.get(Release, release_id), asked=release_id
    )
    rows, _ = stories.visible_rows(uow, actor, release, after=after, limit=limit)
    return [row.document for row in rows]


def _audit_job(uow: UnitOfWork, actor: Actor, audit_job_id: str, *, dataset_id: str) -> Job:
    job = uow.get(Job, audit_job_id)
    job = permissions.check_may_read_report(actor, job, asked=audit_job_id)
    if (
        job.kind is not JobKind.AUDIT
        or job.state is not JobState.SUCCEEDED
        or job.dataset_id != dataset_id
    ):
        raise InputRefused(
            f"The release was refused: job {audit_job_id} is not a finished audit of this dataset. "
            "Name the AUDIT job of the candidate.",
            value=audit_job_id,
        )
    return job


def _check_terms(terms: str) -> None:
    if len(terms) > _TERMS_LIMIT or "\x00" in terms:
        raise InputRefused(
            f"The terms were refused: {len(terms)} characters, the limit is {_TERMS_LIMIT}.",
            value=len(terms),
            limit=_TERMS_LIMIT,
        )
