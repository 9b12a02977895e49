"""Read the documents that a job has stored: audit reports and grids of synthetic images."""

import json
import re
from typing import Any, Literal

from flask import Response

from service.domain.accounts import Actor
from service.domain.errors import NotFound
from service.domain.jobs import Job
from service.operations import jobs
from service.store.objects import Bucket, ObjectMissing
from service.store.unit_of_work import UnitOfWork

REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
"""A report is a page of its own: no script, no request, no access to the service's cookies."""

_PICTURE = re.compile(rb"<img\b[^>]*>", re.IGNORECASE)
_SYNTHETIC = re.compile(
    rb"""<img src="data:image/png;base64,[A-Za-z0-9+/=]*" alt="synthetic, [^"]*">"""
)
_HEADING = re.compile(rb"</h1>", re.IGNORECASE)
_LEFT_OUT = (
    b'</h1><p role="note">Pictures of real records were taken out of this page: they are looked at one '
    b"by one in the evidence, where each look is recorded.</p>"
)

_LONGEST_ROWS = 4 * 1024 * 1024


def read_report(
    uow: UnitOfWork, actor: Actor, *, audit_job_id: str, form: Literal["report", "report_html"]
) -> bytes:
    """Return an audit report as JSON or as HTML; the reading is in the trail.

    Raises: NotFound, PermissionDenied.
    """
    job = jobs.get_report(uow, actor, audit_job_id=audit_job_id)
    content = _read(uow, job.result.get(form), missing_report(job, form=form))
    return without_real_records(content) if form == "report_html" else content


def without_real_records(page: bytes) -> bytes:
    """Return a report's page with no picture but those it calls synthetic.

    Workers put none of a real record on it. Pages that they stored before 23 November 2026 held some, and
    a look at those would not be in the trail.
    """
    kept = _PICTURE.sub(lambda tag: tag[0] if _SYNTHETIC.fullmatch(tag[0]) else b"", page)
    return page if kept == page else _HEADING.sub(_LEFT_OUT, kept, count=1)


def read_pair(uow: UnitOfWork, actor: Actor, *, audit_job_id: str, number: int) -> dict[str, Any]:
    """Return one suspicious pair of an audit with its pictures; the look is in the trail.

    Raises: NotFound, PermissionDenied.
    """
    job = jobs.view_pair(uow, actor, audit_job_id=audit_job_id, number=number)
    pairs = json.loads(_read(uow, job.result.get("pairs"), missing_report(job, form="report_html")))
    pair: dict[str, Any] = pairs[number - 1]
    return pair


def read_utility(uow: UnitOfWork, audit: Job) -> dict[str, Any]:
    """Return what was measured of a candidate's usefulness; empty where nothing was stored.

    It is a part of the report: the caller reads that first, which puts the reading into the trail.
    """
    key = audit.result.get("utility")
    try:
        found = json.loads(uow.objects.get_bytes(Bucket.WORK, key)) if key else {}
    except ObjectMissing:
        return {}
    return found if isinstance(found, dict) else {}


def missing_report(job: Job, *, form: Literal["report", "report_html"]) -> str:
    """Return the sentence that says why a report is not there."""
    if form == "report_html" and job.result.get("pictures_erased"):
        return (
            f"The page of report {job.id!r} was erased: it showed real images, and a person was "
            "withdrawn from the data it is about. Read the report as JSON."
        )
    return f"No report of job {job.id!r} was found. Its audit is {job.status}."


def read_sample_grid(uow: UnitOfWork, actor: Actor, *, job_id: str) -> bytes:
    """Return the newest grid of synthetic images that a job has drawn, as PNG.

    Raises: NotFound, PermissionDenied.
    """
    job = jobs.get_job(uow, actor, job_id=job_id)
    return _read(
        uow,
        grid_key(uow, job),
        f"Job {job_id!r} has drawn no grid yet. Look again when it has trained for a while.",
    )


def grid_key(uow: UnitOfWork, job: Job) -> str | None:
    """Return where the grid of the newest attempt that has drawn one lies, if there is any."""
    return _newest(uow, job, "grid.png")


def read_sample_rows(uow: UnitOfWork, job: Job | None) -> dict[str, Any] | None:
    """Return the columns and the first rows of the table that a job drew; None where there is none.

    Nothing is asked here: the caller decides who may see synthetic rows.
    """
    key = _newest(uow, job, "rows.json") if job is not None else None
    if key is None:
        return None
    try:
        found = json.loads(uow.objects.get_bytes(Bucket.WORK, key, limit_bytes=_LONGEST_ROWS))
    except ObjectMissing:
        return None
    return found if isinstance(found, dict) else None


def _newest(uow: UnitOfWork, job: Job, name: str) -> str | None:
    """Return where a document of the newest attempt that stored one lies, if there is any."""
    for attempt in range(job.attempt, 0, -1):
        key = f"candidate/{job.id}/{attempt}/{name}"
        if uow.objects.exists(Bucket.WORK, key):
            return key
    return None


def page_response(content: bytes) -> Response:
    """Return an HTML report under a policy that lets it do nothing."""
    response = Response(content, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = REPORT_POLICY
    return response


def _read(uow: UnitOfWork, key: str | None, missing: str) -> bytes:
    if key is None:
        raise NotFound(missing)
    try:
        return uow.objects.get_bytes(Bucket.WORK, key)
    except ObjectMissing as error:
        raise NotFound(missing) from error
