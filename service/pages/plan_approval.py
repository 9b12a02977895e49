"""A training plan that waits for an auditor, before it spends epsilon."""

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from privacy.statements import unit_word
from service.domain.datasets import Dataset
from service.domain.errors import DomainError
from service.domain.permissions import check_may_create_release
from service.operations import datasets, plan_approving
from service.operations.review_queue import names_of
from service.pages.deciding import take_decision
from service.pages.rules import reason
from service.pages.schema_words import unit_name
from service.pages.session import actor, blueprint
from service.web import application


@blueprint.get("/plans/<string:plan_id>")
def show_plan(plan_id: str) -> str:
    """Show what a training would spend, and on what."""
    return _render(plan_id)


@blueprint.post("/plans/<string:plan_id>/decision")
def decide_plan(plan_id: str) -> AnyResponse | tuple[str, int]:
    """Approve or refuse it, bound to what the form showed."""
    return take_decision(
        page=url_for("pages.show_plan", plan_id=plan_id),
        approve="approve",
        refuse="refuse",
        decide=lambda uow, approves: plan_approving.decide_plan(
            uow,
            actor(),
            plan_id=plan_id,
            approve=approves,
            reason=request.form.get("reason", ""),
            if_match=request.form.get("if_match", ""),
        ),
        render=lambda refusal: _render(plan_id, refusal=refusal),
    )


@blueprint.post("/plans/<string:plan_id>/withdrawal")
def withdraw_plan(plan_id: str) -> AnyResponse:
    """Take the request back."""
    with application().uow() as uow:
        plan_approving.withdraw_plan(
            uow, actor(), plan_id=plan_id, if_match=request.form.get("if_match", "")
        )
    return redirect(url_for("pages.show_plan", plan_id=plan_id), code=303)


def _render(plan_id: str, *, refusal: DomainError | None = None) -> str:
    with application().uow(read_only=True) as uow:
        found = plan_approving.get_plan(uow, actor(), plan_id=plan_id)
        dataset = uow.get(Dataset, found.plan["dataset"])
        budget = datasets.get_budget(uow, actor(), dataset_id=found.plan["dataset"])
        people = [found.requested_by, *([found.decided_by] if found.decided_by else [])]
        names = names_of(uow, people)
        no_decision = reason(lambda: plan_approving.check_may_decide(uow, actor(), found))
    return render_template(
        "plan_approval.html",
        nav="review",
        found=found,
        plan=found.plan,
        dataset=dataset,
        budget=budget,
        unit=unit_name(dataset.schema) if dataset else unit_word(found.plan["unit"]),
        names=names,
        no_decision=no_decision,
        may_withdraw=reason(lambda: check_may_create_release(actor())) is None,
        refusal=refusal,
        given=request.form,
    )
