"""Releases from draft to download: JSON in, operation, JSON out."""

from collections.abc import Callable

from flask import Response
from pydantic import Field

from service import resources as r
from service.api import views
from service.api.answers import (
    IdempotencyHeader,
    ListQuery,
    PublicationHeader,
    ReleasePath,
    RevisionHeader,
    TrailQuery,
    answer,
    answer_job,
    answer_page,
    needed_revision,
)
from service.api.auth import actor, make_blueprint
from service.api.idempotency import answer_once
from service.api.problems import documented
from service.domain.accounts import Scope
from service.domain.releases import Decision
from service.domain.reviews import Conditions
from service.operations import downloads, reaudits, releases
from service.operations.policies import policy_in_force
from service.store.unit_of_work import UnitOfWork
from service.web import application

blueprint = make_blueprint("releases", about="Releases: review, publication, download.")

_EDITED = documented(412, 428)
"""What an endpoint may answer whose If-Match is missing or stale."""


class ReleaseQuery(ListQuery):
    """Which releases."""

    mine: bool = Field(default=False, description="all of my tenant, instead of the catalogue")


@blueprint.post("/releases", summary="Draft a release", responses={201: r.Release})
def create_release(body: r.NewRelease, header: IdempotencyHeader) -> Response:
    """Propose one audited set of samples for publication."""
    with application().uow() as uow:

        def create() -> Response:
            release = releases.create_release(
                uow,
                actor(),
                dataset_id=body.dataset_id,
                audit_job_id=body.audit_job_id,
                name=body.name,
                version=body.version,
                terms=body.terms,
                declared=body.declared,
            )
            return _show(uow, release.id, status=201)

        return answer_once(uow, header.idempotency_key, create, scope=Scope.RELEASES)


@blueprint.get("/releases", summary="List releases", responses={200: r.ReleasePage})
def list_releases(query: ReleaseQuery) -> Response:
    """List the catalogue, or every release of the actor's tenant."""
    with application().uow(read_only=True) as uow:
        page = releases.list_releases(
            uow, actor(), catalogue=not query.mine, cursor=query.cursor, limit=query.limit
        )
        return answer_page(r.ReleasePage, page, lambda found: views.listed_release(found, actor()))


@blueprint.get("/releases/<string:release_id>", summary="A release", responses={200: r.Release})
def get_release(path: ReleasePath) -> Response:
    """Show a release, or the tombstone of one that was taken away."""
    with application().uow(read_only=True) as uow:
        return _show(uow, path.release_id)


@blueprint.patch(
    "/releases/<string:release_id>",
    summary="Revise a release",
    responses={200: r.Release, **_EDITED},
)
def revise_release(path: ReleasePath, body: r.RevisedRelease, header: RevisionHeader) -> Response:
    """Change a draft or a returned release: another candidate, or other terms."""
    with application().uow() as uow:
        releases.revise_release(
            uow,
            actor(),
            release_id=path.release_id,
            if_match=needed_revision(header),
            audit_job_id=body.audit_job_id,
            terms=body.terms,
        )
        return _show(uow, path.release_id)


@blueprint.post(
    "/releases/<string:release_id>/submit",
    summary="Submit for review",
    responses={200: r.Release, **_EDITED},
)
def submit_release(path: ReleasePath, header: RevisionHeader) -> Response:
    """Freeze the evidence and hand the release to two auditors."""
    with application().uow() as uow:
        releases.submit_release(
            uow, actor(), release_id=path.release_id, if_match=needed_revision(header)
        )
        return _show(uow, path.release_id)


@blueprint.post(
    "/releases/<string:release_id>/reviews", summary="Vote", responses={200: r.Release, **_EDITED}
)
def review_release(path: ReleasePath, body: r.NewReview, header: RevisionHeader) -> Response:
    """Approve, return or reject; hidden until both auditors have voted."""
    with application().uow() as uow:
        releases.review_release(
            uow,
            actor(),
            release_id=path.release_id,
            decision=Decision(body.decision),
            reason=body.reason,
            conditions=_conditions(body.conditions),
            if_match=needed_revision(header),
        )
        return _show(uow, path.release_id)


def _conditions(asked: r.Conditions | None) -> Conditions | None:
    if asked is None:
        return None
    return Conditions(asked.text.strip(), asked.max_tier, asked.expires_on)


@blueprint.post(
    "/releases/<string:release_id>/publish",
    summary="Publish",
    responses={202: r.Job, **_EDITED},
)
def publish_release(path: ReleasePath, header: PublicationHeader) -> Response:
    """Queue the PACKAGE job that signs and publishes an approved release."""
    with application().uow() as uow:

        def publish() -> Response:
            job = releases.publish_release(
                uow, actor(), release_id=path.release_id, if_match=needed_revision(header)
            )
            return answer_job(views.job(job))

        return answer_once(uow, header.idempotency_key, publish, scope=Scope.RELEASES)


@blueprint.post(
    "/releases/<string:release_id>/suspend",
    summary="Suspend",
    responses={200: r.Release, **_EDITED},
)
def suspend_release(path: ReleasePath, body: r.Reason, header: RevisionHeader) -> Response:
    """Take a published release away for now; leaves a tombstone."""
    return _move(releases.suspend_release, path, body, header)


@blueprint.post(
    "/releases/<string:release_id>/reinstate",
    summary="Reinstate",
    responses={200: r.Release, **_EDITED},
)
def reinstate_release(path: ReleasePath, body: r.Reason, header: RevisionHeader) -> Response:
    """Bring a suspended release back."""
    return _move(releases.reinstate_release, path, body, header)


@blueprint.post(
    "/releases/<string:release_id>/revoke",
    summary="Revoke",
    responses={200: r.Release, **_EDITED},
)
def revoke_release(path: ReleasePath, body: r.Reason, header: RevisionHeader) -> Response:
    """Take a published release away for good; leaves a tombstone."""
    return _move(releases.revoke_release, path, body, header)


@blueprint.post(
    "/releases/<string:release_id>/withdraw",
    summary="Withdraw",
    responses={200: r.Release, **_EDITED},
)
def withdraw_release(path: ReleasePath, body: r.Reason, header: RevisionHeader) -> Response:
    """Take a release back before it is published."""
    return _move(releases.withdraw_release, path, body, header)


@blueprint.post(
    "/releases/<string:release_id>/acceptances",
    summary="Accept the terms",
    responses={201: r.Acceptance},
)
def accept_terms(path: ReleasePath) -> Response:
    """Accept the terms of a release; needed before its first download."""
    with application().uow() as uow:
        found = downloads.accept_terms(uow, actor(), release_id=path.release_id)
        view = r.Acceptance(
            release_id=found.release_id, user_id=found.user_id, accepted_at=found.accepted_at
        )
    return answer(view, status=201)


@blueprint.post(
    "/releases/<string:release_id>/downloads", summary="Download", responses={201: r.Download}
)
def create_download(path: ReleasePath) -> Response:
    """Return a short-lived URL of the bundle, its size and its SHA-256."""
    with application().uow() as uow:
        found = downloads.create_download(uow, actor(), release_id=path.release_id)
    view = r.Download(
        url=found.url,
        expires_at=found.expires_at,
        size_bytes=found.size,
        sha256=found.sha256,
        file_name=found.file_name,
    )
    return answer(view, status=201)


@blueprint.get(
    "/releases/<string:release_id>/trail", summary="A release's trail", responses={200: r.TrailPage}
)
def list_trail(path: ReleasePath, query: TrailQuery) -> Response:
    """List what happened to a release, oldest first."""
    with application().uow(read_only=True) as uow:
        rows = releases.list_trail(
            uow, actor(), release_id=path.release_id, after=query.cursor, limit=query.limit
        )
    return answer(views.trail_page(rows, limit=query.limit))


@blueprint.post("/releases/re-audits", summary="Audit releases again", responses={202: r.Reaudits})
def request_reaudits(body: r.NewReaudits, header: IdempotencyHeader) -> Response:
    """Queue an audit of each release under the policy in force; one that fails is suspended."""
    with application().uow() as uow:

        def request() -> Response:
            queued, skipped = reaudits.request_reaudits(
                uow, actor(), release_ids=body.release_ids, depth=body.depth
            )
            policy = policy_in_force(uow, actor().tenant_id)
            view = r.Reaudits(
                policy_version=policy.version,
                policy_digest=policy.digest,
                queued=[r.Reaudit(release_id=str(j.release_id), job_id=j.id) for j in queued],
                skipped=[
                    r.SkippedRelease(release_id=s.release_id, reason=s.reason) for s in skipped
                ],
            )
            return answer(view, status=202)

        return answer_once(uow, header.idempotency_key, request, scope=Scope.JOBS)


@blueprint.get(
    "/releases/<string:release_id>/downloaders",
    summary="Who holds a release",
    responses={200: r.Downloaders},
)
def list_downloaders(path: ReleasePath) -> Response:
    """List everybody to whom a link to the bundle was handed out, to tell them what happened."""
    with application().uow(read_only=True) as uow:
        found = reaudits.list_downloaders(uow, actor(), release_id=path.release_id)
    return answer(r.Downloaders(items=[r.Downloader(**vars(person)) for person in found]))


def _move(
    operation: Callable[..., object], path: ReleasePath, body: r.Reason, header: RevisionHeader
) -> Response:
    """Run one of the moves that need a reason and the current revision; show the release after."""
    with application().uow() as uow:
        operation(
            uow,
            actor(),
            release_id=path.release_id,
            reason=body.reason,
            if_match=needed_revision(header),
        )
        return _show(uow, path.release_id)


def _show(uow: UnitOfWork, release_id: str, *, status: int = 200) -> Response:
    uow.session.flush()  # the revision, which is the ETag, is counted when the row is written
    found = releases.get_release(uow, actor(), release_id=release_id)
    headers = {"ETag": found.release.etag}
    if status == 201:
        headers["Location"] = f"/v1/releases/{release_id}"
    return answer(views.release(found), status=status, headers=headers)
