"""Data owners' and auditors' pages: datasets with their budgets, jobs with their progress."""

from flask import Response, render_template, request

from service import documents
from service.domain.jobs import TERMINAL, Job, JobKind
from service.operations import datasets, jobs
from service.operations.budgets import BudgetView
from service.pages.session import actor, blueprint
from service.store.unit_of_work import UnitOfWork
from service.web import application


@blueprint.get("/datasets")
def list_datasets() -> str:
    """List the tenant's datasets."""
    with application().uow(read_only=True) as uow:
        page = datasets.list_datasets(uow, actor(), cursor=request.args.get("cursor"))
        return render_template(
            "datasets.html", nav="datasets", datasets=page.items, next_cursor=page.next_cursor
        )


@blueprint.get("/datasets/<string:dataset_id>")
def show_dataset(dataset_id: str) -> str:
    """Show a dataset: what is left of its budget, what spent it, its versions."""
    with application().uow(read_only=True) as uow:
        found = datasets.get_dataset(uow, actor(), dataset_id=dataset_id)
        budget = datasets.get_budget(uow, actor(), dataset_id=dataset_id)
        versions = datasets.list_versions(uow, actor(), dataset_id=dataset_id)
        return render_template(
            "dataset.html",
            nav="datasets",
            dataset=found,
            budget=budget,
            shares=_shares(budget),
            versions=versions.items,
        )


@blueprint.get("/jobs")
def list_jobs() -> str:
    """List the tenant's jobs; the page renews itself while one of them runs."""
    with application().uow(read_only=True) as uow:
        page = jobs.list_jobs(uow, actor(), cursor=request.args.get("cursor"))
        return render_template(
            "jobs.html",
            nav="jobs",
            jobs=page.items,
            is_live=any(job.state not in TERMINAL for job in page.items),
            next_cursor=page.next_cursor,
        )


@blueprint.get("/jobs/<string:job_id>")
def show_job(job_id: str) -> str:
    """Show a job's progress; the page renews itself while it runs."""
    with application().uow(read_only=True) as uow:
        job = jobs.get_job(uow, actor(), job_id=job_id)
        nearby = jobs.list_jobs(uow, actor(), dataset_id=job.dataset_id, limit=200)
        return render_template(
            "job.html",
            nav="jobs",
            job=job,
            is_live=job.state not in TERMINAL,
            has_grid=_has_grid(uow, job),
            children=[other for other in nearby.items if other.parent_id == job.id],
        )


@blueprint.get("/jobs/<string:job_id>/samples.png")
def sample_grid(job_id: str) -> Response:
    """Return the newest grid of synthetic images of a job."""
    with application().uow(read_only=True) as uow:
        image = documents.read_sample_grid(uow, actor(), job_id=job_id)
    return Response(image, content_type="image/png")


def _has_grid(uow: UnitOfWork, job: Job) -> bool:
    draws = job.kind in {JobKind.TRAIN, JobKind.SAMPLE}
    return draws and documents.grid_key(uow, job) is not None


def _shares(budget: BudgetView) -> dict[str, float]:
    """Return how much of the budget is spent and reserved, in percent of its bar."""
    whole = float(budget.epsilon.budget)
    return {
        "spent": round(100 * float(budget.epsilon.spent) / whole, 2),
        "reserved": round(100 * float(budget.epsilon.reserved) / whole, 2),
    }
