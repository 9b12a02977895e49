"""Edits of released sets: JSON in, operation, JSON out."""

from flask import Response
from pydantic import BaseModel

from service import editing_resources as r
from service.api.answers import ListQuery, ReleasePath, answer, answer_page
from service.api.auth import actor, make_blueprint
from service.domain.jobs import Job
from service.operations import editing
from service.resources import Identifier
from service.web import application

blueprint = make_blueprint("edits", about="A released set edited to a specification.")


class EditPath(BaseModel):
    """An edit."""

    edit_id: Identifier


@blueprint.post("/releases/<string:release_id>/edits", summary="Edit", responses={202: r.Edit})
def request_edit(path: ReleasePath, body: r.NewEdit) -> Response:
    """Queue a controlled series or a teaching set of a release that you may download."""
    with application().uow() as uow:
        job = editing.request_edit(
            uow, actor(), release_id=path.release_id, asked=body.model_dump(mode="json")
        )
        view = show_edit(job)
    headers = {"Location": f"/v1/edits/{view.id}", "Retry-After": "2"}
    return answer(view, status=202, headers=headers)


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
        problem=(job.problem or {}).get("detail"),
    )


def _file(path: EditPath, name: str, kind: str) -> Response:
    with application().uow(read_only=True) as uow:
        content = editing.read_edit(uow, actor(), edit_id=path.edit_id, name=name)
    return Response(content, content_type=kind)
