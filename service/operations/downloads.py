"""Accept the terms of a release, and get a short-lived URL of its bundle.

Nothing that was checked earlier counts: each URL is minted at the time of use, after everything was
checked again in the transaction that records it. It lives for minutes, and never longer than the
grant. A release that is taken away has its object moved, which ends the URLs that are out.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from service.domain import access_permissions as may
from service.domain import permissions
from service.domain.access import AccessMode
from service.domain.accounts import Actor, User
from service.domain.errors import Conflict, IllegalTransition, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.releases import Acceptance, Download, Location, Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.access_policies import Standing, standing_of
from service.store import tables
from service.store.objects import Bucket
from service.store.pages import Page
from service.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class DownloadTicket:
    """Where the bundle is for the next minutes, and what must come out of it."""

    url: str
    expires_at: datetime
    size: int
    sha256: str
    file_name: str


@dataclass(frozen=True)
class LoggedDownload:
    """One link that was handed out: to whom, when, of which version, under which grant."""

    id: str
    at: datetime
    user_id: str
    user_name: str
    tenant: str
    release_name: str
    release_version: str
    grant_id: str | None


def terms_digest(release: Release) -> str:
    """Return the SHA-256 of what a collaborator accepts: terms, and conditions of the approval."""
    return hashlib.sha256(release.effective_terms.encode()).hexdigest()


def accept_terms(
    uow: UnitOfWork, actor: Actor, *, release_id: str, accepted_digest: str | None = None
) -> Acceptance:
    """Record that the actor accepts the terms; accepting again changes nothing.

    `accepted_digest`, if given, must name the terms that are current.  Raises: Conflict.
    """
    release = _published(uow, actor, release_id)
    digest = terms_digest(release)
    if accepted_digest is not None and accepted_digest != digest:
        raise Conflict("The acceptance was refused: the terms are others now. Read them again.")
    acceptance = uow.get(Acceptance, (release.id, actor.user_id))
    if acceptance is None or acceptance.terms_digest != digest:
        if acceptance is None:
            acceptance = Acceptance(release.id, actor.user_id, digest, uow.now())
            uow.session.add(acceptance)
        acceptance.terms_digest, acceptance.accepted_at = digest, uow.now()
        uow.trail(actor, TrailEvent.TERMS_ACCEPT, release.id, terms=digest)
    return acceptance


def download_standing(uow: UnitOfWork, actor: Actor, *, release_id: str) -> Standing:
    """Return what the actor has and lacks to download a release, for its page.

    Raises: NotFound; PermissionDenied for a role that downloads nothing.
    """
    release = permissions.check_may_download(actor, uow.get(Release, release_id), asked=release_id)
    return standing_of(uow, actor, release, terms=terms_digest(release))


def may_preview(uow: UnitOfWork, actor: Actor, release: Release) -> bool:
    """Tell whether the actor may see pictures of a bundle: they are a part of what is given.

    Of a release that is given on request, only its insiders and whoever may download it now do.
    """
    standing = standing_of(uow, actor, release, terms=terms_digest(release))
    if standing.mode is not AccessMode.BY_REQUEST or standing.is_insider:
        return True
    return not standing.refusals


def create_download(uow: UnitOfWork, actor: Actor, *, release_id: str) -> DownloadTicket:
    """Return a presigned URL; that it was handed out is recorded, the URL is not.

    Raises: PermissionDenied without grant, agreement or terms, or for a disabled user;
    IllegalTransition unless PUBLISHED.
    """
    release = _published(uow, actor, release_id)
    user = uow.session.get(User, actor.user_id, populate_existing=True)
    if user is None or user.disabled_at is not None:
        raise PermissionDenied("The download was refused: your account is disabled.")
    if release.expires_at is not None and release.expires_at <= uow.now():
        raise IllegalTransition(
            f"The download was refused: release {release.id} has expired.", state="expired"
        )
    standing = standing_of(uow, actor, release, terms=terms_digest(release))
    if standing.refusals:
        raise PermissionDenied(standing.refusals[0], remedy=_remedy(standing))
    if (
        release.location is not Location.RELEASED
        or release.bundle_key is None
        or release.bundle_sha256 is None
    ):
        raise Conflict("The download was refused: the bundle is being moved. Retry in a moment.")
    seconds = _lifetime(uow, standing, release)
    expires_at = uow.now() + timedelta(seconds=seconds)
    grant_id = standing.grant.id if standing.grant else None
    download = Download(new_id("dwn"), release.id, actor.user_id, uow.now(), expires_at, grant_id)
    uow.session.add(download)
    uow.trail(actor, TrailEvent.RELEASE_DOWNLOAD, release.id, download=download.id, grant=grant_id)
    url = uow.objects.presign_get(
        Bucket.RELEASED, release.bundle_key, seconds=seconds, file_name=release.file_name
    )
    return DownloadTicket(
        url, expires_at, release.bundle_bytes, release.bundle_sha256, release.file_name
    )


def list_downloads(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    cursor: str | None = None,
    limit: int = 100,
) -> Page[LoggedDownload]:
    """Return the links that were handed out to a release's bundle, the last one first.

    Raises: NotFound, PermissionDenied unless the actor is a data owner of the release's tenant.
    """
    release = may.check_may_see_download_log(actor, uow.get(Release, release_id), asked=release_id)
    downloads, users = tables.downloads.c, tables.users.c
    statement = (
        sa.select(
            downloads.id,
            downloads.created_at,
            users.id,
            users.name,
            tables.tenants.c.name,
            sa.literal(release.name),
            sa.literal(release.version),
            downloads.request_id,
        )
        .select_from(tables.downloads.join(tables.users).join(tables.tenants))
        .where(downloads.release_id == release.id)
        .order_by(downloads.id.desc())
        .limit(limit + 1)
    )
    if cursor:
        statement = statement.where(downloads.id < cursor)
    found = [LoggedDownload(*row) for row in uow.session.execute(statement)]
    items = found[:limit]
    return Page(items, items[-1].id if len(found) > limit else None)


def _lifetime(uow: UnitOfWork, standing: Standing, release: Release) -> int:
    """Return how many seconds the URL lives: never longer than what it rests on."""
    ends = [release.expires_at, standing.grant.expires_at if standing.grant else None]
    left = [int((end - uow.now()).total_seconds()) for end in ends if end is not None]
    return max(1, min([uow.settings.download_url_seconds, *left]))


def _remedy(standing: Standing) -> str:
    if "agreement" in standing.refusals[0]:
        return "accept the agreement"
    return "accept the terms" if "terms" in standing.refusals[0] else "ask for access"


def _published(uow: UnitOfWork, actor: Actor, release_id: str) -> Release:
    release = permissions.check_may_download(actor, uow.get(Release, release_id), asked=release_id)
    if release.state is not ReleaseState.PUBLISHED:
        raise IllegalTransition(
            f"The download was refused: release {release.id} is {release.state.value}. "
            "Its page says why.",
            state=release.state.value,
        )
    return release
