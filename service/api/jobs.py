"""Generators, training plans, jobs and audit reports: JSON in, operation, JSON out."""

from collections.abc import Callable
from typing import TypeVar

from flask import Response

from privacy.mechanisms import PrivacyTarget
from service import documents
from service import resources as r
from service.api import views
from service.api.answers import (
    AuditPath,
    IdempotencyHeader,
    JobPath,
    ListQuery,
    VersionPath,
    answer,
    answer_job,
    answer_page,
)
from service.api.auth import actor, make_blueprint
from service.api.idempotency import answer_once
from service.domain.accounts import Scope
from service.operations import catalogue, jobs
from service.plan_view import training_plan
from service.resources import Identifier
from service.store.unit_of_work import UnitOfWork
from service.web import application

T = TypeVar("T")

blueprint = make_blueprint("jobs", about="What machines do: training, audits, reports.")


class JobQuery(ListQuery):
    """Which jobs."""

    dataset_id: Identifier | None = None


@blueprint.get("/generators", summary="List generators")
def list_generators() -> Response:
    """Return each generator's documentation, the JSON Schema of its config, and defaults."""
    with application().uow(read_only=True) as uow:
        return answer(r.Generators(generators=catalogue.list_generators(uow)))


@blueprint.post(
    "/versions/<string:version_id>/training-plans",
    summary="Cost a training run",
    responses={200: r.TrainingPlan},
)
def plan_training(path: VersionPath, body: r.NewTrainingPlan) -> Response:
    """Return the mechanisms a run would reserve, or why it would be refused; reserves nothing.

    With `estimate`, a dry run on random images finds out time and memory: a job of its own, whose
    result is in the answer of the same request once it has ended.
    """
    with application().uow(read_only=True) as uow:
        plan = jobs.plan_training(
            uow,
            actor(),
            version_id=path.version_id,
            generator=body.generator,
            config=body.config,
            target=_target(uow, body, path.version_id),
            tier=body.tier,
            samples=body.samples,
            preset=body.preset,
        )
    return answer(training_plan(plan, _estimate(plan, body, path.version_id)))


def _estimate(
    plan: jobs.TrainingPlan, body: r.NewTrainingPlan, version_id: str
) -> jobs.Estimate | None:
    if plan.planned is None or not body.estimate:
        return None
    with application().uow() as uow:
        return jobs.request_estimate(uow, actor(), version_id=version_id, planned=plan.planned)


@blueprint.post("/jobs", summary="Request training", responses={202: r.Job})
def request_training(body: r.NewJob, header: IdempotencyHeader) -> Response:
    """Reserve the run's mechanisms in the budget and queue it; refused if they do not fit."""

    def run(operation: Callable[..., T], uow: UnitOfWork, **more: int) -> T:
        return operation(
            uow,
            actor(),
            version_id=body.version_id,
            generator=body.generator,
            config=body.config,
            target=_target(uow, body, body.version_id),
            tier=body.tier,
            samples=body.samples,
            preset=body.preset,
            **more,
        )

    def request(uow: UnitOfWork) -> Response:
        return answer_job(views.job(run(jobs.request_training, uow, canaries=body.canaries)))

    with application().uow(read_only=True) as uow:
        # Seconds of accounting at a first request: done before the budget is locked, remembered.
        run(jobs.plan_training, uow)
    with application().uow() as uow:
        return answer_once(
            uow,
            header.idempotency_key,
            lambda: request(uow),
            scope=Scope.JOBS,
        )


def _target(uow: UnitOfWork, body: r.NewTraining, version_id: str) -> PrivacyTarget:
    asked = body.target
    return jobs.target_for(
        uow, actor(), version_id=version_id, epsilon=asked.epsilon, delta=asked.delta
    )


@blueprint.get("/jobs", summary="List jobs", responses={200: r.JobPage})
def list_jobs(query: JobQuery) -> Response:
    """List the jobs of the actor's tenant, newest first."""
    with application().uow(read_only=True) as uow:
        page = jobs.list_jobs(
            uow,
            actor(),
            dataset_id=query.dataset_id,
            cursor=query.cursor,
            limit=query.limit,
        )
        return answer_page(r.JobPage, page, views.job)


@blueprint.get("/jobs/<string:job_id>", summary="A job", responses={200: r.Job})
def get_job(path: JobPath) -> Response:
    """Show a job and how far it is."""
    with application().uow(read_only=True) as uow:
        return answer(views.job(jobs.get_job(uow, actor(), job_id=path.job_id)))


@blueprint.post("/jobs/<string:job_id>/cancel", summary="Cancel a job", responses={202: r.Job})
def cancel_job(path: JobPath) -> Response:
    """Ask a job to stop: `cancelling` until its worker has stopped, then `cancelled`."""
    with application().uow() as uow:
        view = views.job(jobs.cancel_job(uow, actor(), job_id=path.job_id))
    return answer_job(view)


@blueprint.get("/jobs/<string:job_id>/samples.png", summary="Newest grid of synthetic images")
def get_sample_grid(path: JobPath) -> Response:
    """Return the newest grid that a running job has drawn, as PNG."""
    with application().uow(read_only=True) as uow:
        image = documents.read_sample_grid(uow, actor(), job_id=path.job_id)
    return Response(image, content_type="image/png")


@blueprint.get("/reports/<string:audit_job_id>.json", summary="An audit report")
def get_report(path: AuditPath) -> Response:
    """Return an audit report; reading it is recorded."""
    with application().uow() as uow:
        content = documents.read_report(uow, actor(), audit_job_id=path.audit_job_id, form="report")
    return Response(content, content_type="application/json")


@blueprint.get("/reports/<string:audit_job_id>.html", summary="An audit report as a page")
def get_report_html(path: AuditPath) -> Response:
    """Return an audit report as one self-contained page with real images; reading is recorded."""
    with application().uow() as uow:
        content = documents.read_report(
            uow, actor(), audit_job_id=path.audit_job_id, form="report_html"
        )
    return documents.page_response(content)
