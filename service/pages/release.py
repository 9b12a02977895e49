"""A release's page: its guarantee, what it comes with, how to get and to load it; its tombstone."""

from typing import Any

from flask import Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service import documents
from service.citations import cite
from service.domain.access import AccessMode
from service.domain.accounts import Role, Tenant
from service.domain.datasets import Dataset
from service.domain.declarations import DUO_TERMS, LICENCES, MODALITIES, duo_purl
from service.domain.errors import DomainError, NotFound
from service.domain.jobs import Job
from service.domain.releases import Release, ReleaseState
from service.operations import catalogue_search, downloads, reaudits, releases
from service.operations.access_policies import Standing
from service.operations.declaring import declaration_of
from service.operations.releases import ReleaseView
from service.pages.session import actor, blueprint
from service.store.objects import Bucket, ObjectMissing
from service.store.unit_of_work import UnitOfWork
from service.web import application

_AWAY = {
    ReleaseState.SUSPENDED: "Stop using your copy until it is decided what becomes of it. "
    "Keep it aside: the release may come back, or be revoked.",
    ReleaseState.REVOKED: "If you hold a copy, stop using it and delete it. Results that rest on it "
    "need to be looked at again; tell whoever relies on them.",
    ReleaseState.EXPIRED: "Its time is over. Finish or stop what you do with your copy as the terms "
    "say, and look for a newer version.",
}
"""What holders of a copy must do, by what became of the release."""


@blueprint.get("/releases/<string:release_id>")
def show_release(release_id: str) -> str:
    """Show a release: its guarantee first."""
    with application().uow(read_only=True) as uow:
        view = releases.get_release(uow, actor(), release_id=release_id)
        release = view.release
        tenant = uow.get(Tenant, release.tenant_id)
        tenant_name = tenant.name if tenant else ""
        declared = declaration_of(release)
        standing, role_refusal = _standing(uow, release)
        return render_template(
            "release.html",
            nav="releases",
            release=release,
            view=view,
            certificate=release.certificate,
            unit=_unit(uow, release),
            sample=_sample_rows(uow, release),
            tenant=tenant_name,
            declared=declared,
            licence_words=LICENCES.get(declared.licence, ""),
            imitated=MODALITIES.get(declared.modality, ""),
            duo=[(code, *DUO_TERMS[code], duo_purl(code)) for code in declared.duo],
            citation=cite(
                declared,
                name=release.name,
                version=release.version,
                tenant=tenant_name,
                published_at=release.published_at,
                sha256=release.bundle_sha256,
                modality=release.modality,
            ),
            versions=catalogue_search.list_versions(uow, actor(), release=release),
            standing=standing,
            obstacle=role_refusal or _first(standing),
            by_request=standing is not None and standing.mode is AccessMode.BY_REQUEST,
            may_preview=downloads.may_preview(uow, actor(), release),
            terms_digest=downloads.terms_digest(release),
            must_do=_AWAY.get(release.state),
            **_inside(uow, view),
        )


@blueprint.get("/releases/<string:release_id>/preview.png")
def show_preview(release_id: str) -> Response:
    """Return the grid of images of a published bundle; nobody sees that of one taken away.

    Raises: NotFound, also for whoever would have to ask for the release first.
    """
    missing = NotFound(f"Release {release_id!r} has no picture to show.")
    with application().uow(read_only=True) as uow:
        view = releases.get_release(uow, actor(), release_id=release_id)
        key = view.release.preview_key
        if key is None or view.release.state is not ReleaseState.PUBLISHED:
            raise missing
        if not downloads.may_preview(uow, actor(), view.release):
            raise missing
        try:
            image = uow.objects.get_bytes(Bucket.WORK, key, limit_bytes=16 * 1024 * 1024)
        except ObjectMissing as error:
            raise missing from error
    return Response(image, content_type="image/png")


@blueprint.post("/releases/<string:release_id>/terms")
def accept_terms(release_id: str) -> AnyResponse:
    """Accept the terms that were shown, named by their digest."""
    with application().uow() as uow:
        downloads.accept_terms(
            uow,
            actor(),
            release_id=release_id,
            accepted_digest=request.form.get("terms_digest", ""),
        )
    return redirect(url_for("pages.show_release", release_id=release_id) + "#get", code=303)


@blueprint.get("/releases/<string:release_id>/bundle")
def download_bundle(release_id: str) -> AnyResponse:
    """Check everything again, then lead to the bundle: the link that is made here lives for minutes.

    A link and not a form: the policy of the pages lets no form lead to the object store.
    """
    with application().uow() as uow:
        ticket = downloads.create_download(uow, actor(), release_id=release_id)
    return redirect(ticket.url)


def _standing(uow: UnitOfWork, release: Release) -> tuple[Standing | None, str | None]:
    """Return what the actor lacks for a download; or the sentence for a role that has none."""
    if release.state is not ReleaseState.PUBLISHED:
        return None, None
    try:
        return downloads.download_standing(uow, actor(), release_id=release.id), None
    except DomainError as error:
        return None, error.sentence


def _first(standing: Standing | None) -> str | None:
    return standing.refusals[0] if standing and standing.refusals else None


def _inside(uow: UnitOfWork, view: ReleaseView) -> dict[str, Any]:
    """Return what the release's own data owners and auditors see besides."""
    release, inside = view.release, view.is_insider
    found = actor()
    return {
        "is_owner": found.tenant_id == release.tenant_id and found.has(Role.DATA_OWNER),
        "is_auditor": found.tenant_id == release.tenant_id and found.has(Role.AUDITOR),
        "reaudits": reaudits.list_reaudits(uow, release) if inside else [],
        "downloaders": (
            reaudits.list_downloaders(uow, found, release_id=release.id) if inside else []
        ),
        "trail": releases.list_trail(uow, found, release_id=release.id, limit=200),
    }


def _unit(uow: UnitOfWork, release: Release) -> str | None:
    """Return whose presence is hidden: stated by the certificate, before it by the dataset.

    A record of a table is a row.
    """
    if release.certificate:
        unit, is_row = str(release.certificate["unit"]), release.holds_rows
    else:
        dataset = uow.get(Dataset, release.dataset_id)
        if dataset is None:
            return None
        unit, is_row = dataset.schema.unit.value, dataset.modality != "image"
    return "row" if unit == "record" and is_row else unit


def _sample_rows(uow: UnitOfWork, release: Release) -> dict[str, Any] | None:
    """Return columns and a few rows of a published table, for whoever may see a preview."""
    if not release.holds_rows or release.state is not ReleaseState.PUBLISHED:
        return None
    if not downloads.may_preview(uow, actor(), release):
        return None
    audit = uow.get(Job, release.audit_job_id)
    sample = uow.get(Job, str(audit.payload.get("sample_job_id"))) if audit else None
    return documents.read_sample_rows(uow, sample)
