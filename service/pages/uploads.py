"""The guided upload: choose a file, send it in parts that survive a broken line, read the findings.

The parts go through the service, because a page may speak to its own origin only. `upload.js` sends
them; the page says what a good file looks like, and the command for those without scripts.
"""

import hmac
from collections.abc import Iterator

from flask import Response, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.domain import permissions
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.errors import InputRefused
from service.domain.jobs import Job, JobKind
from service.operations import datasets, jobs, upload_parts, uploads
from service.pages.datasets import about
from service.pages.rules import reason
from service.pages.session import actor, blueprint, csrf_token
from service.refusals import RequestRefused
from service.store.unit_of_work import UnitOfWork
from service.web import application

_BLOCK_BYTES = 256 * 1024
_SHA256_DIGITS = 64


@blueprint.get("/datasets/<string:dataset_id>/upload")
def upload_file(dataset_id: str) -> str:
    """Say what a good file looks like, and take it."""
    with application().uow(read_only=True) as uow:
        found = datasets.get_dataset(uow, actor(), dataset_id=dataset_id)
        permissions.check_may_change_dataset(actor(), found, asked=dataset_id)
        versions = datasets.list_versions(uow, actor(), dataset_id=dataset_id).items
        waiting = [one for one in versions if one.state is VersionState.UPLOADING]
        return render_template(
            "upload.html",
            waiting=waiting,
            version=None,
            most_bytes=uow.settings.max_upload_bytes,
            suffixes=uploads.suffixes_of(found.schema),
            **about(uow, found, here="overview"),
        )


@blueprint.post("/datasets/<string:dataset_id>/upload")
def start_upload(dataset_id: str) -> Response:
    """Make a version whose parts come next; answers a script."""
    size = request.form.get("size_bytes", "")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise InputRefused("The upload was refused: its size is not a number.", value=size[:40])
    with application().uow() as uow:
        version = datasets.start_upload(
            uow,
            actor(),
            dataset_id=dataset_id,
            suffix=request.form.get("suffix", ""),
            size_bytes=int(size),
        )
        return jsonify(_places(version))


@blueprint.get("/versions/<string:version_id>/upload")
def resume_upload(version_id: str) -> str | AnyResponse:
    """Go on with an upload that was interrupted; one that has ended leads to its version."""
    with application().uow(read_only=True) as uow:
        version = datasets.get_version(uow, actor(), version_id=version_id)
        permissions.check_may_upload(actor(), version, asked=version_id)
        if version.state is not VersionState.UPLOADING:
            return redirect(url_for("pages.show_version", version_id=version_id))
        dataset = datasets.get_dataset(uow, actor(), dataset_id=version.dataset_id)
        return render_template(
            "upload.html",
            waiting=[],
            version=version,
            places=_places(version),
            most_bytes=uow.settings.max_upload_bytes,
            suffixes=uploads.suffixes_of(dataset.schema),
            **about(uow, dataset, here="overview"),
        )


@blueprint.get("/versions/<string:version_id>/upload/parts")
def list_upload_parts(version_id: str) -> Response:
    """Say which parts have arrived; answers a script."""
    with application().uow(read_only=True) as uow:
        arrived = upload_parts.list_parts(uow, actor(), version_id=version_id)
        return jsonify(parts=[part.number for part in arrived])


@blueprint.put("/versions/<string:version_id>/upload/parts/<int:number>")
def put_upload_part(version_id: str, number: int) -> Response:
    """Store one part, checked against the SHA-256 that was announced; answers a script."""
    sent = request.headers.get("X-Csrf-Token", "")
    if not hmac.compare_digest(sent.encode(), csrf_token().encode()):
        raise RequestRefused(
            400, "The part was refused: its page is too old. Load the page again, then go on."
        )
    sha256 = request.headers.get("X-Part-Sha256", "")
    if len(sha256) != _SHA256_DIGITS:
        raise InputRefused("The part was refused without its SHA-256.", value=sha256[:80])
    request.max_content_length = application().settings.max_upload_bytes
    with application().uow() as uow:
        part = upload_parts.put_part(
            uow, actor(), version_id=version_id, number=number, sha256=sha256, chunks=_blocks()
        )
    return jsonify(number=part.number, size=part.size)


@blueprint.post("/versions/<string:version_id>/upload/complete")
def complete_upload(version_id: str) -> Response:
    """Put the parts together and queue the INGEST job; answers a script."""
    with application().uow() as uow:
        upload_parts.complete_parts(uow, actor(), version_id=version_id)
    return jsonify(location=url_for("pages.show_version", version_id=version_id))


@blueprint.post("/versions/<string:version_id>/upload/abandon")
def abandon_upload(version_id: str) -> AnyResponse:
    """Give up an upload; what has arrived is deleted."""
    with application().uow() as uow:
        version = upload_parts.abandon_upload(uow, actor(), version_id=version_id)
        address = url_for("pages.show_dataset", dataset_id=version.dataset_id)
    return redirect(address, code=303)


@blueprint.get("/versions/<string:version_id>")
def show_version(version_id: str) -> str:
    """Show a version: how its check goes, what was found, why it was refused if it was."""
    with application().uow(read_only=True) as uow:
        version = datasets.get_version(uow, actor(), version_id=version_id)
        dataset = datasets.get_dataset(uow, actor(), dataset_id=version.dataset_id)
        ingest = _ingest_of(uow, version)
        return render_template(
            "version.html",
            version=version,
            ingest=ingest,
            report=version.ingest_report,
            is_live=version.state is VersionState.INGESTING,
            may_not_train=reason(
                lambda: permissions.check_may_train(actor(), version, asked=version_id)
            ),
            **about(uow, dataset, here=""),
        )


def _places(version: DatasetVersion) -> dict[str, object]:
    """Return what a script must know to send the parts of a version."""
    return {
        "version": version.id,
        "size": version.raw_bytes,
        "part_bytes": version.part_bytes,
        "part_count": version.part_count,
        "page": url_for("pages.resume_upload", version_id=version.id),
        "parts": url_for("pages.list_upload_parts", version_id=version.id),
        "complete": url_for("pages.complete_upload", version_id=version.id),
    }


def _ingest_of(uow: UnitOfWork, version: DatasetVersion) -> Job | None:
    """Return the job that makes this version: an ingest, or a withdrawal."""
    for kind in (JobKind.INGEST, JobKind.ERASE):
        page = jobs.list_jobs(uow, actor(), dataset_id=version.dataset_id, kind=kind, limit=200)
        for job in page.items:
            if job.version_id == version.id:
                return job
    return None


def _blocks() -> Iterator[bytes]:
    while block := request.stream.read(_BLOCK_BYTES):
        yield block
