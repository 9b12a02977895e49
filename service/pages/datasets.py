"""Data owners' and auditors' pages of datasets: what is declared, what is left, what was uploaded."""

from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from service.domain import permissions
from service.domain.accounts import Role
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.jobs import TERMINAL, Job, JobKind
from service.operations import budgets, datasets, jobs, releases
from service.pages.budget_picture import budget_picture
from service.pages.dataset_form import (
    DEFAULT_DELTA,
    RULES,
    UNITS,
    declared,
    read_form,
    schema_sent,
)
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.resources import NewDataset
from service.store.unit_of_work import UnitOfWork
from service.web import application

_PER_PAGE = 20


@blueprint.get("/datasets")
def list_datasets() -> str:
    """List the tenant's datasets, each with what is left of its budget."""
    with application().uow(read_only=True) as uow:
        page = datasets.list_datasets(
            uow, actor(), cursor=request.args.get("cursor"), limit=_PER_PAGE
        )
        return render_template(
            "datasets.html",
            nav="datasets",
            datasets=[(found, _amounts(uow, found)) for found in page.items],
            may_not_create=_may_not_create(),
            next_cursor=page.next_cursor,
            is_later="cursor" in request.args,
        )


@blueprint.get("/datasets/new")
def new_dataset() -> str:
    """Show the form in which a dataset is declared."""
    permissions.check_may_create_dataset(actor())
    return _dataset_form({}, {}, None)


@blueprint.post("/datasets/new")
def create_dataset() -> Response | tuple[str, int]:
    """Create a dataset; a form that was refused is shown again with what was typed.

    The schema of a table is shown as a page first, with a button that declares it.
    """
    permissions.check_may_create_dataset(actor())
    schema_text = schema_sent(request.form, request.files)
    asked, errors, refusal = read_form(request.form, schema_text)
    if asked is None:
        return _dataset_form(request.form, errors, refusal), 422
    if request.form.get("holds") == "table" and request.form.get("checked") != "yes":
        return _check_page(asked, schema_text, None), 200
    created: list[str] = []

    def create() -> None:
        with application().uow() as uow:
            created.append(datasets.create_dataset(uow, actor(), **declared(asked)).id)

    refusal = reason(create)
    if refusal is not None and request.form.get("holds") == "table":
        return _check_page(asked, schema_text, refusal), 422
    if refusal is not None:
        return _dataset_form(request.form, {}, refusal), 422
    return redirect(url_for("pages.show_dataset", dataset_id=created[0]), code=303)


@blueprint.get("/datasets/<string:dataset_id>")
def show_dataset(dataset_id: str) -> str:
    """Show a dataset: what is left of its budget, its versions, what is declared."""
    with application().uow(read_only=True) as uow:
        found = datasets.get_dataset(uow, actor(), dataset_id=dataset_id)
        budget = datasets.get_budget(uow, actor(), dataset_id=dataset_id)
        versions = datasets.list_versions(
            uow, actor(), dataset_id=dataset_id, cursor=request.args.get("cursor"), limit=_PER_PAGE
        )
        recent = jobs.list_jobs(uow, actor(), dataset_id=dataset_id, limit=6).items
        return render_template(
            "dataset.html",
            budget=budget,
            picture=budget_picture(budget),
            versions=versions.items,
            next_cursor=versions.next_cursor,
            recent=recent,
            is_live=_is_moving(versions.items, recent),
            may_not_change=reason(
                lambda: permissions.check_may_change_dataset(actor(), found, asked=dataset_id)
            ),
            **about(uow, found, here="overview"),
        )


@blueprint.get("/datasets/<string:dataset_id>/budget")
def show_budget(dataset_id: str) -> str:
    """Show the account of a dataset: every job that ever held or spent a part of its budget."""
    with application().uow(read_only=True) as uow:
        found = datasets.get_dataset(uow, actor(), dataset_id=dataset_id)
        budget = datasets.get_budget(uow, actor(), dataset_id=dataset_id)
        return render_template(
            "budget.html",
            budget=budget,
            picture=budget_picture(budget),
            **about(uow, found, here="budget"),
        )


@blueprint.get("/datasets/<string:dataset_id>/releases")
def list_dataset_releases(dataset_id: str) -> str:
    """Show the releases of a dataset, and the audited candidates that could become one."""
    with application().uow(read_only=True) as uow:
        found = datasets.get_dataset(uow, actor(), dataset_id=dataset_id)
        page = releases.list_releases(
            uow,
            actor(),
            catalogue=False,
            dataset_id=dataset_id,
            cursor=request.args.get("cursor"),
            limit=_PER_PAGE,
        )
        audits = jobs.list_jobs(
            uow, actor(), dataset_id=dataset_id, kind=JobKind.AUDIT, limit=_PER_PAGE
        )
        proposed = {release.audit_job_id for release in page.items}
        return render_template(
            "dataset_releases.html",
            releases=page.items,
            next_cursor=page.next_cursor,
            candidates=[job for job in audits.items if "verdict" in job.result],
            proposed=proposed,
            may_not_propose=reason(lambda: permissions.check_may_create_release(actor())),
            **about(uow, found, here="releases"),
        )


@blueprint.post("/datasets/<string:dataset_id>/withdrawals")
def withdraw_person(dataset_id: str) -> Response:
    """Queue the ERASE job that makes a version without a person."""
    with application().uow() as uow:
        job = datasets.withdraw_person(
            uow,
            actor(),
            dataset_id=dataset_id,
            patient_id=request.form.get("patient_id", "").strip()[:256],
        )
        address = url_for("pages.show_job", job_id=job.id)
    return redirect(address, code=303)


def about(uow: UnitOfWork, dataset: Dataset, *, here: str) -> dict[str, Any]:
    """Return what the head of every page of a dataset shows: its name and its tabs."""
    del uow
    pages = (
        ("overview", "Overview", url_for("pages.show_dataset", dataset_id=dataset.id)),
        ("budget", "Budget", url_for("pages.show_budget", dataset_id=dataset.id)),
        ("jobs", "Jobs", url_for("pages.list_jobs", dataset=dataset.id)),
        ("releases", "Releases", url_for("pages.list_dataset_releases", dataset_id=dataset.id)),
    )
    tabs = [(words, address, name == here, None) for name, words, address in pages]
    return {
        "nav": "datasets",
        "dataset": dataset,
        "tabs": tabs,
        "is_owner": actor().has(Role.DATA_OWNER),
    }


def _amounts(uow: UnitOfWork, dataset: Dataset) -> budgets.Amounts:
    return budgets.epsilon_amounts(uow, datasets.cohort_of(uow, dataset))


def _may_not_create() -> str | None:
    return reason(lambda: permissions.check_may_create_dataset(actor()))


def _is_moving(versions: list[DatasetVersion], recent: list[Job]) -> bool:
    return any(job.state not in TERMINAL for job in recent) or any(
        version.state.value == "ingesting" for version in versions
    )


_KEPT = ("name", "purpose", "holds", "budget", "epsilon", "delta", "rule", "join_dataset_id")
"""What was typed and must come again when a declaration that was shown is declared."""


def _check_page(asked: NewDataset, schema_text: str, refusal: str | None) -> str:
    typed = {name: request.form[name] for name in _KEPT if request.form.get(name)}
    return render_template(
        "dataset_check.html",
        nav="datasets",
        asked=asked,
        given=typed | {"schema_text": schema_text},
        refusal=refusal,
        default_delta=float(DEFAULT_DELTA),
    )


def _dataset_form(given: Any, errors: dict[str, str], refusal: str | None) -> str:
    with application().uow(read_only=True) as uow:
        others = datasets.list_datasets(uow, actor(), limit=100).items
        return render_template(
            "dataset_new.html",
            nav="datasets",
            given=given,
            errors=errors,
            refusal=refusal,
            units=UNITS,
            rules=RULES,
            others=[(found.id, found.name) for found in others],
        )
