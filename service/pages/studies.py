"""Owner's and auditor's pages of reader studies: plan, consent, readers, results."""

import re
from collections.abc import Mapping
from typing import Any

from flask import redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response

from privacy.reader_equivalence import Design, cases_needed, power
from service.domain import study_permissions
from service.domain.errors import DomainError, NotFound
from service.domain.studies import (
    ANSWERING,
    CONSENTS_NEEDED,
    Phase,
    StudyReader,
    StudyState,
    steps_of,
)
from service.operations import (
    datasets,
    jobs,
    studies,
    study_evidence,
    study_interests,
    study_reading,
    study_results,
)
from service.operations.studies import StudyView
from service.pages import study_plots
from service.pages.rules import count_in, field_errors, number_in, reason
from service.pages.session import actor, blueprint
from service.pages.step_up import require_fresh_factor
from service.resources import IDENTIFIER_PATTERN
from service.store.unit_of_work import UnitOfWork
from service.study_resources import NewStudyPlan
from service.web import application

PHASE_WORDS = {
    Phase.INVITED: "not begun",
    Phase.GRADING: "part A",
    Phase.BETWEEN: "between the parts",
    Phase.JUDGING: "part B",
    Phase.FINISHED: "finished",
    Phase.WITHDRAWN: "withdrawn",
}
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN)
_STEPS = (
    (StudyState.DRAFT, "Plan"),
    (StudyState.REGISTERED, "Consent of auditors"),
    (StudyState.PREPARING, "Cases are drawn"),
    (StudyState.OPEN, "Readers read"),
    (StudyState.CLOSED, "Result"),
)


@blueprint.get("/studies")
def list_reader_studies() -> str:
    """List the tenant's reader studies."""
    with application().uow(read_only=True) as uow:
        page = studies.list_studies(uow, actor(), cursor=request.args.get("cursor"), limit=30)
    return render_template(
        "studies.html",
        nav="studies",
        studies=page.items,
        next_cursor=page.next_cursor,
        is_later="cursor" in request.args,
        may_not_plan=reason(lambda: study_permissions.check_may_plan_study(actor())),
    )


@blueprint.get("/studies/new")
def new_reader_study() -> str:
    """Show the form of a plan; `audit_job_id` names the candidate."""
    study_permissions.check_may_plan_study(actor())
    return _form({"audit_job_id": request.args.get("audit_job_id", "")}, {}, None)


@blueprint.post("/studies/new")
def create_reader_study() -> Response | tuple[str, int]:
    """Draft a study; a form that was refused is shown again with what was typed."""
    study_permissions.check_may_plan_study(actor())
    form = request.form
    try:
        plan = NewStudyPlan.model_validate(_typed(form))
    except ValidationError as error:
        return _form(form, field_errors(error), "The plan was refused. Mend what is marked."), 422
    if form.get("act") == "size":
        return _form(form, {}, None, told=_power(plan)), 200
    if not _IDENTIFIER.fullmatch(form.get("audit_job_id", "").strip()):
        return _form(form, {}, "The plan was refused: name the id of an audit job."), 422
    try:
        with application().uow() as uow:
            study = studies.create_study(
                uow,
                actor(),
                audit_job_id=form.get("audit_job_id", "").strip(),
                name=form.get("name", ""),
                plan=plan.model_dump(),
            )
    except DomainError as error:
        return _form(form, {}, error.sentence), error.status
    return redirect(url_for("pages.show_study", study_id=study.id))


@blueprint.get("/studies/<string:study_id>")
def show_study(study_id: str) -> str:
    """Show a study: where it stands, what is next, and its result once it is closed."""
    return _study_page(study_id)


@blueprint.post("/studies/<string:study_id>/<string:act>")
def act_on_study(study_id: str, act: str) -> Response | tuple[str, int]:
    """Lock the plan, consent, draw again, close or cancel; a refusal is shown on the study's page."""
    if act not in _ACTS:
        raise NotFound(f"No step {act!r} of a study was found. Load the study's page again.")
    try:
        if act == "consent":
            require_fresh_factor(back=url_for("pages.show_study", study_id=study_id))
        with application().uow() as uow:
            _ACTS[act](uow, study_id)
    except DomainError as error:
        if error.status == 404:
            raise
        return _study_page(study_id, refusal=error.sentence), error.status
    return redirect(url_for("pages.show_study", study_id=study_id))


@blueprint.post("/studies/<string:study_id>/readers")
def invite_reader(study_id: str) -> tuple[str, int]:
    """Invite a reader and show the link this once."""
    try:
        require_fresh_factor(back=url_for("pages.show_study", study_id=study_id))
        with application().uow() as uow:
            reader, secret = study_reading.invite_reader(
                uow, actor(), study_id=study_id, name=request.form.get("name", "")
            )
    except DomainError as error:
        if error.status == 404:
            raise
        return _study_page(study_id, refusal=error.sentence), error.status
    return _study_page(study_id, invited=_link(reader, secret)), 200


@blueprint.post("/studies/<string:study_id>/readers/<string:reader_id>/<string:act>")
def act_on_reader(study_id: str, reader_id: str, act: str) -> tuple[str, int]:
    """Give a reader a new link, or end their part."""
    invited = None
    try:
        if act == "link":
            require_fresh_factor(back=url_for("pages.show_study", study_id=study_id))
        with application().uow() as uow:
            if act not in {"link", "withdraw"}:
                raise NotFound(f"No step {act!r} of a reader was found. Load the page again.")
            if act == "link":
                invited = _link(
                    *study_reading.renew_link(uow, actor(), study_id=study_id, reader_id=reader_id)
                )
            else:
                study_reading.withdraw_reader(uow, actor(), study_id=study_id, reader_id=reader_id)
    except DomainError as error:
        if error.status == 404:
            raise
        return _study_page(study_id, refusal=error.sentence), error.status
    return _study_page(study_id, invited=invited), 200


@blueprint.app_template_global("reader_study_of")
def reader_study_of(audit_job_id: str) -> dict[str, Any] | None:
    """Return what a page of evidence shows of a candidate's study; the page has checked its actor."""
    with application().uow(read_only=True) as uow:
        return study_evidence.result_of(uow, audit_job_id)


@blueprint.app_template_global("reader_study_needed")
def reader_study_needed(tier: str) -> bool:
    """Tell whether releases of a tier need a closed reader study."""
    with application().uow(read_only=True) as uow:
        return study_evidence.is_required(uow, tier)


_ACTS = {
    "register": lambda uow, key: studies.register_study(uow, actor(), study_id=key),
    "consent": lambda uow, key: studies.consent_to_study(
        uow, actor(), study_id=key, plan_digest=request.form.get("plan_digest", "")
    ),
    "draw-again": lambda uow, key: studies.draw_again(uow, actor(), study_id=key),
    "close": lambda uow, key: study_results.close_study(uow, actor(), study_id=key),
    "cancel": lambda uow, key: studies.cancel_study(uow, actor(), study_id=key),
}


def _study_page(
    study_id: str, *, refusal: str | None = None, invited: Mapping[str, str] | None = None
) -> str:
    result = None
    with application().uow() as uow:
        view = studies.get_study(uow, actor(), study_id=study_id)
        if view.study.state is StudyState.CLOSED:
            result = study_results.read_result(uow, actor(), study_id=study_id)
        may_not_consent = _may_not_consent(uow, view)
        may_not_invite = _may_not_invite(uow, view)
    study = view.study
    return render_template(
        "study.html",
        nav="studies",
        view=view,
        study=study,
        plan=view.plan,
        steps=_steps(study.state),
        rows=[_progress(view, reader) for reader in view.readers],
        may_not_change=reason(
            lambda: study_permissions.check_may_change_study(actor(), study, asked=study.id)
        ),
        may_not_consent=may_not_consent,
        may_not_invite=may_not_invite,
        consents_needed=CONSENTS_NEEDED,
        result=result,
        plots=study_plots.plots(result) if result else None,
        refusal=refusal,
        invited=invited,
        is_quick="state" not in request.args,
    )


def _may_not_consent(uow: UnitOfWork, view: StudyView) -> str | None:
    def check() -> None:
        study_permissions.check_may_consent(actor(), view.study, asked=view.study.id)
        study_interests.check_uninvolved(uow, actor(), view.study)

    if any(given.auditor_id == actor().user_id for given in view.consents):
        return "You have consented."
    return reason(check)


def _may_not_invite(uow: UnitOfWork, view: StudyView) -> str | None:
    def check() -> None:
        study_permissions.check_may_hand_out_links(actor(), view.study, asked=view.study.id)
        study_interests.check_uninvolved(uow, actor(), view.study, what="Inviting readers")

    return reason(check)


def _steps(state: StudyState) -> list[tuple[str, str]]:
    order = [step for step, _ in _STEPS]
    at = order.index(state) if state in order else -1
    return [
        (words, "done" if place < at else "now" if place == at else "later")
        for place, (_, words) in enumerate(_STEPS)
    ]


def _progress(view: StudyView, reader: StudyReader) -> dict[str, Any]:
    """Return how far a reader is: parts and counts, and nothing of what was answered."""
    first, second = (steps_of(view.plan, phase) for phase in (Phase.GRADING, Phase.JUDGING))
    own = reader.position - 1 if reader.phase in ANSWERING else 0
    done = {
        Phase.GRADING: own,
        Phase.BETWEEN: first,
        Phase.JUDGING: first + own,
        Phase.FINISHED: first + second,
    }.get(reader.phase, 0)
    return {
        "reader": reader,
        "words": PHASE_WORDS[reader.phase],
        "done": done,
        "total": first + second,
        "is_over": reader.phase in {Phase.FINISHED, Phase.WITHDRAWN},
    }


def _link(reader: StudyReader, secret: str) -> dict[str, str]:
    base = application().settings.public_url.rstrip("/")
    return {"name": reader.name, "link": base + url_for("reading.show_link", link=secret)}


def _form(
    given: Mapping[str, str],
    errors: Mapping[str, str],
    refusal: str | None,
    *,
    told: str | None = None,
) -> str:
    with application().uow(read_only=True) as uow:
        labels: list[str] = []
        audit_job_id = given.get("audit_job_id", "").strip()
        if _IDENTIFIER.fullmatch(audit_job_id):
            try:
                audit = jobs.find_audit(uow, actor(), audit_job_id=audit_job_id)
                dataset = datasets.get_dataset(uow, actor(), dataset_id=audit.dataset_id)
                labels = list(dataset.images(what="A reader study").labels)
            except DomainError as error:
                refusal = refusal or error.sentence
    return render_template(
        "study_new.html",
        nav="studies",
        given=given,
        errors=errors,
        refusal=refusal,
        told=told,
        labels=labels,
    )


def _typed(form: Mapping[str, str]) -> dict[str, Any]:
    scale = [grade.strip() for grade in form.get("scale", "").replace("\n", ",").split(",")]
    typed: dict[str, Any] = {
        "question": form.get("question", "").strip(),
        "endpoint": form.get("endpoint", "area_under_roc"),
        "scale": [grade for grade in scale if grade],
        "grading_question": form.get("grading_question", "").strip() or "Which grade?",
        "scale_is_the_label": form.get("scale_is_the_label") == "yes",
    }
    for name in ("margin", "alpha", "least_seconds", "least_share"):
        typed[name] = number_in(form, name)
    for name in ("readers", "cases_per_class"):
        typed[name] = count_in(form, name)
    return {name: value for name, value in typed.items() if value is not None}


def _power(plan: NewStudyPlan) -> str:
    design = Design(plan.readers, plan.cases_per_class)
    chance = power(design, margin=plan.margin, alpha=plan.alpha)
    needed = cases_needed(design, margin=plan.margin, alpha=plan.alpha)
    more = (
        f"80 % would take {needed} cases of each kind."
        if needed
        else "No number of cases up to 2,000 reaches 80 %: more readers are needed."
    )
    return (
        f"If readers do guess, this study shows it with a chance of {100 * chance:.0f} %. {more} "
        "Assumed: cases differ half as much as single looks do, readers' true areas by .03."
    )
