"""The operator's pages: machines, storage, failed jobs, journal, retention.

Operators run the machines and see no records, reports or candidates: these pages hold counts,
sizes, identifiers and the service's own sentences. Users are in `operator_users`.
"""

from flask import current_app, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.broker_watch import BrokerWatch
from service.dispatch import Dispatcher
from service.domain.errors import IllegalTransition
from service.domain.permissions import check_may_administer
from service.domain.trail import TrailEvent
from service.operations import machines
from service.pages.session import actor, blueprint
from service.web import application


@blueprint.get("/operator")
def show_machines() -> str:
    """Show workers, queues and running jobs."""
    check_may_administer(actor())
    broker = _broker().look()
    with application().uow(read_only=True) as uow:
        return render_template(
            "operator_machines.html",
            nav="operator",
            here="machines",
            queues=machines.view_queues(uow, actor()),
            states=machines.jobs_by_state(uow, actor()),
            broker=broker,
            depths=broker.depths if broker else None,
            workers=broker.workers if broker else None,
            now=uow.now(),
            train_queue=uow.settings.train_queue,
        )


@blueprint.get("/operator/jobs")
def list_failed_jobs() -> str:
    """List failed jobs with their reasons."""
    with application().uow(read_only=True) as uow:
        page = machines.list_failed_jobs(uow, actor(), cursor=request.args.get("cursor"))
        jobs = [(job, machines.why_not_repeat(uow, job)) for job in page.items]
    return render_template(
        "operator_jobs.html", nav="operator", here="jobs", jobs=jobs, next_cursor=page.next_cursor
    )


@blueprint.post("/operator/jobs/<string:job_id>/repeat")
def repeat_job(job_id: str) -> AnyResponse:
    """Queue a failed job again, where that is legal."""
    with application().uow() as uow:
        machines.repeat_job(uow, actor(), job_id=job_id)
    return redirect(url_for("pages.list_failed_jobs"), code=303)


@blueprint.route("/operator/storage", methods=["GET", "POST"])
def show_storage() -> str:
    """Measure the buckets when asked to."""
    check_may_administer(actor())
    buckets = None
    if request.method == "POST":
        with application().uow() as uow:
            buckets = machines.view_storage(uow, actor())
            uow.trail(actor(), TrailEvent.STORAGE_LOOK, "storage")
    return render_template("operator_storage.html", nav="operator", here="storage", buckets=buckets)


@blueprint.route("/operator/journal", methods=["GET", "POST"])
def verify_journal() -> str:
    """Walk the journal when asked to, and show its head."""
    check_may_administer(actor())
    result = problem = None
    if request.method == "POST":
        try:
            with application().uow() as uow:
                result = machines.check_journal(uow, actor())
        except (ValueError, IllegalTransition) as error:
            problem = str(error)
    return render_template(
        "operator_journal.html", nav="operator", here="journal", result=result, problem=problem
    )


@blueprint.get("/operator/retention")
def show_retention() -> str:
    """Show what is kept for how long, and what will be erased when."""
    with application().uow(read_only=True) as uow:
        deadlines = machines.list_deadlines(uow, actor())
        rules = machines.rules_of_retention(uow)
    return render_template(
        "operator_retention.html",
        nav="operator",
        here="retention",
        deadlines=deadlines,
        rules=rules,
    )


@blueprint.context_processor
def add_operator_tabs() -> dict[str, object]:
    """Give the operator's templates their tabs."""
    if "actor" not in g:
        return {}
    tabs = (
        ("machines", "Machines", "pages.show_machines"),
        ("users", "Users", "pages.list_users"),
        ("tenants", "Tenants", "pages.list_tenants"),
        ("jobs", "Failed jobs", "pages.list_failed_jobs"),
        ("storage", "Storage", "pages.show_storage"),
        ("journal", "Journal", "pages.verify_journal"),
        ("retention", "Retention", "pages.show_retention"),
    )
    return {"operator_tabs": tabs}


def _broker() -> BrokerWatch:
    """Return this process's watch, made at the first look."""
    fresh = BrokerWatch(Dispatcher(application().settings))
    watch: BrokerWatch = current_app.extensions.setdefault("kaima-broker-watch", fresh)
    return watch
