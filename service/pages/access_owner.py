"""The data owner's side of access: requests, grants, who may have a release, agreements, the log."""

from datetime import UTC, date, datetime
from typing import Any

from flask import Response, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from service import download_log
from service.domain import access_permissions as may
from service.domain import permissions
from service.domain.access import AccessMode, RequestState, why_not_open
from service.domain.access_fields import FieldKind, RequestField
from service.domain.datasets import Dataset
from service.domain.declarations import (
    DUO_TERMS,
    FORMAT_WORDS,
    FORMATS_OF,
    LICENCES,
    MODALITIES,
    NEED_DETAILS,
    ReleaseDeclaration,
)
from service.domain.errors import Conflict, DomainError, InputRefused
from service.domain.releases import Release
from service.operations import access, access_policies, agreements, declaring, downloads
from service.pages.rules import field_errors
from service.pages.session import actor, blueprint
from service.store.unit_of_work import UnitOfWork
from service.web import application

_SPARE_ROWS = 3
"""Empty rows for questions at the end of the form; saving it makes as many again."""
_LIST_FIELDS = ("keywords", "authors")


@blueprint.get("/access/requests")
def list_incoming_access() -> str:
    """Show who asks for the tenant's releases, and who has them."""
    wanted = request.args.get("state", "submitted")
    state = RequestState(wanted) if wanted in set(RequestState) else None
    with application().uow(read_only=True) as uow:
        page = access.list_access_requests(
            uow, actor(), whose="incoming", state=state, cursor=request.args.get("cursor")
        )
        return render_template(
            "access_incoming.html",
            nav="access",
            requests=page.items,
            next_cursor=page.next_cursor,
            state=state.value if state else "all",
            now=uow.now(),
        )


@blueprint.get("/releases/<string:release_id>/access/policy")
def edit_access_policy(release_id: str) -> str:
    """Show who may have a release, to change it."""
    return _policy_form(release_id, None)


@blueprint.post("/releases/<string:release_id>/access/policy")
def set_access_policy(release_id: str) -> AnyResponse | tuple[str, int]:
    """Choose who may have a release."""
    form = request.form
    days = form.get("grant_days", "")
    try:
        fields = _questions(form)
        mode = AccessMode(form.get("mode", ""))
        with application().uow() as uow:
            access_policies.set_access_policy(
                uow,
                actor(),
                release_id=release_id,
                mode=mode,
                fields=fields,
                agreement_id=form.get("agreement_id") or None,
                grant_days=int(days) if days.isascii() and days.isdigit() else 0,
            )
    except (Conflict, InputRefused, ValidationError, ValueError) as error:
        return _policy_form(release_id, _sentence(error)), 422
    return redirect(url_for("pages.show_release", release_id=release_id) + "#get", code=303)


@blueprint.get("/releases/<string:release_id>/downloads")
def show_download_log(release_id: str) -> str:
    """Show to whom links to the bundle were handed out."""
    with application().uow(read_only=True) as uow:
        page = downloads.list_downloads(
            uow, actor(), release_id=release_id, cursor=request.args.get("cursor")
        )
        return render_template(
            "download_log.html",
            nav="releases",
            release=uow.get(Release, release_id),
            downloads=page.items,
            next_cursor=page.next_cursor,
        )


@blueprint.get("/releases/<string:release_id>/downloads.csv")
def download_log_file(release_id: str) -> Response:
    """Return the download log as CSV."""
    with application().uow(read_only=True) as uow:
        text = download_log.as_csv(uow, actor(), release_id=release_id)
    response = Response(text, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="downloads-{release_id}.csv"'
    return response


@blueprint.get("/releases/<string:release_id>/declaration")
def edit_declaration(release_id: str) -> str:
    """Show licence, uses and citation of a release, to change them while it is a draft."""
    return _declaration_form(release_id, None, {}, None)


@blueprint.post("/releases/<string:release_id>/declaration")
def declare_release(release_id: str) -> AnyResponse | tuple[str, int]:
    """Declare licence, uses and citation."""
    try:
        declaration = ReleaseDeclaration.model_validate(_declared(request.form))
    except ValidationError as error:
        errors = field_errors(error)
        said = errors.get("") or "Correct what is marked below."
        return _declaration_form(release_id, request.form, errors, said), 422
    with application().uow() as uow:
        declaring.declare_release(
            uow,
            actor(),
            release_id=release_id,
            declaration=declaration,
            if_match=request.form.get("if_match"),
        )
    return redirect(url_for("pages.show_release", release_id=release_id), code=303)


@blueprint.get("/agreements")
def list_agreements() -> str:
    """Show the tenant's agreements, and a form for another."""
    return _agreements_page(None)


@blueprint.post("/agreements")
def create_agreement() -> AnyResponse | tuple[str, int]:
    """Write an agreement."""
    try:
        with application().uow() as uow:
            made = agreements.create_agreement(
                uow,
                actor(),
                name=request.form.get("name", ""),
                text=request.form.get("text", ""),
                effective_from=_start(request.form.get("effective_from", "")),
            )
    except InputRefused as error:
        return _agreements_page(error.sentence), 422
    return redirect(url_for("pages.show_agreement", agreement_id=made.agreement.id), code=303)


@blueprint.get("/agreements/<string:agreement_id>")
def show_agreement(agreement_id: str) -> str:
    """Show an agreement: to accept the version in force, or, for its owner, to write another."""
    return _agreement_page(agreement_id, None)


@blueprint.post("/agreements/<string:agreement_id>/versions")
def add_agreement_version(agreement_id: str) -> AnyResponse | tuple[str, int]:
    """Write another version."""
    try:
        with application().uow() as uow:
            agreements.add_agreement_version(
                uow,
                actor(),
                agreement_id=agreement_id,
                text=request.form.get("text", ""),
                effective_from=_start(request.form.get("effective_from", "")),
            )
    except InputRefused as error:
        return _agreement_page(agreement_id, error.sentence), 422
    return redirect(url_for("pages.show_agreement", agreement_id=agreement_id), code=303)


@blueprint.post("/agreements/<string:agreement_id>/accept")
def accept_agreement(agreement_id: str) -> AnyResponse:
    """Accept the version that was shown, named by its number and digest."""
    number = request.form.get("number", "")
    with application().uow() as uow:
        agreements.accept_agreement(
            uow,
            actor(),
            agreement_id=agreement_id,
            number=int(number) if number.isdigit() and len(number) < 7 else 0,
            sha256=request.form.get("sha256", ""),
        )
    return redirect(url_for("pages.show_agreement", agreement_id=agreement_id), code=303)


def _policy_form(release_id: str, refusal: str | None) -> str:
    with application().uow(read_only=True) as uow:
        release = may.check_may_govern_access(
            actor(), uow.get(Release, release_id), asked=release_id
        )
        policy = access_policies.policy_of(uow, release)
        fields: list[Any] = [RequestField.model_validate(field) for field in policy.fields]
        return render_template(
            "access_policy.html",
            nav="releases",
            release=release,
            policy=policy,
            not_open=why_not_open(release.tier),
            rows=[*fields, *[None] * _SPARE_ROWS],
            kinds=[kind.value for kind in FieldKind],
            agreement_choices=[
                (view.agreement.id, view.agreement.name)
                for view in agreements.list_agreements(uow, actor())
            ],
            refusal=refusal,
        )


def _questions(form: MultiDict[str, str]) -> list[RequestField]:
    """Return the questions that were typed, row by row; a row without a label is left out."""
    columns = [form.getlist(name) for name in ("label", "kind", "choices", "required")]
    found = []
    for number, (label, kind, choices, required) in enumerate(zip(*columns, strict=False), start=1):
        if label.strip():
            options = tuple(part.strip() for part in choices.split("|") if part.strip())
            found.append(
                RequestField(
                    name=f"question_{number}",
                    label=label.strip(),
                    kind=FieldKind(kind),
                    required=required == "yes",
                    choices=options if kind == FieldKind.CHOICE else (),
                )
            )
    return found


def _declaration_form(
    release_id: str, typed: Any, errors: dict[str, str], refusal: str | None
) -> str:
    with application().uow(read_only=True) as uow:
        release = permissions.check_may_change_release(
            actor(), uow.get(Release, release_id), asked=release_id
        )
        declared = declaring.declaration_of(release)
        dataset = uow.get(Dataset, release.dataset_id)
        modality = "image" if dataset is None else dataset.modality
        return render_template(
            "declaration.html",
            nav="releases",
            release=release,
            declared=declared,
            values=typed if typed is not None else _typed(declared),
            chosen=set(typed.getlist("duo")) if typed is not None else set(declared.duo),
            modality=modality,
            formats={name: FORMAT_WORDS[name] for name in FORMATS_OF[modality]},
            chosen_formats=typed.getlist("formats") if typed is not None else declared.formats,
            errors=errors,
            refusal=refusal,
            frozen=_frozen(release),
            licence_choices=[
                (name, f"{name}: {words}" if name else words) for name, words in LICENCES.items()
            ],
            duo_terms=DUO_TERMS,
            need_details=NEED_DETAILS,
            modality_choices=list(MODALITIES.items()),
        )


def _frozen(release: Release) -> str | None:
    if release.state in declaring.REVISABLE:
        return None
    return (
        f"This release is {release.state.value}. Licence, uses and citation are part of what "
        "auditors approve; only a draft or a returned release may be changed."
    )


def _typed(declared: ReleaseDeclaration) -> dict[str, str]:
    """Return a declaration as its form shows it."""
    values = {name: str(value or "") for name, value in declared.model_dump().items()}
    values |= {name: "\n".join(getattr(declared, name)) for name in _LIST_FIELDS}
    return values | {f"detail.{code}": text for code, text in declared.duo_details.items()}


def _declared(form: MultiDict[str, str]) -> dict[str, Any]:
    """Return what was typed as a document; what is left empty has its default."""
    names = set(ReleaseDeclaration.model_fields) - {"duo", "duo_details", "formats", *_LIST_FIELDS}
    found: dict[str, Any] = {
        name: form[name].strip() for name in names if form.get(name, "").strip()
    }
    for name in _LIST_FIELDS:
        found[name] = [line.strip() for line in form.get(name, "").splitlines() if line.strip()]
    if form.getlist("formats"):
        found["formats"] = form.getlist("formats")
    found["duo"] = form.getlist("duo")
    details = {code: form.get(f"detail.{code}", "").strip() for code in found["duo"]}
    found["duo_details"] = {code: text for code, text in details.items() if text}
    return found


def _agreements_page(refusal: str | None) -> str:
    with application().uow(read_only=True) as uow:
        return render_template(
            "agreements.html",
            nav="access",
            agreements=agreements.list_agreements(uow, actor()),
            refusal=refusal,
            typed=request.form,
        )


def _agreement_page(agreement_id: str, refusal: str | None) -> str:
    with application().uow(read_only=True) as uow:
        view = agreements.get_agreement(uow, actor(), agreement_id=agreement_id)
        counts = _counts(uow, agreement_id)
        return render_template(
            "agreement.html",
            nav="access",
            view=view,
            counts=counts or {},
            is_owner=counts is not None,
            refusal=refusal,
            typed=request.form,
            now=uow.now(),
        )


def _counts(uow: UnitOfWork, agreement_id: str) -> dict[int, int] | None:
    """Return how many accepted each version; None for whoever may not know."""
    try:
        return agreements.count_acceptances(uow, actor(), agreement_id=agreement_id)
    except DomainError:
        return None


def _start(text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        day = date.fromisoformat(text.strip())
    except ValueError as error:
        raise InputRefused(
            f"The date {text[:20]!r} was refused: write it as 2027-01-31.", field="effective_from"
        ) from error
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return next(iter(field_errors(error).values()))
    if isinstance(error, DomainError):
        return error.sentence
    return "The form was refused: choose who may have the release, and the kind of each question."
