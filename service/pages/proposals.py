"""A release as its data owner manages it: propose, revise, submit, publish, suspend, revoke."""

from collections.abc import Callable
from typing import Any

from flask import redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response

from service import resources as r
from service.domain import permissions
from service.domain.accounts import User
from service.domain.datasets import Dataset
from service.domain.errors import NotFound
from service.domain.jobs import TERMINAL, Job, JobKind
from service.domain.releases import TRANSITIONS, Release, ReleaseState, Review
from service.operations import jobs, reaudits, releases, renewing
from service.pages.datasets import about
from service.pages.rules import field_errors, reason
from service.pages.session import actor, blueprint
from service.store.unit_of_work import UnitOfWork
from service.web import application

TERMS = (
    "For research and teaching. Make no attempt to find out who any person behind the training data "
    "is. Cite the release and its certificate."
)
_PROPOSABLE = ("PASS-PROVEN", "PASS-EMPIRICAL")
_STATE_WORDS = {
    ReleaseState.DRAFT: "Only you see it. Submit it to have it reviewed.",
    ReleaseState.SUBMITTED: "Two auditors look at it next. Their votes stay hidden until both are in.",
    ReleaseState.UNDER_REVIEW: "One vote is in, hidden until the other is.",
    ReleaseState.RETURNED: "The auditors want something changed. Change it, then submit it again.",
    ReleaseState.APPROVED: "Both auditors approved it. Publishing packages and signs it.",
    ReleaseState.REJECTED: "These samples cannot be proposed again. Another candidate can.",
    ReleaseState.WITHDRAWN: "It was taken back; nothing of it became visible.",
    ReleaseState.PUBLISHED: "Collaborators can ask for it.",
    ReleaseState.SUSPENDED: "Nobody can download it for now; its page says why.",
    ReleaseState.EXPIRED: "Its time is over. Renewing makes a draft of the next version.",
    ReleaseState.REVOKED: "Nobody can download it again; its page stays as a tombstone.",
}


@blueprint.get("/reports/<string:audit_job_id>/propose")
def propose_release(audit_job_id: str) -> str:
    """Show the form in which an audited candidate is proposed."""
    return _proposal_form(audit_job_id, {}, {}, None)


@blueprint.post("/reports/<string:audit_job_id>/propose")
def create_release(audit_job_id: str) -> Response | tuple[str, int]:
    """Make a draft of an audited candidate."""
    with application().uow(read_only=True) as uow:
        dataset_id = jobs.find_audit(uow, actor(), audit_job_id=audit_job_id).dataset_id
    asked = {
        "dataset_id": dataset_id,
        "audit_job_id": audit_job_id,
        "name": request.form.get("name", "").strip(),
        "version": request.form.get("version", "").strip() or "1.0.0",
        "terms": request.form.get("terms", "").strip(),
    }
    try:
        wanted = r.NewRelease.model_validate(asked)
    except ValidationError as error:
        return _proposal_form(audit_job_id, request.form, field_errors(error), None), 422
    made: list[str] = []

    def create() -> None:
        with application().uow() as uow:
            made.append(releases.create_release(uow, actor(), **wanted.model_dump()).id)

    refusal = reason(create)
    if refusal is not None:
        return _proposal_form(audit_job_id, request.form, {}, refusal), 422
    return redirect(url_for("pages.manage_release", release_id=made[0]), code=303)


@blueprint.get("/releases/<string:release_id>/manage")
def manage_release(release_id: str) -> str:
    """Show a release to its owners: whose turn it is, what was said, what may be done, by what rule."""
    with application().uow(read_only=True) as uow:
        release = permissions.check_may_change_release(
            actor(), uow.get(Release, release_id), asked=release_id
        )
        view = releases.get_release(uow, actor(), release_id=release_id)
        dataset = uow.get(Dataset, release.dataset_id)
        audit = uow.get(Job, release.audit_job_id)
        if dataset is None or audit is None:
            raise NotFound(f"The dataset of release {release_id!r} was not found.")
        packaging = uow.get(Job, release.package_job_id) if release.package_job_id else None
        return render_template(
            "proposal.html",
            release=release,
            view=view,
            reviews=[_review_row(uow, review) for review in view.reviews],
            audit=audit,
            packaging=packaging,
            is_live=packaging is not None and packaging.state not in TERMINAL,
            state_sentence=_STATE_WORDS.get(release.state, ""),
            rules=_rules(release, packaging),
            why_not_renew=reason(
                lambda: renewing.check_may_renew(uow, actor(), release_id=release_id)
            ),
            candidates=_candidates(uow, release),
            downloaders=reaudits.list_downloaders(uow, actor(), release_id=release_id),
            reaudits=reaudits.list_reaudits(uow, release),
            **about(uow, dataset, here="releases"),
        )


@blueprint.post("/releases/<string:release_id>/manage/revise")
def revise_release(release_id: str) -> Response:
    """Change the terms or the candidate of a draft or a returned release."""
    with application().uow() as uow:
        releases.revise_release(
            uow,
            actor(),
            release_id=release_id,
            if_match=request.form.get("if_match"),
            audit_job_id=request.form.get("audit_job_id") or None,
            terms=request.form.get("terms", "").strip(),
        )
    return _back(release_id)


@blueprint.post("/releases/<string:release_id>/manage/renew")
def renew_release(release_id: str) -> Response:
    """Draft the next version of a published or expired release, for an approval of its own."""
    with application().uow() as uow:
        made = renewing.renew_release(uow, actor(), release_id=release_id)
    return _back(made.id)


@blueprint.post("/releases/<string:release_id>/manage/<string:action>")
def change_release(release_id: str, action: str) -> Response:
    """Submit, publish, withdraw, suspend, reinstate or revoke a release."""
    if action not in _ACTIONS:
        raise NotFound(f"No action {action[:40]!r} was found.")
    known = {"release_id": release_id, "if_match": request.form.get("if_match")}
    if action in _WITH_REASON:
        known["reason"] = request.form.get("reason", "")
    with application().uow() as uow:
        _ACTIONS[action](uow, actor(), **known)
    return _back(release_id)


_ACTIONS: dict[str, Callable[..., object]] = {
    "submit": releases.submit_release,
    "publish": releases.publish_release,
    "withdraw": releases.withdraw_release,
    "suspend": releases.suspend_release,
    "reinstate": releases.reinstate_release,
    "revoke": releases.revoke_release,
}
_WITH_REASON = frozenset({"withdraw", "suspend", "reinstate", "revoke"})


def _back(release_id: str) -> Response:
    return redirect(url_for("pages.manage_release", release_id=release_id), code=303)


def _rules(release: Release, packaging: Job | None) -> dict[str, str | None]:
    """Return, for each action, the rule that forbids it now, or None where it may be taken."""
    onward, state = TRANSITIONS[release.state], release.state
    now = f"It is {state.value.replace('_', ' ')}."
    changeable = state in {ReleaseState.DRAFT, ReleaseState.RETURNED}
    is_packaging = packaging is not None and packaging.state not in TERMINAL
    publish = None if state is ReleaseState.APPROVED else f"{now} Two auditors must approve first."
    rules = {
        "revise": (changeable, "Only a draft or a returned release changes."),
        "submit": (changeable, "Only a draft or a returned release is submitted."),
        "withdraw": (ReleaseState.WITHDRAWN in onward, "Only what is undecided is withdrawn."),
        "suspend": (ReleaseState.SUSPENDED in onward, "Only a published release is suspended."),
        "reinstate": (state is ReleaseState.SUSPENDED, "Only a suspended release comes back."),
        "revoke": (
            ReleaseState.REVOKED in onward,
            "Only a published or suspended release is revoked.",
        ),
    }
    told = {name: None if may else f"{now} {why}" for name, (may, why) in rules.items()}
    return told | {"publish": "It is being packaged already." if is_packaging else publish}


_KINDS_OF_DECISION = {"approve": "good", "return": "wait", "reject": "bad"}


def _review_row(uow: UnitOfWork, review: Review) -> dict[str, object]:
    auditor = uow.get(User, review.auditor_id)
    return {
        "title": review.decision.value.capitalize(),
        "by": f"{auditor.name if auditor else review.auditor_id}, round {review.round}",
        "at": review.created_at,
        "detail": review.reason,
        "kind": _KINDS_OF_DECISION.get(review.decision.value, ""),
    }


def _candidates(uow: UnitOfWork, release: Release) -> list[tuple[str, str]]:
    """Return the audited candidates that a returned release may be changed to."""
    page = jobs.list_jobs(uow, actor(), dataset_id=release.dataset_id, kind=JobKind.AUDIT, limit=50)
    return [
        (job.id, f"{job.result['verdict']}, audited {job.created_at:%Y-%m-%d %H:%M}")
        for job in page.items
        if "verdict" in job.result
    ]


def _proposal_form(
    audit_job_id: str, given: Any, errors: dict[str, str], refusal: str | None
) -> str:
    permissions.check_may_create_release(actor())
    with application().uow(read_only=True) as uow:
        audit = jobs.find_audit(uow, actor(), audit_job_id=audit_job_id)
        dataset = uow.get(Dataset, audit.dataset_id)
        if dataset is None:
            raise NotFound(f"The dataset of audit {audit_job_id!r} was not found.")
        verdict = str(audit.result.get("verdict", "missing"))
        tier = str(audit.payload.get("tier", ""))
        may_pass = verdict in _PROPOSABLE or (verdict == "INCONCLUSIVE" and tier == "enclave")
        return render_template(
            "proposal_new.html",
            audit=audit,
            given=given,
            errors=errors,
            refusal=refusal,
            terms=TERMS,
            verdict=verdict,
            tier=tier,
            may_pass=may_pass,
            **about(uow, dataset, here="releases"),
        )
