"""Have a released set edited to a specification, and fetch what came of it.

Whoever may download a release may ask for edits of it: they are post-processing of what was
released, made from the synthetic set alone, and cost no budget. Each request is in the trail; the
result is its requester's, who could have made it from the bundle as well (`kaima edit`).
"""

from typing import Any

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from service.domain.jobs import TERMINAL, Job, JobKind, JobState
from service.domain.releases import Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.access_policies import standing_of
from service.operations.downloads import terms_digest
from service.operations.queueing import queue_job
from service.store import tables
from service.store.objects import Bucket, ObjectMissing
from service.store.pages import Page
from service.store.unit_of_work import UnitOfWork

MOST_AT_ONCE = 3
"""Edits of one person that may wait or run; those of others must not wait for them."""

SHEET, TEACHING_SET = "sheet.png", "teaching-set.zip"


def check_may_edit(uow: UnitOfWork, actor: Actor, *, release_id: str) -> Release:
    """Return the release if the actor may download it now.

    Raises: NotFound, PermissionDenied, IllegalTransition unless it is published; InputRefused for
    a table.
    """
    release = permissions.check_may_download(actor, uow.get(Release, release_id), asked=release_id)
    if release.state is not ReleaseState.PUBLISHED:
        raise IllegalTransition(
            f"Editing was refused: release {release.id} is {release.state.value}. Only what is "
            "published can be edited.",
            state=release.state.value,
        )
    if release.holds_rows:
        raise InputRefused(
            "Editing was refused: this release is a table, and edits change images only, without "
            "rows that an edit would contradict. Filter the table on your side.",
            value=release.modality,
            limit="image",
        )
    refusals = standing_of(uow, actor, release, terms=terms_digest(release)).refusals
    if refusals:
        raise PermissionDenied(refusals[0], remedy="get what the download needs first")
    return release


def request_edit(uow: UnitOfWork, actor: Actor, *, release_id: str, asked: dict[str, Any]) -> Job:
    """Queue an edit; `asked` is the validated request, which is also what the trail names.

    Raises: as `check_may_edit`; QuotaExceeded; Conflict where the candidate is gone.
    """
    release = check_may_edit(uow, actor, release_id=release_id)
    open_ones = sa.select(sa.func.count()).where(
        tables.jobs.c.requested_by == actor.user_id,
        tables.jobs.c.kind == JobKind.EDIT,
        tables.jobs.c.state.not_in(list(TERMINAL)),
    )
    waiting = uow.session.execute(open_ones).scalar_one()
    if waiting >= MOST_AT_ONCE:
        raise QuotaExceeded(
            f"The edit was refused: {waiting} of yours wait or run, the limit is {MOST_AT_ONCE}. "
            "Wait until one ends.",
            value=waiting,
            limit=MOST_AT_ONCE,
        )
    audit = uow.get(Job, release.audit_job_id)
    if audit is None:
        raise Conflict("The edit was refused: the candidate of this release is missing.")
    job = queue_job(
        uow,
        actor,
        kind=JobKind.EDIT,
        tenant_id=release.tenant_id,
        dataset_id=release.dataset_id,
        release_id=release.id,
        payload={"sample_job_id": audit.payload["sample_job_id"], "asked": asked},
    )
    uow.trail(actor, TrailEvent.RELEASE_EDIT, release.id, job=job.id, asked=asked)
    return job


def find_edit(uow: UnitOfWork, actor: Actor, *, edit_id: str) -> Job:
    """Return one of the actor's own edits.  Raises: NotFound, for anybody else's as well."""
    job = uow.get(Job, edit_id)
    if job is None or job.kind is not JobKind.EDIT or job.requested_by != actor.user_id:
        raise NotFound(f"No edit {edit_id!r} was found. Check the identifier.")
    return job


def list_edits(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    cursor: str | None = None,
    limit: int = 30,
) -> Page[Job]:
    """Return the actor's edits of a release, newest first."""
    permissions.check_may_download(actor, uow.get(Release, release_id), asked=release_id)
    jobs = tables.jobs.c
    statement = (
        sa.select(Job)
        .where(
            jobs.release_id == release_id,
            jobs.kind == JobKind.EDIT,
            jobs.requested_by == actor.user_id,
        )
        .order_by(jobs.id.desc())
        .limit(limit + 1)
    )
    if cursor:
        statement = statement.where(jobs.id < cursor)
    found = list(uow.session.execute(statement).scalars())
    items = found[:limit]
    return Page(items, items[-1].id if len(found) > limit else None)


def read_edit(uow: UnitOfWork, actor: Actor, *, edit_id: str, name: str) -> bytes:
    """Return a file of an edit, as long as its release may still be downloaded.

    Raises: NotFound; as `check_may_edit`, so that a revoked release ends its edits too.
    """
    job = find_edit(uow, actor, edit_id=edit_id)
    check_may_edit(uow, actor, release_id=str(job.release_id))
    key = job.result.get(name) if job.state is JobState.SUCCEEDED else None
    missing = f"Edit {edit_id!r} has no {name}. It is {job.state.value}."
    if key is None:
        raise NotFound(missing)
    try:
        return uow.objects.get_bytes(Bucket.WORK, key)
    except ObjectMissing as error:
        raise NotFound(missing) from error
