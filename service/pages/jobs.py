"""Jobs: the list with its filters, and a page for every kind, which renews itself while one runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service import documents
from service.domain import permissions
from service.domain.datasets import Dataset
from service.domain.errors import DomainError, NotFound
from service.domain.jobs import AUDITS, TERMINAL, Job, JobKind, JobState
from service.operations import datasets, jobs
from service.operations.budgets import BudgetEntry
from service.pages.plots import Chart, line_chart
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.pages.words import state_words
from service.plan_words import duration_words, mechanism_words
from service.resources import IDENTIFIER_PATTERN
from service.store.unit_of_work import UnitOfWork
from service.web import application

_PER_PAGE = 30
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN)
KIND_WORDS = {
    JobKind.INGEST: "Check of an upload",
    JobKind.TRAIN: "Training",
    JobKind.SAMPLE: "Drawing of the synthetic set",
    JobKind.AUDIT: "Audit",
    JobKind.REAUDIT: "Audit of a release, again",
    JobKind.PACKAGE: "Packaging and signing",
    JobKind.ESTIMATE: "Dry run",
    JobKind.ERASE: "Withdrawal of a person",
    JobKind.EDIT: "Edits of a released set",
    JobKind.STUDY: "Drawing of a reader study's cases",
}
_METRIC_WORDS = {
    "phantom_loss": "Loss on a phantom batch",
    "warm_up_loss": "Loss while warming up, on pictures that belong to nobody",
}


@blueprint.app_template_filter("kind_words")
def kind_words(kind: JobKind) -> str:
    """Return what a job does, in words."""
    return KIND_WORDS.get(kind, kind.value.replace("_", " ").capitalize())


@dataclass(frozen=True)
class Spending:
    """One mechanism of a training: what it is, and how many of its steps are charged."""

    words: str
    charged: int
    steps: int


@blueprint.get("/jobs")
def list_jobs() -> str:
    """List the tenant's jobs; the page renews itself while one of them runs."""
    kind, state = _kind(request.args.get("kind")), _state(request.args.get("state"))
    dataset_id = _identifier(request.args.get("dataset"))
    with application().uow(read_only=True) as uow:
        dataset = None
        if dataset_id is not None:
            dataset = datasets.get_dataset(uow, actor(), dataset_id=dataset_id)
        page = jobs.list_jobs(
            uow,
            actor(),
            kind=kind,
            state=state,
            dataset_id=dataset_id,
            cursor=request.args.get("cursor"),
            limit=_PER_PAGE,
        )
        named = {job.dataset_id: _name_of(uow, job.dataset_id) for job in page.items}
        chosen = {"kind": kind, "state": state, "dataset": dataset_id}
        return render_template(
            "jobs.html",
            nav="jobs",
            jobs=page.items,
            named=named,
            kinds=[(one.value, kind_words(one)) for one in JobKind],
            states=[one.value for one in JobState],
            datasets=_choices(uow, dataset),
            keep={name: str(value) for name, value in chosen.items() if value},
            is_live=any(job.state not in TERMINAL for job in page.items),
            next_cursor=page.next_cursor,
            is_later="cursor" in request.args,
        )


@blueprint.get("/jobs/<string:job_id>")
def show_job(job_id: str) -> str:
    """Show a job: its progress, what it costs, what came of it; renewed while it runs."""
    with application().uow(read_only=True) as uow:
        job = jobs.get_job(uow, actor(), job_id=job_id)
        nearby = jobs.list_jobs(uow, actor(), dataset_id=job.dataset_id, limit=200).items
        entry, chain = _entry_of(uow, job), _chain(job, nearby)
        return render_template(
            "job.html",
            nav="jobs",
            job=job,
            dataset=uow.get(Dataset, job.dataset_id),
            chain=chain,
            chain_rows=[_chain_row(one, here=one.id == job.id) for one in chain],
            entry=entry,
            spending=[] if entry is None else _spending(entry),
            stages=[_stage_row(one, job) for one in job.progress.get("stages", [])],
            charts_of=_charts(job),
            is_live=job.state not in TERMINAL,
            has_grid=_has_grid(uow, job),
            sample_rows=_sample_rows(uow, job),
            is_audit=job.kind in AUDITS,
            may_not_cancel=_may_not_cancel(job),
            may_not_propose=reason(lambda: permissions.check_may_create_release(actor())),
            max_attempts=uow.settings.max_attempts,
        )


@blueprint.post("/jobs/<string:job_id>/cancel")
def cancel_job(job_id: str) -> AnyResponse:
    """Cancel a queued job at once; ask the worker of a running one to stop."""
    with application().uow() as uow:
        jobs.cancel_job(uow, actor(), job_id=job_id)
    return redirect(url_for("pages.show_job", job_id=job_id), code=303)


@blueprint.get("/jobs/<string:job_id>/samples.png")
def sample_grid(job_id: str) -> Response:
    """Return the newest grid of synthetic images of a job."""
    with application().uow(read_only=True) as uow:
        image = documents.read_sample_grid(uow, actor(), job_id=job_id)
    return Response(image, content_type="image/png")


def _identifier(text: str | None) -> str | None:
    """Return an id that a filter names; nothing odd reaches a database."""
    if text and not _IDENTIFIER.fullmatch(text):
        raise NotFound("No dataset was found under this address. Check how it is written.")
    return text or None


def _kind(text: str | None) -> JobKind | None:
    return JobKind(text) if text in set(JobKind) else None


def _state(text: str | None) -> JobState | None:
    return JobState(text) if text in set(JobState) else None


def _choices(uow: UnitOfWork, chosen: Dataset | None) -> list[tuple[str, str]]:
    """Return the datasets that a filter offers: the newest, and the one that was chosen."""
    found = datasets.list_datasets(uow, actor(), limit=50).items
    if chosen is not None and chosen not in found:
        found.append(chosen)
    return [(one.id, one.name) for one in found]


def _name_of(uow: UnitOfWork, dataset_id: str) -> str:
    dataset = uow.get(Dataset, dataset_id)
    return dataset.name if dataset else dataset_id


def _entry_of(uow: UnitOfWork, job: Job) -> BudgetEntry | None:
    """Return what a training holds or has cost."""
    if job.kind is not JobKind.TRAIN:
        return None
    try:
        view = datasets.get_budget(uow, actor(), dataset_id=job.dataset_id)
    except DomainError:  # its cohort is gone with a database that was lost
        return None
    return next((entry for entry in view.entries if entry.job_id == job.id), None)


def _spending(entry: BudgetEntry) -> list[Spending]:
    return [
        Spending(mechanism_words(mechanism), charged, int(mechanism.get("steps", 1)))
        for mechanism, charged in zip(entry.mechanisms, entry.charged, strict=True)
    ]


def _chain(job: Job, nearby: list[Job]) -> list[Job]:
    """Return the job with those it came from and those that followed, in their order."""
    known = {one.id: one for one in nearby} | {job.id: job}
    root = job
    while root.parent_id is not None and root.parent_id in known:
        root = known[root.parent_id]
    chain, found = [root], {root.id}
    for one in sorted(known.values(), key=lambda one: (one.created_at, one.id)):
        if one.parent_id in found and one.id not in found:
            chain.append(one)
            found.add(one.id)
    return chain


_KINDS_OF_STATE = {"succeeded": "good", "failed": "bad", "cancelled": "bad", "running": "wait"}


def _chain_row(job: Job, *, here: bool) -> dict[str, object]:
    verdict = job.result.get("verdict")
    return {
        "title": kind_words(job.kind),
        "href": None if here else url_for("pages.show_job", job_id=job.id),
        "by": f"{state_words(job.status)}{f', {verdict}' if verdict else ''}",
        "kind": _KINDS_OF_STATE.get(job.state.value, ""),
    }


def _stage_row(stage: Mapping[str, Any], job: Job) -> dict[str, object]:
    """Return one line of a job's log of stages, as a worker kept it."""
    seconds = stage.get("seconds")
    is_last = seconds is None
    taken = duration_words(float(seconds or 0))
    if is_last:
        taken = state_words(job.status) if job.state in TERMINAL else "under way"
    attempt = int(stage.get("attempt", 1))
    return {
        "title": str(stage.get("stage", "")).capitalize(),
        "by": taken if attempt == 1 else f"{taken}, attempt {attempt}",
        "kind": _KINDS_OF_STATE.get(job.state.value, "") if is_last else "good",
    }


def _charts(job: Job) -> list[tuple[str, Chart]]:
    curves: dict[str, Any] = job.progress.get("curves", {})
    return [
        (words, line_chart([[(float(x), float(y)) for x, y in curves[name]]], x_name="step"))
        for name, words in _METRIC_WORDS.items()
        if len(curves.get(name, [])) > 1
    ]


def _sample_rows(uow: UnitOfWork, job: Job) -> dict[str, Any] | None:
    return documents.read_sample_rows(uow, job) if job.kind is JobKind.SAMPLE else None


def _has_grid(uow: UnitOfWork, job: Job) -> bool:
    draws = job.kind in {JobKind.TRAIN, JobKind.SAMPLE}
    return draws and documents.grid_key(uow, job) is not None


def _may_not_cancel(job: Job) -> str | None:
    if job.cancel_requested:
        return "It was asked to stop; its worker does so after the step that it is in."
    return reason(lambda: permissions.check_may_cancel(actor(), job, asked=job.id))
