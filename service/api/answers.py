"""Path, query and header models of the endpoints, and how they answer."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from service.refusals import RequestRefused
from service.resources import Identifier, Job
from service.store.pages import MOST, Page

JOB_RETRY_AFTER_SECONDS = 2
"""How long a client should wait before it looks at a new job."""

T = TypeVar("T")


class DatasetPath(BaseModel):
    """A dataset."""

    dataset_id: Identifier


class VersionPath(BaseModel):
    """A dataset version."""

    version_id: Identifier


class JobPath(BaseModel):
    """A job."""

    job_id: Identifier


class AuditPath(BaseModel):
    """An audit job."""

    audit_job_id: Identifier


class ReleasePath(BaseModel):
    """A release."""

    release_id: Identifier


class KeyPath(BaseModel):
    """An API key."""

    key_id: Identifier


class ListQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")

    cursor: Identifier | None = Field(default=None, description="next_cursor of the page before")
    limit: int = Field(default=50, ge=1, le=MOST)


class IdempotencyHeader(BaseModel):
    """Repeating a request with the same key repeats the answer, not the work."""

    idempotency_key: Annotated[str, Field(pattern=r"^[\x21-\x7e]{8,255}$")] | None = Field(
        default=None, alias="Idempotency-Key"
    )


class RevisionHeader(BaseModel):
    """The ETag of the thing that was read; a stale one is refused with 412."""

    if_match: str | None = Field(default=None, alias="If-Match", max_length=64)


class PublicationHeader(IdempotencyHeader, RevisionHeader):
    """Both: publishing is decided on what was read, and happens once."""


class TrailQuery(BaseModel):
    """Which rows: those behind position `cursor`."""

    model_config = ConfigDict(extra="forbid")

    cursor: int = Field(default=0, ge=0, le=2**53)
    limit: int = Field(default=100, ge=1, le=MOST)


def answer(
    resource: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a resource as JSON."""
    response = Response(resource.model_dump_json(), status=status, content_type="application/json")
    response.headers.update(dict(headers or {}))
    return response


def answer_job(job: Job) -> Response:
    """Return 202: the work is queued, and where to look at it."""
    return answer(
        job,
        status=202,
        headers={
            "Location": f"/v1/jobs/{job.id}",
            "Retry-After": str(JOB_RETRY_AFTER_SECONDS),
        },
    )


def answer_page(
    model: Callable[..., BaseModel], page: Page[T], view: Callable[[T], Any]
) -> Response:
    """Return one page of a list, with the address of the next one as an RFC 8288 link."""
    headers = {}
    if page.next_cursor is not None:
        query = urlencode({**request.args.to_dict(), "cursor": page.next_cursor})
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    body = model(items=[view(item) for item in page.items], next_cursor=page.next_cursor)
    return answer(body, headers=headers)


def needed_revision(header: RevisionHeader) -> str:
    """Return the ETag in If-Match.  Raises: RequestRefused with 428 if there is none."""
    if header.if_match is None:
        raise RequestRefused(
            428,
            "The change was refused: it carries no If-Match, so it could undo another person's. "
            "Read the release, then send its ETag as If-Match.",
        )
    return header.if_match
