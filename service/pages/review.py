"""The audit report: framed for reading, on its own, and as JSON. Each reading is recorded."""

from flask import Response, render_template

from service import documents
from service.domain.errors import NotFound
from service.domain.jobs import Job
from service.domain.permissions import check_may_read_report
from service.pages.session import actor, blueprint
from service.web import application


@blueprint.get("/reports/<string:audit_job_id>")
def show_report(audit_job_id: str) -> str:
    """Show the report in a frame that can do nothing."""
    with application().uow(read_only=True) as uow:
        job = check_may_read_report(actor(), uow.get(Job, audit_job_id), asked=audit_job_id)
    if "report_html" not in job.result:
        raise NotFound(documents.missing_report(job, form="report_html"))
    return render_template("report.html", nav="jobs", audit_job_id=audit_job_id)


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
