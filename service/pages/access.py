"""The collaborator's side of access: ask, see how it stands, withdraw, accept an agreement."""

from collections.abc import Mapping
from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from service.domain import access_permissions as may
from service.domain.access import RequestState
from service.domain.access_fields import FieldKind, RequestField
from service.domain.countries import COUNTRIES
from service.domain.errors import InputRefused
from service.domain.releases import Release
from service.operations import access, access_policies, agreements
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.store.unit_of_work import UnitOfWork
from service.web import application


@blueprint.get("/access")
def list_my_access() -> str:
    """Show the actor's requests and grants."""
    cursor = request.args.get("cursor")
    with application().uow(read_only=True) as uow:
        page = access.list_access_requests(uow, actor(), whose="mine", cursor=cursor)
        return render_template(
            "access_mine.html",
            nav="access",
            requests=page.items,
            next_cursor=page.next_cursor,
            now=uow.now(),
        )


@blueprint.get("/releases/<string:release_id>/access")
def ask_for_access(release_id: str) -> str:
    """Show the questions that the data owner asks, and the agreement."""
    return _form(release_id, {}, {}, None)


@blueprint.post("/releases/<string:release_id>/access")
def request_access(release_id: str) -> Response | tuple[str, int]:
    """Send a request."""
    try:
        with application().uow() as uow:
            policy = access_policies.get_access_policy(uow, actor(), release_id=release_id)
            fields = access_policies.asked_fields(policy)
            number, sha256 = _accepted_agreement()
            made = access.request_access(
                uow,
                actor(),
                release_id=release_id,
                answers=_answers(fields, request.form),
                agreement_number=number,
                agreement_sha256=sha256,
            )
    except InputRefused as error:
        told: Any = error.extensions.get("errors") or [
            {"field": error.extensions.get("field", ""), "reason": error.sentence}
        ]
        errors = {entry["field"]: entry["reason"] for entry in told}
        return _form(release_id, request.form, errors, error.sentence), 422
    return redirect(url_for("pages.show_access_request", request_id=made.id), code=303)


@blueprint.get("/access/<string:request_id>")
def show_access_request(request_id: str) -> str:
    """Show a request to who made it, and to who decides on it."""
    with application().uow(read_only=True) as uow:
        view = access.get_access_request(uow, actor(), request_id=request_id)
        found = view.request
        release = uow.get(Release, found.release_id)
        policy = access_policies.policy_of(uow, release) if release else None
        return render_template(
            "access_request.html",
            nav="access",
            view=view,
            found=found,
            answers=_shown_answers(found.fields, found.answers),
            decides=may.decides_on(actor(), found),
            is_mine=found.user_id == actor().user_id,
            why_not=reason(lambda: may.check_may_decide(actor(), found, asked=found.id)),
            is_open=found.state is RequestState.SUBMITTED,
            is_grant=found.state is RequestState.APPROVED,
            grant_days=policy.grant_days if policy else access_policies.DEFAULT_GRANT_DAYS,
            renewal_days=access.RENEWAL_DAYS,
            now=uow.now(),
        )


@blueprint.post("/access/<string:request_id>/withdraw")
def withdraw_access_request(request_id: str) -> Response:
    """Take back one's own request."""
    with application().uow() as uow:
        access.withdraw_access_request(uow, actor(), request_id=request_id, if_match=_etag())
    return _back(request_id)


@blueprint.post("/access/<string:request_id>/approve")
def approve_access(request_id: str) -> Response:
    """Grant access."""
    days = request.form.get("days", "").strip()
    if days and not (days.isascii() and days.isdigit() and len(days) < 6):
        raise InputRefused(
            f"The number of days was refused: {days[:20]!r} is none. Write 1 to 3650.",
            field="days",
        )
    with application().uow() as uow:
        access.approve_access(
            uow,
            actor(),
            request_id=request_id,
            days=int(days) if days else None,
            reason=request.form.get("reason", ""),
            if_match=_etag(),
        )
    return _back(request_id)


@blueprint.post("/access/<string:request_id>/reject")
def reject_access(request_id: str) -> Response:
    """Refuse access."""
    with application().uow() as uow:
        access.reject_access(
            uow,
            actor(),
            request_id=request_id,
            reason=request.form.get("reason", ""),
            if_match=_etag(),
        )
    return _back(request_id)


@blueprint.post("/access/<string:request_id>/revoke")
def revoke_access(request_id: str) -> Response:
    """End a grant."""
    with application().uow() as uow:
        access.revoke_access(
            uow,
            actor(),
            request_id=request_id,
            reason=request.form.get("reason", ""),
            if_match=_etag(),
        )
    return _back(request_id)


def _form(
    release_id: str, typed: Mapping[str, str], errors: Mapping[str, str], refusal: str | None
) -> str:
    with application().uow(read_only=True) as uow:
        policy = access_policies.get_access_policy(uow, actor(), release_id=release_id)
        release = uow.get(Release, release_id)
        return render_template(
            "access_form.html",
            nav="releases",
            release=release,
            policy=policy,
            fields=access_policies.asked_fields(policy),
            choices_of=lambda field: [(choice, choice) for choice in field.choices],
            countries=sorted(COUNTRIES.items(), key=lambda pair: pair[1]),
            typed=typed,
            errors=errors,
            refusal=refusal,
            may_ask=reason(lambda: access.check_may_request(uow, actor(), release_id=release_id)),
            agreement=_agreement(uow, policy.agreement_id),
        )


def _agreement(uow: UnitOfWork, agreement_id: str | None) -> agreements.AgreementView | None:
    if agreement_id is None:
        return None
    return agreements.get_agreement(uow, actor(), agreement_id=agreement_id)


def _accepted_agreement() -> tuple[int | None, str | None]:
    """Return number and digest of the agreement whose box was ticked."""
    number = request.form.get("agreement_number", "")
    if request.form.get("agreement") != "yes" or not number.isdigit() or len(number) > 6:
        return None, None
    return int(number), request.form.get("agreement_sha256", "")


def _answers(fields: list[RequestField], form: Mapping[str, str]) -> dict[str, str | bool]:
    return {
        field.name: form.get(f"answer.{field.name}") == "yes"
        if field.kind is FieldKind.CHECKBOX
        else form.get(f"answer.{field.name}", "").strip()
        for field in fields
    }


def _shown_answers(fields: list[dict[str, Any]], answers: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the questions with their answers in words."""
    shown = []
    for field in (RequestField.model_validate(found) for found in fields):
        answer = answers.get(field.name)
        if isinstance(answer, bool):
            answer = "yes" if answer else "no"
        if field.kind is FieldKind.COUNTRY:
            answer = COUNTRIES.get(str(answer), answer)
        shown.append((field.label, str(answer) if answer else "–"))
    return shown


def _etag() -> str | None:
    return request.form.get("if_match")


def _back(request_id: str) -> Response:
    return redirect(url_for("pages.show_access_request", request_id=request_id), code=303)
