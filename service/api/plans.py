"""Approvals of training plans: JSON in, operation, JSON out."""

from flask import Response
from pydantic import BaseModel

from service import review_resources as r
from service.api.answers import ListQuery, RevisionHeader, answer, answer_page, needed_revision
from service.api.auth import actor, make_blueprint
from service.api.problems import documented
from service.domain.plan_approvals import PlanApproval, PlanState
from service.operations import jobs, plan_approving, plan_requirement
from service.resources import Identifier
from service.store.unit_of_work import UnitOfWork
from service.web import application

blueprint = make_blueprint("plans", about="Training plans that need an auditor's approval.")

_EDITED = documented(412, 428)


class PlanPath(BaseModel):
    """An approval of a plan."""

    plan_id: Identifier


class TenantPath(BaseModel):
    """A tenant."""

    tenant_id: Identifier


class PlanQuery(ListQuery):
    """Which plans."""

    state: PlanState | None = None


@blueprint.post("/plan-approvals", summary="Ask for approval", responses={201: r.PlanApproval})
def request_plan_approval(body: r.NewPlanApproval) -> Response:
    """Ask an auditor to approve exactly this training before it spends epsilon."""
    with application().uow() as uow:
        asked = body.target
        made = plan_approving.request_plan_approval(
            uow,
            actor(),
            version_id=body.version_id,
            purpose=body.purpose,
            generator=body.generator,
            config=body.config,
            target=jobs.target_for(
                uow,
                actor(),
                version_id=body.version_id,
                epsilon=asked.epsilon,
                delta=asked.delta,
            ),
            tier=body.tier,
            samples=body.samples,
            preset=body.preset,
            canaries=body.canaries,
        )
        return _show(uow, made, status=201)


@blueprint.get("/plan-approvals", summary="List plans", responses={200: r.PlanApprovalPage})
def list_plans(query: PlanQuery) -> Response:
    """List the plans of your tenant, newest first."""
    with application().uow(read_only=True) as uow:
        page = plan_approving.list_plans(
            uow, actor(), state=query.state, cursor=query.cursor, limit=query.limit
        )
        return answer_page(r.PlanApprovalPage, page, view)


@blueprint.get(
    "/plan-approvals/<string:plan_id>", summary="A plan", responses={200: r.PlanApproval}
)
def get_plan(path: PlanPath) -> Response:
    """Show a plan and what was decided of it."""
    with application().uow(read_only=True) as uow:
        return _show(uow, plan_approving.get_plan(uow, actor(), plan_id=path.plan_id))


@blueprint.post(
    "/plan-approvals/<string:plan_id>/decision",
    summary="Decide",
    responses={200: r.PlanApproval, **_EDITED},
)
def decide_plan(path: PlanPath, body: r.PlanDecision, header: RevisionHeader) -> Response:
    """Approve or refuse a plan, as an auditor who had no part in it."""
    with application().uow() as uow:
        found = plan_approving.decide_plan(
            uow,
            actor(),
            plan_id=path.plan_id,
            approve=body.decision == "approve",
            reason=body.reason,
            if_match=needed_revision(header),
        )
        return _show(uow, found)


@blueprint.post(
    "/plan-approvals/<string:plan_id>/withdraw",
    summary="Withdraw",
    responses={200: r.PlanApproval, **_EDITED},
)
def withdraw_plan(path: PlanPath, header: RevisionHeader) -> Response:
    """Take back a request, or an approval that was not used."""
    with application().uow() as uow:
        found = plan_approving.withdraw_plan(
            uow, actor(), plan_id=path.plan_id, if_match=needed_revision(header)
        )
        return _show(uow, found)


@blueprint.put(
    "/tenants/<string:tenant_id>/plan-approval",
    summary="Whether plans need approval",
    responses={200: r.TenantPlanRule},
)
def require_plan_approval(path: TenantPath, body: r.PlanRule) -> Response:
    """Say whether an auditor must approve a tenant's plans before they spend epsilon."""
    with application().uow() as uow:
        found = plan_requirement.require_plan_approval(
            uow, actor(), tenant_id=path.tenant_id, required=body.required
        )
        view = r.TenantPlanRule(tenant_id=found.id, required=found.needs_plan_approval)
        return answer(view)


def view(found: PlanApproval) -> r.PlanApproval:
    """Show a plan; digests that bind it stay inside."""
    inside = {"manifest", "policy"}
    return r.PlanApproval(
        id=found.id,
        version_id=found.version_id,
        requested_by=found.requested_by,
        purpose=found.purpose,
        plan={name: value for name, value in found.plan.items() if name not in inside},
        state=found.state.value,
        revision=found.revision,
        created_at=found.created_at,
        decided_by=found.decided_by,
        reason=found.reason,
        expires_at=found.expires_at,
        job_id=found.job_id,
    )


def _show(uow: UnitOfWork, found: PlanApproval, *, status: int = 200) -> Response:
    uow.session.flush()  # the revision, which is the ETag, is counted when the row is written
    headers = {"ETag": found.etag}
    if status == 201:
        headers["Location"] = f"/v1/plan-approvals/{found.id}"
    return answer(view(found), status=status, headers=headers)
