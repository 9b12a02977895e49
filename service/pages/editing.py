"""Edits of a release: ask for a series, a quiz or a stress test, look at it, take it along."""

from collections.abc import Iterator
from typing import Any

from flask import Response, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from service.config import MEBIBYTE
from service.documents import page_response
from service.domain.errors import DomainError, InputRefused
from service.domain.jobs import TERMINAL
from service.domain.releases import Release
from service.editing_resources import MOST_MODEL_MEBIBYTES, NewEdit
from service.operations import editing, editing_models, releases
from service.pages.rules import field_errors, reason
from service.pages.session import LARGE_FORMS, actor, blueprint
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
FORMS = (
    ("series", "a series to look at"),
    ("teaching_set", "a teaching set with a quiz"),
    ("stress_test", "a stress test of a classifier"),
)
_UNNAMED = "mdl_" + 28 * "0"
"""Stands for a model until the rest of the request is known to be right: only then is it stored."""


@blueprint.get("/releases/<string:release_id>/edits")
def list_edits(release_id: str) -> str:
    """Show the form, and the actor's edits of the release."""
    return _page(release_id, {"held": ["exposure", "contrast"], "vary": "label"}, {}, None)


@blueprint.post("/releases/<string:release_id>/edits")
def request_edit(release_id: str) -> AnyResponse | tuple[str, int]:
    """Queue an edit; a form that was refused is shown again with what was typed."""
    typed = _typed()
    is_test = typed["form"] == "stress_test"
    try:
        given = {name: value for name, value in typed.items() if value not in ("", None)}
        asked = NewEdit.model_validate(given | ({"model": _UNNAMED} if is_test else {}))
    except ValidationError as error:
        told = "The edit was refused. Mend what is marked."
        return _page(release_id, typed, field_errors(error), told), 422
    try:
        with application().uow() as uow:
            if is_test:
                model = editing_models.put_model(
                    uow, actor(), release_id=release_id, chunks=_model()
                )
                asked = asked.model_copy(update={"model": model})
            job = editing_models.request(
                uow, actor(), release_id=release_id, asked=asked.model_dump(mode="json")
            )
            edit_id = job.id
    except DomainError as error:
        return _page(release_id, typed, {}, error.sentence), error.status
    return redirect(url_for("pages.show_edit", edit_id=edit_id), code=303)


LARGE_FORMS["pages.request_edit"] = (MOST_MODEL_MEBIBYTES + 1) * MEBIBYTE


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


@blueprint.get("/edits/<string:edit_id>/stress-report")
def edit_stress_report(edit_id: str) -> Response:
    """Return the page of a stress test, under a policy that lets it do nothing."""
    with application().uow(read_only=True) as uow:
        content = editing.read_edit(
            uow, actor(), edit_id=edit_id, name=editing_models.STRESS_REPORT
        )
    return page_response(content)


@blueprint.get("/edits/<string:edit_id>/stress-test.json")
def edit_stress_numbers(edit_id: str) -> Response:
    """Return the numbers of a stress test."""
    response = _file(edit_id, editing_models.STRESS_NUMBERS, "application/json")
    response.headers["Content-Disposition"] = 'attachment; filename="stress-test.json"'
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
            forms=FORMS,
            most_model=MOST_MODEL_MEBIBYTES,
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
        for key in ("form", "vary", "low", "high", "steps", "label", "images", "white")
    }
    typed["held"] = [name for name in form.getlist("held") if name != typed["vary"]]
    typed["wanted"] = {
        name: value for name, _ in _HELD if (value := form.get(f"wanted.{name}", "").strip())
    }
    return typed


def _model() -> Iterator[bytes]:
    """Yield the uploaded classifier.  Raises: InputRefused without one."""
    given = request.files.get("model")
    if given is None or not given.filename:
        raise InputRefused("The stress test was refused: choose the classifier, an ONNX file.")
    while block := given.stream.read(MEBIBYTE):
        yield block


def _release(uow: UnitOfWork, release_id: str) -> Release:
    return releases.get_release(uow, actor(), release_id=release_id).release


def _file(edit_id: str, name: str, kind: str) -> Response:
    with application().uow(read_only=True) as uow:
        content = editing.read_edit(uow, actor(), edit_id=edit_id, name=name)
    return Response(content, content_type=kind)
