"""Edits of a release: ask for a series or a teaching set, look at it, take it along."""

from typing import Any

from flask import Response, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from service.domain.errors import DomainError
from service.domain.jobs import TERMINAL
from service.domain.releases import Release
from service.editing_resources import NewEdit
from service.operations import editing, releases
from service.pages.rules import field_errors, reason
from service.pages.session import actor, blueprint
from service.store.unit_of_work import UnitOfWork
from service.web import application

AXES = (
    ("label", "the label"),
    ("joint_space", "joint space width (knees)"),
    ("sclerosis", "sclerosis (knees)"),
    ("exposure", "exposure"),
    ("contrast", "contrast"),
)
_HELD = AXES[1:]


@blueprint.get("/releases/<string:release_id>/edits")
def list_edits(release_id: str) -> str:
    """Show the form, and the actor's edits of the release."""
    return _page(release_id, {"held": ["exposure", "contrast"], "vary": "label"}, {}, None)


@blueprint.post("/releases/<string:release_id>/edits")
def request_edit(release_id: str) -> AnyResponse | tuple[str, int]:
    """Queue an edit; a form that was refused is shown again with what was typed."""
    typed = _typed()
    try:
        asked = NewEdit.model_validate({k: v for k, v in typed.items() if v not in ("", None)})
    except ValidationError as error:
        told = "The edit was refused. Mend what is marked."
        return _page(release_id, typed, field_errors(error), told), 422
    try:
        with application().uow() as uow:
            job = editing.request_edit(
                uow, actor(), release_id=release_id, asked=asked.model_dump(mode="json")
            )
            edit_id = job.id
    except DomainError as error:
        return _page(release_id, typed, {}, error.sentence), error.status
    return redirect(url_for("pages.show_edit", edit_id=edit_id), code=303)


@blueprint.get("/edits/<string:edit_id>")
def show_edit(edit_id: str) -> str:
    """Show one edit: how far it is, then the sheet."""
    with application().uow(read_only=True) as uow:
        job = editing.find_edit(uow, actor(), edit_id=edit_id)
        release = _release(uow, str(job.release_id))
        withheld = reason(
            lambda: editing.check_may_edit(uow, actor(), release_id=str(job.release_id))
        )
        return render_template(
            "edit.html",
            nav="releases",
            edit=job,
            asked=NewEdit.model_validate(job.payload["asked"]),
            axes=dict(AXES),
            release=release,
            is_over=job.state in TERMINAL,
            withheld=withheld,
        )


@blueprint.get("/edits/<string:edit_id>/sheet.png")
def edit_sheet(edit_id: str) -> Response:
    """Return the series as PNG."""
    return _file(edit_id, editing.SHEET, "image/png")


@blueprint.get("/edits/<string:edit_id>/teaching-set.zip")
def edit_teaching_set(edit_id: str) -> Response:
    """Return the teaching set."""
    response = _file(edit_id, editing.TEACHING_SET, "application/zip")
    response.headers["Content-Disposition"] = f'attachment; filename="{editing.TEACHING_SET}"'
    return response


def _page(
    release_id: str, typed: dict[str, Any], errors: dict[str, str], problem: str | None
) -> str:
    with application().uow(read_only=True) as uow:
        release = _release(uow, release_id)
        page = editing.list_edits(
            uow, actor(), release_id=release_id, cursor=request.args.get("cursor")
        )
        withheld = reason(lambda: editing.check_may_edit(uow, actor(), release_id=release_id))
        return render_template(
            "edits.html",
            nav="releases",
            release=release,
            edits=page.items,
            next_cursor=page.next_cursor,
            is_later="cursor" in request.args,
            typed=typed,
            errors=errors,
            problem=problem,
            withheld=withheld,
            axes=AXES,
            attributes=_HELD,
            names=dict(AXES),
            label_choices=[
                ("", "as it is"),
                *((n, n) for n in release.certificate.get("labels", [])),
            ],
        )


def _typed() -> dict[str, Any]:
    form = request.form
    typed: dict[str, Any] = {
        key: form.get(key, "").strip()
        for key in ("form", "vary", "low", "high", "steps", "label", "images")
    }
    typed["held"] = [name for name in form.getlist("held") if name != typed["vary"]]
    typed["wanted"] = {
        name: value for name, _ in _HELD if (value := form.get(f"wanted.{name}", "").strip())
    }
    return typed


def _release(uow: UnitOfWork, release_id: str) -> Release:
    return releases.get_release(uow, actor(), release_id=release_id).release


def _file(edit_id: str, name: str, kind: str) -> Response:
    with application().uow(read_only=True) as uow:
        content = editing.read_edit(uow, actor(), edit_id=edit_id, name=name)
    return Response(content, content_type=kind)
