"""Edits of released sets: JSON in, operation, JSON out."""

from collections.abc import Iterator

from flask import Response, request
from pydantic import BaseModel

from service import editing_resources as r
from service.api.answers import ListQuery, ReleasePath, answer, answer_page
from service.api.auth import STREAMED_ENDPOINTS, actor, make_blueprint
from service.config import MEBIBYTE
from service.documents import page_response
from service.domain.jobs import Job
from service.operations import editing, editing_models
from service.refusals import RequestRefused
from service.resources import Identifier
from service.web import application

blueprint = make_blueprint("edits", about="A released set edited to a specification.")


class EditPath(BaseModel):
    """An edit."""

    edit_id: Identifier


@blueprint.post("/releases/<string:release_id>/edits", summary="Edit", responses={202: r.Edit})
def request_edit(path: ReleasePath, body: r.NewEdit) -> Response:
    """Queue a series, a teaching set or a stress test of a release that you may download."""
    with application().uow() as uow:
        job = editing_models.request(
            uow, actor(), release_id=path.release_id, asked=body.model_dump(mode="json")
        )
        view = show_edit(job)
    headers = {"Location": f"/v1/edits/{view.id}", "Retry-After": "2"}
    return answer(view, status=202, headers=headers)


@blueprint.put(
    "/releases/<string:release_id>/models/content",
    summary="Upload a classifier",
    responses={201: r.UploadedModel},
    openapi_extensions={"x-body": "application/octet-stream, an ONNX file; may be chunked"},
)
def put_model(path: ReleasePath) -> Response:
    """Store a classifier (ONNX) for one stress test of a release that you may download."""
    if request.mimetype != "application/octet-stream":
        stated = request.mimetype[:80]
        raise RequestRefused(
            415,
            f"The model was refused: its body is {stated or 'of no stated type'}; "
            "it must be application/octet-stream. Set Content-Type.",
            value=stated,
            limit="application/octet-stream",
        )
    request.max_content_length = r.MOST_MODEL_MEBIBYTES * MEBIBYTE
    with application().uow(read_only=True) as uow:
        model = editing_models.put_model(uow, actor(), release_id=path.release_id, chunks=_blocks())
    return answer(r.UploadedModel(id=model), status=201)


STREAMED_ENDPOINTS.add("api_edits.put_model")


@blueprint.get(
    "/releases/<string:release_id>/edits", summary="My edits", responses={200: r.EditPage}
)
def list_edits(path: ReleasePath, query: ListQuery) -> Response:
    """List your own edits of a release, newest first."""
    with application().uow(read_only=True) as uow:
        page = editing.list_edits(
            uow, actor(), release_id=path.release_id, cursor=query.cursor, limit=query.limit
        )
        return answer_page(r.EditPage, page, show_edit)


@blueprint.get("/edits/<string:edit_id>", summary="An edit", responses={200: r.Edit})
def get_edit(path: EditPath) -> Response:
    """Show one of your edits."""
    with application().uow(read_only=True) as uow:
        return answer(show_edit(editing.find_edit(uow, actor(), edit_id=path.edit_id)))


@blueprint.get("/edits/<string:edit_id>/sheet", summary="The sheet of an edit")
def get_sheet(path: EditPath) -> Response:
    """Return the series as one PNG: a row for each image, a column for each step."""
    return _file(path, editing.SHEET, "image/png")


@blueprint.get("/edits/<string:edit_id>/teaching-set", summary="The teaching set of an edit")
def get_teaching_set(path: EditPath) -> Response:
    """Return the teaching set as a zip."""
    return _file(path, editing.TEACHING_SET, "application/zip")


@blueprint.get("/edits/<string:edit_id>/stress-test", summary="What a stress test found")
def get_stress_test(path: EditPath) -> Response:
    """Return a stress test as JSON: answers step by step, and where each image's answer changes."""
    return _file(path, editing_models.STRESS_NUMBERS, "application/json")


@blueprint.get("/edits/<string:edit_id>/stress-report", summary="The page of a stress test")
def get_stress_report(path: EditPath) -> Response:
    """Return the report of a stress test as one self-contained page with its plots."""
    with application().uow(read_only=True) as uow:
        content = editing.read_edit(
            uow, actor(), edit_id=path.edit_id, name=editing_models.STRESS_REPORT
        )
    return page_response(content)


def show_edit(job: Job) -> r.Edit:
    """Return an edit as JSON shows it."""
    return r.Edit(
        id=job.id,
        release_id=str(job.release_id),
        state=job.state.value,
        asked=r.NewEdit.model_validate(job.payload["asked"]),
        created_at=job.created_at,
        images=job.result.get("images"),
        met=job.result.get("met"),
        changed=(job.result.get("changed_their_answer") or {}).get("share"),
        problem=(job.problem or {}).get("detail"),
    )


def _file(path: EditPath, name: str, kind: str) -> Response:
    with application().uow(read_only=True) as uow:
        content = editing.read_edit(uow, actor(), edit_id=path.edit_id, name=name)
    return Response(content, content_type=kind)


def _blocks() -> Iterator[bytes]:
    while block := request.stream.read(MEBIBYTE):
        yield block
