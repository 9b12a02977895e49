"""Have an auditor read a training plan before it spends epsilon, where a tenant wants that.

An approval is of one plan, by its digest, at one position of the budget's account, under one policy.
Another training that was reserved meanwhile voids it, and it expires; one training uses it up.
"""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import rfc8785
import sqlalchemy as sa

from privacy.mechanisms import PrivacyTarget, mechanisms_to_json
from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor, Role
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.identifiers import new_id
from service.domain.plan_approvals import PlanApproval, PlanState
from service.domain.review_permissions import check_may_approve_plans
from service.domain.trail import TrailEvent
from service.operations import conflicts, notifying
from service.operations.evidence import account_position
from service.operations.factor_resets import check_settled
from service.operations.plan_requirement import needs_approval
from service.operations.plans import DEFAULT_SAMPLES, Asked, Planned, plan
from service.operations.policies import policy_in_force
from service.store import review_tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

_TEXT_LIMIT = 4000
_plans = review_tables.plan_approvals
_OPEN = (PlanState.REQUESTED, PlanState.APPROVED)


def request_plan_approval(  # noqa: PLR0913 - everything that may be asked for
    uow: UnitOfWork,
    actor: Actor,
    *,
    version_id: str,
    purpose: str,
    generator: str,
    config: Mapping[str, Any],
    target: PrivacyTarget,
    tier: str = "registered",
    samples: int = DEFAULT_SAMPLES,
    preset: str | None = None,
    canaries: int = 0,
) -> PlanApproval:
    """Ask an auditor to approve exactly this training; nothing is reserved yet.

    Raises: Conflict if the same plan waits or is approved already; whatever planning refuses.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    purpose = _checked(purpose, "purpose")
    planned = plan(uow, version, Asked(generator, config, target, tier, samples, preset))
    document = plan_document(uow, version, planned, canaries=canaries)
    digest = _digest(document)
    same = _find(uow, version, digest, _OPEN)
    if same is not None and _obstacle(uow, same) is None:
        raise Conflict(
            f"The request was refused: this plan is {same.state.value} already ({same.id}).",
            plan=same.id,
        )
    if same is not None:
        _end(uow, SYSTEM, same)
    now = uow.now()
    made = PlanApproval(
        id=new_id("pla"),
        tenant_id=version.tenant_id,
        version_id=version.id,
        cohort_id=planned.dataset.cohort_id,
        requested_by=actor.user_id,
        created_at=now,
        purpose=purpose,
        plan=document,
        plan_digest=digest,
        ledger=account_position(uow, planned.dataset.cohort_id),
        state_since=now,
        expires_at=now + timedelta(days=uow.settings.plan_approval_days),
    )
    uow.session.add(made)
    uow.trail(
        actor, TrailEvent.PLAN_REQUEST_APPROVAL, made.id, plan=digest, account=made.ledger["digest"]
    )
    notifying.notify(
        uow,
        to=_judges(uow, made, planned.dataset, version),
        kind="plan.requested",
        subject=f"A training plan for {planned.dataset.name}",
        text=f"It would spend epsilon {target.epsilon} and waits for an auditor's approval.",
        link=f"/plans/{made.id}",
    )
    return made


def decide_plan(
    uow: UnitOfWork,
    actor: Actor,
    *,
    plan_id: str,
    approve: bool,
    reason: str,
    if_match: str | None,
) -> PlanApproval:
    """Approve or refuse a plan, as an auditor who had no part in it.

    Raises: PermissionDenied; Conflict if budget or policy moved on, or it waited too long (it is void
    or expired then); IllegalTransition, InputRefused, NotFound, PreconditionFailed.
    """
    found = _visible(actor, uow.get(PlanApproval, plan_id, lock=True), asked=plan_id)
    check_may_approve_plans(actor)
    _check_revision(found, if_match)
    reason = _checked(reason, "reason")
    if found.state is PlanState.REQUESTED:
        _check_holds(uow, found)
    _check_uninvolved(uow, actor, found)
    state = PlanState.APPROVED if approve else PlanState.REFUSED
    found.move_to(state, at=uow.now())
    found.decided_by, found.reason = actor.user_id, reason
    if approve:
        found.expires_at = uow.now() + timedelta(days=uow.settings.plan_approval_days)
    uow.trail(
        actor,
        TrailEvent.PLAN_APPROVE if approve else TrailEvent.PLAN_REFUSE,
        found.id,
        plan=found.plan_digest,
        account=found.ledger["digest"],
    )
    notifying.notify(
        uow,
        to=[found.requested_by],
        kind=f"plan.{state.value}",
        subject=f"A training plan was {state.value}",
        text=reason,
        link=f"/plans/{found.id}",
    )
    return found


def check_may_decide(uow: UnitOfWork, actor: Actor, found: PlanApproval) -> None:
    """Refuse whoever may not decide about this plan now; changes nothing.

    Raises: PermissionDenied, IllegalTransition, NotFound.
    """
    check_may_approve_plans(actor)
    if found.state is not PlanState.REQUESTED:
        raise IllegalTransition(
            f"Deciding was refused: plan {found.id} is {found.state.value}, not requested.",
            state=found.state.value,
        )
    _check_uninvolved(uow, actor, found)


def withdraw_plan(
    uow: UnitOfWork, actor: Actor, *, plan_id: str, if_match: str | None
) -> PlanApproval:
    """Take a request or an unused approval back.  Raises: IllegalTransition, PreconditionFailed."""
    found = _visible(actor, uow.get(PlanApproval, plan_id, lock=True), asked=plan_id)
    version = uow.get(DatasetVersion, found.version_id)
    permissions.check_may_train(actor, version, asked=found.version_id)
    _check_revision(found, if_match)
    found.move_to(PlanState.WITHDRAWN, at=uow.now())
    uow.trail(actor, TrailEvent.PLAN_WITHDRAW, found.id)
    return found


def get_plan(uow: UnitOfWork, actor: Actor, *, plan_id: str) -> PlanApproval:
    """Return one plan as data owners and auditors of its tenant may see it.  Raises: NotFound."""
    return _visible(actor, uow.get(PlanApproval, plan_id), asked=plan_id)


def list_plans(
    uow: UnitOfWork,
    actor: Actor,
    *,
    state: PlanState | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[PlanApproval]:
    """Return the plans of the actor's tenant, newest first."""
    permissions.check_may_list_jobs(actor)
    statement = sa.select(PlanApproval).where(_plans.c.tenant_id == actor.tenant_id)
    if state is not None:
        statement = statement.where(_plans.c.state == state)
    return fetch_page(uow.session, statement, id_column=_plans.c.id, cursor=cursor, limit=limit)


def use_approval(
    uow: UnitOfWork,
    actor: Actor,
    *,
    version: DatasetVersion,
    planned: Planned,
    canaries: int,
    job_id: str,
) -> None:
    """Use up the approval of a training that is about to be reserved; part of that transaction.

    The caller holds the cohort's row, so the account cannot move between this and the reservation.
    Does nothing where a tenant needs no approvals.  Raises: Conflict without one that holds.
    """
    if not needs_approval(uow, version.tenant_id):
        return
    digest = _digest(plan_document(uow, version, planned, canaries=canaries))
    found = _find(uow, version, digest, (PlanState.APPROVED,))
    if found is None:
        waiting = _find(uow, version, digest, (PlanState.REQUESTED,))
        raise Conflict(
            "The training was refused: its plan waits for an auditor's approval."
            if waiting
            else "The training was refused: this tenant's plans need an auditor's approval before "
            "they spend epsilon, and this one has none. Ask for its approval first; any change of "
            "version, generator, settings, epsilon, delta, tier or samples makes another plan.",
            remedy="request plan approval",
        )
    _check_holds(uow, found)
    found.move_to(PlanState.USED, at=uow.now())
    found.job_id = job_id
    uow.trail(actor, TrailEvent.PLAN_USE, found.id, job=job_id)


def expire_plans(uow: UnitOfWork) -> int:
    """End every plan that waited too long; return how many."""
    statement = sa.select(_plans.c.id).where(
        _plans.c.state.in_(_OPEN), _plans.c.expires_at <= uow.now()
    )
    found = list(uow.session.execute(statement.order_by(_plans.c.id)).scalars())
    uow.commit()
    for plan_id in found:
        late = uow.get(PlanApproval, plan_id, lock=True)
        if late is not None and late.state in _OPEN and _obstacle(uow, late) is not None:
            _end(uow, SYSTEM, late)
        uow.commit()
    return len(found)


def plan_document(
    uow: UnitOfWork, version: DatasetVersion, planned: Planned, *, canaries: int
) -> dict[str, Any]:
    """Return what an auditor reads, and what the approval's digest is of."""
    asked = planned.asked
    return {
        "dataset": planned.dataset.id,
        "purpose_of_dataset": planned.dataset.purpose,
        "version": version.id,
        "manifest": version.manifest_digest,
        "unit": planned.dataset.schema.unit.value,
        "generator": asked.generator,
        "preset": asked.preset,
        "config": planned.config,
        "epsilon": asked.target.epsilon,
        "delta": asked.target.delta,
        "tier": asked.tier,
        "samples": asked.samples,
        "canaries": canaries,
        "mechanisms": mechanisms_to_json(planned.mechanisms),
        "policy": policy_in_force(uow, version.tenant_id).digest,
    }


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def _find(
    uow: UnitOfWork, version: DatasetVersion, digest: str, states: tuple[PlanState, ...]
) -> PlanApproval | None:
    statement = (
        sa.select(PlanApproval)
        .where(
            _plans.c.tenant_id == version.tenant_id,
            _plans.c.version_id == version.id,
            _plans.c.plan_digest == digest,
            _plans.c.state.in_(states),
        )
        .order_by(_plans.c.id.desc())
        .limit(1)
        .with_for_update()
    )
    return uow.session.execute(statement).scalars().first()


def _obstacle(uow: UnitOfWork, found: PlanApproval) -> PlanState | None:
    """Return what a plan must become, because what was read no longer holds."""
    if found.expires_at is not None and found.expires_at <= uow.now():
        return PlanState.EXPIRED
    has_moved = account_position(uow, found.cohort_id) != found.ledger
    policy = policy_in_force(uow, found.tenant_id).digest
    return PlanState.VOID if has_moved or policy != found.plan["policy"] else None


def _end(uow: UnitOfWork, actor: Actor, found: PlanApproval) -> PlanState:
    state = _obstacle(uow, found) or PlanState.VOID
    found.move_to(state, at=uow.now())
    event = TrailEvent.PLAN_EXPIRE if state is PlanState.EXPIRED else TrailEvent.PLAN_VOID
    uow.trail(actor, event, found.id)
    return state


def _check_holds(uow: UnitOfWork, found: PlanApproval) -> None:
    """End a plan that no longer holds; that is committed, the caller's action is refused."""
    if _obstacle(uow, found) is None:
        return
    state = _end(uow, SYSTEM, found)
    uow.commit()
    why = (
        "it expired"
        if state is PlanState.EXPIRED
        else "budget or policy are no longer those that were read"
    )
    raise Conflict(
        f"The action was refused: plan {found.id} is {state.value}, because {why}. Ask for approval "
        "again.",
        state=state.value,
    )


def _check_uninvolved(uow: UnitOfWork, actor: Actor, found: PlanApproval) -> None:
    check_settled(uow, actor, "Deciding about a plan")
    version = uow.get(DatasetVersion, found.version_id)
    dataset = uow.get(Dataset, version.dataset_id) if version is not None else None
    if version is None or dataset is None:
        raise NotFound(f"The data behind plan {found.id} are missing.")
    interest = conflicts.interest_in(
        uow,
        actor.user_id,
        tenant_id=found.tenant_id,
        dataset_id=dataset.id,
        involved={found.requested_by, version.created_by, dataset.created_by},
    )
    if interest is not None:
        raise PermissionDenied(
            "Deciding about this plan was refused: you asked for it or brought the data, work in the "
            "lab of somebody who did, or stepped aside. Another auditor must decide.",
            interest=interest.name.lower(),
        )


def _judges(
    uow: UnitOfWork, found: PlanApproval, dataset: Dataset, version: DatasetVersion
) -> list[str]:
    involved = {found.requested_by, version.created_by, dataset.created_by}
    return [
        user_id
        for user_id in notifying.users_with_role(uow, found.tenant_id, Role.AUDITOR)
        if conflicts.interest_in(
            uow,
            user_id,
            tenant_id=found.tenant_id,
            dataset_id=dataset.id,
            involved=involved,
        )
        is None
    ]


def _visible(actor: Actor, found: PlanApproval | None, *, asked: str) -> PlanApproval:
    if found is None or found.tenant_id != actor.tenant_id:
        raise NotFound(f"No plan {asked!r} was found. Check the identifier.")
    permissions.check_may_list_jobs(actor)
    return found


def _check_revision(found: PlanApproval, if_match: str | None) -> None:
    if if_match is None or if_match.removeprefix("W/") != found.etag:
        raise PreconditionFailed(
            f"The change was refused: revision {found.revision} of the plan is current. Read it "
            "again and send its ETag as If-Match.",
            current=found.etag,
        )


def _checked(text: str, what: str) -> str:
    text = text.strip()
    if not 1 <= len(text) <= _TEXT_LIMIT or "\x00" in text:
        raise InputRefused(
            f"The {what} was refused: give 1 to {_TEXT_LIMIT} characters.",
            value=len(text),
            limit=_TEXT_LIMIT,
        )
    return text
