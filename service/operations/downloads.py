"""Accept the terms of a release, and get a short-lived URL of its bundle."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.errors import Conflict, IllegalTransition, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.releases import Acceptance, Download, Location, Release, ReleaseState
from service.domain.trail import TrailEvent
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class DownloadTicket:
    """Where the bundle is for the next minutes, and what must come out of it."""

    url: str
    expires_at: datetime
    size: int
    sha256: str
    file_name: str


def terms_digest(release: Release) -> str:
    """Return the SHA-256 of the terms that a collaborator accepts."""
    return hashlib.sha256(release.terms.encode()).hexdigest()


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
    if acceptance is None:
        acceptance = Acceptance(release.id, actor.user_id, digest, uow.now())
        uow.session.add(acceptance)
        uow.trail(actor, TrailEvent.TERMS_ACCEPT, release.id, terms=digest)
    return acceptance


def create_download(uow: UnitOfWork, actor: Actor, *, release_id: str) -> DownloadTicket:
    """Return a presigned URL; that it was handed out is recorded, the URL is not.

    Raises: PermissionDenied before the terms are accepted; IllegalTransition unless PUBLISHED.
    """
    release = _published(uow, actor, release_id)
    acceptance = uow.get(Acceptance, (release.id, actor.user_id))
    if acceptance is None or acceptance.terms_digest != terms_digest(release):
        raise PermissionDenied(
            "The download was refused: you have not accepted the terms of this release. "
            "Read and accept them first.",
            remedy="accept the terms",
        )
    if (
        release.location is not Location.RELEASED
        or release.bundle_key is None
        or release.bundle_sha256 is None
    ):
        raise Conflict("The download was refused: the bundle is being moved. Retry in a moment.")
    seconds = uow.settings.download_url_seconds
    expires_at = uow.now() + timedelta(seconds=seconds)
    download = Download(new_id("dwn"), release.id, actor.user_id, uow.now(), expires_at)
    uow.session.add(download)
    uow.trail(actor, TrailEvent.RELEASE_DOWNLOAD, release.id, download=download.id)
    url = uow.objects.presign_get(
        Bucket.RELEASED, release.bundle_key, seconds=seconds, file_name=release.file_name
    )
    return DownloadTicket(
        url, expires_at, release.bundle_bytes, release.bundle_sha256, release.file_name
    )


def _published(uow: UnitOfWork, actor: Actor, release_id: str) -> Release:
    release = permissions.check_may_download(actor, uow.get(Release, release_id), asked=release_id)
    if release.state is not ReleaseState.PUBLISHED:
        raise IllegalTransition(
            f"The download was refused: release {release.id} is {release.state.value}. "
            "Its page says why.",
            state=release.state.value,
        )
    return release
