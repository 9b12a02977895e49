"""The audit report: framed, on its own, as JSON, and its pairs one by one. Each look is recorded."""

from flask import Response, render_template

from service import documents
from service.domain.errors import NotFound
from service.domain.jobs import Job
from service.domain.permissions import check_may_read_report
from service.operations import jobs
from service.pages.session import actor, blueprint
from service.web import application


@blueprint.get("/reports/<string:audit_job_id>")
def show_report(audit_job_id: str) -> str:
    """Show the report in a frame that can do nothing."""
    with application().uow(read_only=True) as uow:
        job = check_may_read_report(actor(), uow.get(Job, audit_job_id), asked=audit_job_id)
    if "report_html" not in job.result:
        raise NotFound(documents.missing_report(job, form="report_html"))
    pairs = int(job.result.get("pair_count", 0))
    return render_template("report.html", nav="jobs", audit_job_id=audit_job_id, pairs=pairs)


@blueprint.get("/reports/<string:audit_job_id>/pairs")
def list_pairs(audit_job_id: str) -> str:
    """Offer the suspicious pairs of an audit; none of their pictures is shown yet."""
    with application().uow(read_only=True) as uow:
        job = jobs.find_audit(uow, actor(), audit_job_id=audit_job_id)
    if job.result.get("pictures_erased"):
        raise NotFound(documents.missing_report(job, form="report_html"))
    return render_template("pairs.html", nav="jobs", audit=job, pair=None, number=None)


@blueprint.post("/reports/<string:audit_job_id>/pairs/<int:number>")
def show_pair(audit_job_id: str, number: int) -> str:
    """Show one pair; the trail says who looked at which."""
    with application().uow() as uow:
        pair = documents.read_pair(uow, actor(), audit_job_id=audit_job_id, number=number)
        job = jobs.find_audit(uow, actor(), audit_job_id=audit_job_id)
    return render_template("pairs.html", nav="jobs", audit=job, pair=pair, number=number)


@blueprint.get("/reports/<string:audit_job_id>/document")
def report_document(audit_job_id: str) -> Response:
    """Return the report's own page."""
    with application().uow() as uow:
        content = documents.read_report(uow, actor(), audit_job_id=audit_job_id, form="report_html")
    return documents.page_response(content)


@blueprint.get("/reports/<string:audit_job_id>/document.json")
def report_json(audit_job_id: str) -> Response:
    """Return the report as JSON."""
    with application().uow() as uow:
        content = documents.read_report(uow, actor(), audit_job_id=audit_job_id, form="report")
    return Response(content, content_type="application/json")
