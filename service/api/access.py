"""Access: policies, agreements, requests, grants, the download log; JSON in, operation, JSON out."""

from datetime import UTC, datetime
from typing import Literal

from flask import Response
from pydantic import BaseModel, ConfigDict, Field

from service import access_resources as r
from service import download_log
from service.api import access_views as views
from service.api.answers import ListQuery, ReleasePath, RevisionHeader, answer, answer_page
from service.api.auth import actor, make_blueprint
from service.api.problems import documented
from service.domain.access import AccessMode, RequestState
from service.operations import access, access_policies, agreements, declaring, downloads
from service.resources import Identifier
from service.store.unit_of_work import UnitOfWork
from service.web import application

blueprint = make_blueprint("access", about="Access: who may have a release, and who has it.")

_STALE = documented(412)


class RequestPath(BaseModel):
    """An access request."""

    request_id: Identifier


class AgreementPath(BaseModel):
    """An agreement."""

    agreement_id: Identifier


class RequestQuery(ListQuery):
    """Which requests."""

    model_config = ConfigDict(extra="forbid")

    whose: Literal["mine", "incoming"] = Field(
        default="mine", description="mine, or those that my tenant decides on"
    )
    state: RequestState | None = None
    release_id: Identifier | None = None


@blueprint.get(
    "/releases/<string:release_id>/access-policy",
    summary="Who may have a release",
    responses={200: r.AccessPolicy},
)
def get_access_policy(path: ReleasePath) -> Response:
    """Say who may have a release, what is asked of them, and what you lack to download it."""
    with application().uow(read_only=True) as uow:
        policy = access_policies.get_access_policy(uow, actor(), release_id=path.release_id)
        return answer(views.policy(uow, actor(), policy))


@blueprint.put(
    "/releases/<string:release_id>/access-policy",
    summary="Choose who may have a release",
    responses={200: r.AccessPolicy},
)
def set_access_policy(path: ReleasePath, body: r.NewAccessPolicy) -> Response:
    """Open a release to everybody who accepts its terms, or give it on request only."""
    with application().uow() as uow:
        policy = access_policies.set_access_policy(
            uow,
            actor(),
            release_id=path.release_id,
            mode=AccessMode(body.mode),
            fields=body.fields,
            agreement_id=body.agreement_id,
            grant_days=body.grant_days,
        )
        uow.session.flush()
        return answer(views.policy(uow, actor(), policy))


@blueprint.post(
    "/releases/<string:release_id>/access-requests",
    summary="Ask for access",
    responses={201: r.AccessRequest},
)
def request_access(path: ReleasePath, body: r.NewAccessRequest) -> Response:
    """Ask for a release, or for a grant to be renewed."""
    with application().uow() as uow:
        made = access.request_access(
            uow,
            actor(),
            release_id=path.release_id,
            answers=body.answers,
            agreement_number=body.agreement_number,
            agreement_sha256=body.agreement_sha256,
        )
        return _show(uow, made.id, status=201)


@blueprint.get(
    "/access-requests", summary="List access requests", responses={200: r.AccessRequestPage}
)
def list_access_requests(query: RequestQuery) -> Response:
    """List your requests and grants, or those that your tenant decides on."""
    with application().uow(read_only=True) as uow:
        page = access.list_access_requests(
            uow,
            actor(),
            whose=query.whose,
            state=query.state,
            release_id=query.release_id,
            cursor=query.cursor,
            limit=query.limit,
        )
        return answer_page(r.AccessRequestPage, page, views.access_request)


@blueprint.get(
    "/access-requests/<string:request_id>",
    summary="An access request",
    responses={200: r.AccessRequest},
)
def get_access_request(path: RequestPath) -> Response:
    """Show a request that you made, or decide on."""
    with application().uow(read_only=True) as uow:
        return _show(uow, path.request_id)


@blueprint.post(
    "/access-requests/<string:request_id>/approve",
    summary="Grant access",
    responses={200: r.AccessRequest, **_STALE},
)
def approve_access(path: RequestPath, body: r.Approval, header: RevisionHeader) -> Response:
    """Grant access for a number of days."""
    with application().uow() as uow:
        access.approve_access(
            uow,
            actor(),
            request_id=path.request_id,
            days=body.days,
            reason=body.reason,
            if_match=header.if_match,
        )
        return _show(uow, path.request_id)


@blueprint.post(
    "/access-requests/<string:request_id>/reject",
    summary="Refuse access",
    responses={200: r.AccessRequest, **_STALE},
)
def reject_access(path: RequestPath, body: r.Why, header: RevisionHeader) -> Response:
    """Refuse a request; its author reads the reason."""
    with application().uow() as uow:
        access.reject_access(
            uow,
            actor(),
            request_id=path.request_id,
            reason=body.reason,
            if_match=header.if_match,
        )
        return _show(uow, path.request_id)


@blueprint.post(
    "/access-requests/<string:request_id>/withdraw",
    summary="Withdraw a request",
    responses={200: r.AccessRequest, **_STALE},
)
def withdraw_access_request(path: RequestPath, header: RevisionHeader) -> Response:
    """Take back your own request before it is decided."""
    with application().uow() as uow:
        access.withdraw_access_request(
            uow, actor(), request_id=path.request_id, if_match=header.if_match
        )
        return _show(uow, path.request_id)


@blueprint.post(
    "/access-requests/<string:request_id>/revoke",
    summary="Revoke a grant",
    responses={200: r.AccessRequest, **_STALE},
)
def revoke_access(path: RequestPath, body: r.Why, header: RevisionHeader) -> Response:
    """End a grant at once; its user reads the reason."""
    with application().uow() as uow:
        access.revoke_access(
            uow,
            actor(),
            request_id=path.request_id,
            reason=body.reason,
            if_match=header.if_match,
        )
        return _show(uow, path.request_id)


@blueprint.get("/agreements", summary="List agreements", responses={200: r.Agreements})
def list_agreements() -> Response:
    """List the agreements of your tenant."""
    with application().uow(read_only=True) as uow:
        found = agreements.list_agreements(uow, actor())
        return answer(r.Agreements(items=[views.agreement(view) for view in found]))


@blueprint.post("/agreements", summary="Write an agreement", responses={201: r.Agreement})
def create_agreement(body: r.NewAgreement) -> Response:
    """Write the first version of an agreement."""
    with application().uow() as uow:
        made = agreements.create_agreement(
            uow,
            actor(),
            name=body.name,
            text=body.text,
            effective_from=_in_utc(body.effective_from),
        )
        return answer(views.agreement(made), status=201)


@blueprint.get(
    "/agreements/<string:agreement_id>", summary="An agreement", responses={200: r.Agreement}
)
def get_agreement(path: AgreementPath) -> Response:
    """Show an agreement of your tenant, or one that a published release needs."""
    with application().uow(read_only=True) as uow:
        found = agreements.get_agreement(uow, actor(), agreement_id=path.agreement_id)
        return answer(views.agreement(found))


@blueprint.post(
    "/agreements/<string:agreement_id>/versions",
    summary="Write a new version",
    responses={201: r.Agreement},
)
def add_agreement_version(path: AgreementPath, body: r.NewAgreementVersion) -> Response:
    """Write another version; whoever accepted an older one is asked again."""
    with application().uow() as uow:
        made = agreements.add_agreement_version(
            uow,
            actor(),
            agreement_id=path.agreement_id,
            text=body.text,
            effective_from=_in_utc(body.effective_from),
        )
        return answer(views.agreement(made), status=201)


@blueprint.post(
    "/agreements/<string:agreement_id>/acceptances",
    summary="Accept an agreement",
    responses={201: r.AgreementAcceptance},
)
def accept_agreement(path: AgreementPath, body: r.NewAgreementAcceptance) -> Response:
    """Accept the version in force, by its number and digest."""
    with application().uow() as uow:
        made = agreements.accept_agreement(
            uow,
            actor(),
            agreement_id=path.agreement_id,
            number=body.number,
            sha256=body.sha256,
        )
        return answer(r.AgreementAcceptance(**views.fields_of(made)), status=201)


@blueprint.get(
    "/releases/<string:release_id>/downloads",
    summary="The download log",
    responses={200: r.DownloadLog},
)
def list_downloads(path: ReleasePath, query: ListQuery) -> Response:
    """List the links that were handed out: to whom, when, under which grant."""
    with application().uow(read_only=True) as uow:
        page = downloads.list_downloads(
            uow, actor(), release_id=path.release_id, cursor=query.cursor, limit=query.limit
        )
        return answer_page(r.DownloadLog, page, lambda row: r.LoggedDownload(**vars(row)))


@blueprint.get("/releases/<string:release_id>/downloads.csv", summary="The download log as CSV")
def download_log_csv(path: ReleasePath) -> Response:
    """Return the whole download log as CSV."""
    with application().uow(read_only=True) as uow:
        text = download_log.as_csv(uow, actor(), release_id=path.release_id)
    return Response(text, content_type="text/csv; charset=utf-8")


@blueprint.get(
    "/releases/<string:release_id>/declaration",
    summary="Licence, uses, citation",
    responses={200: r.Declaration},
)
def get_declaration(path: ReleasePath) -> Response:
    """Show what is declared about a release, and how to cite it."""
    with application().uow(read_only=True) as uow:
        return answer(views.declaration(uow, actor(), path.release_id))


@blueprint.put(
    "/releases/<string:release_id>/declaration",
    summary="Declare licence, uses, citation",
    responses={200: r.Declaration, **documented(412)},
)
def declare_release(path: ReleasePath, body: r.NewDeclaration, header: RevisionHeader) -> Response:
    """Declare what a draft or returned release comes with."""
    with application().uow() as uow:
        declaring.declare_release(
            uow,
            actor(),
            release_id=path.release_id,
            declaration=body,
            if_match=header.if_match,
        )
        uow.session.flush()
        return answer(views.declaration(uow, actor(), path.release_id))


def _show(uow: UnitOfWork, request_id: str, *, status: int = 200) -> Response:
    uow.session.flush()  # the revision, which is the ETag, is counted when the row is written
    found = access.get_access_request(uow, actor(), request_id=request_id)
    headers = {"ETag": found.request.etag}
    if status == 201:
        headers["Location"] = f"/v1/access-requests/{request_id}"
    return answer(views.access_request(found), status=status, headers=headers)


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
