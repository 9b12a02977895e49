"""The policy in force with every threshold explained, its versions, and the way to change it."""

from collections.abc import Mapping

from flask import Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from privacy import policy_limits
from privacy.policy import Policy
from privacy.policy_limits import ENTRIES, Entry
from service.domain import permissions
from service.domain.errors import DomainError, InputRefused
from service.domain.policies import (
    APPROVALS_NEEDED,
    PolicyState,
    check_may_propose_policy,
    check_may_read_policies,
    check_may_withdraw_policy,
)
from service.operations import policies, reaudits
from service.operations.review_queue import names_of
from service.pages.deciding import take_decision
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.web import application

GROUPS = (
    ("Public tier", "tiers.public."),
    ("Registered tier", "tiers.registered."),
    ("Enclave tier", "tiers.enclave."),
    ("Chances of error", "errors."),
    ("The battery", "grid."),
)
"""Entries by what their path begins with, in the order of the page."""


@blueprint.get("/policies")
def list_policies() -> str:
    """Show what is judged by now, and every version before it."""
    with application().uow(read_only=True) as uow:
        check_may_read_policies(actor())
        page = policies.list_versions(uow, actor(), cursor=request.args.get("cursor"))
        return render_template(
            "policies.html",
            nav="policies",
            policy=policies.policy_in_force(uow, actor().tenant_id),
            version=policies.version_in_force(uow, actor().tenant_id),
            versions=page.items,
            next_cursor=page.next_cursor,
            names=names_of(uow, [version.author_id for version in page.items]),
            tiers=list(zip(*(entries for _, entries in grouped()[:3]), strict=True)),
            others=grouped()[3:],
            no_proposal=reason(lambda: check_may_propose_policy(actor())),
            no_reaudit=reason(lambda: permissions.check_may_audit_again(actor())),
            asked_again=request.args.get("queued"),
            left_out=request.args.get("skipped"),
        )


@blueprint.get("/policies/in-force.toml")
def export_policy_in_force() -> Response:
    """Return the file that is judged by now."""
    with application().uow(read_only=True) as uow:
        check_may_read_policies(actor())
        return _file(policies.text_in_force(uow, actor().tenant_id))


@blueprint.post("/policies/re-audits")
def audit_again_under_policy() -> AnyResponse:
    """Audit every published release again under the policy in force; one that fails is suspended."""
    with application().uow() as uow:
        queued, skipped = reaudits.request_reaudits(uow, actor())
    target = url_for("pages.list_policies", queued=len(queued), skipped=len(skipped))
    return redirect(target, code=303)


@blueprint.route("/policies/draft", methods=["GET", "POST"])
def draft_policy() -> AnyResponse | str | tuple[str, int]:
    """Fill in other values, look at what differs, then propose it."""
    refusal: DomainError | None = None
    preview = None
    if request.method == "POST":
        try:
            values, depth = asked_values(request.form), request.form.get("grid.depth", "")
            if "propose" in request.form:
                return _propose(values, depth)
            with application().uow(read_only=True) as uow:
                preview = policies.draft(uow, actor(), values=values, depth=depth)
        except DomainError as error:
            refusal = error
    with application().uow(read_only=True) as uow:
        check_may_propose_policy(actor())
        policy = policies.policy_in_force(uow, actor().tenant_id)
    page = render_template(
        "policy_form.html",
        nav="policies",
        policy=policy,
        groups=grouped(),
        given=request.form,
        preview=preview,
        refusal=refusal,
    )
    return (page, refusal.status) if refusal else page


@blueprint.get("/policies/<string:policy_id>")
def show_policy(policy_id: str) -> str:
    """Show one version: what it changes, why, who voted."""
    return _render_version(policy_id)


@blueprint.get("/policies/<string:policy_id>/policy.toml")
def export_policy(policy_id: str) -> Response:
    """Return the file of one version."""
    with application().uow(read_only=True) as uow:
        version = policies.get_version(uow, actor(), policy_id=policy_id)
    return _file(version.toml)


@blueprint.post("/policies/<string:policy_id>/votes")
def vote_on_policy(policy_id: str) -> AnyResponse | tuple[str, int]:
    """Approve or reject a version, bound to what the form showed."""
    return take_decision(
        page=url_for("pages.show_policy", policy_id=policy_id),
        approve="approve",
        refuse="reject",
        decide=lambda uow, approves: policies.vote_on_version(
            uow,
            actor(),
            policy_id=policy_id,
            approves=approves,
            reason=request.form.get("reason", ""),
            if_match=request.form.get("if_match", ""),
        ),
        render=lambda refusal: _render_version(policy_id, refusal=refusal),
    )


@blueprint.post("/policies/<string:policy_id>/withdrawal")
def withdraw_policy(policy_id: str) -> AnyResponse:
    """Take a proposal back."""
    with application().uow() as uow:
        policies.withdraw_version(
            uow, actor(), policy_id=policy_id, if_match=request.form.get("if_match", "")
        )
    return redirect(url_for("pages.show_policy", policy_id=policy_id), code=303)


def grouped() -> list[tuple[str, list[Entry]]]:
    """Return the entries of a policy under the headings of the page."""
    return [
        (title, [entry for entry in ENTRIES if entry.path.startswith(prefix)])
        for title, prefix in GROUPS
    ]


def asked_values(form: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers of a form by the path of their entry.

    Raises: InputRefused for what is no number.
    """
    values = {}
    for entry in ENTRIES:
        text = form.get(entry.path, "").strip()
        if not text:
            continue
        try:
            values[entry.path] = float(text)
        except ValueError as error:
            raise InputRefused(
                f"{entry.title} was refused: {text[:40]!r} is no number.", value=text[:40]
            ) from error
    return values


def _propose(values: Mapping[str, float], depth: str) -> AnyResponse:
    with application().uow() as uow:
        version = policies.propose_version(
            uow, actor(), values=values, depth=depth, reason=request.form.get("reason", "")
        )
    return redirect(url_for("pages.show_policy", policy_id=version.id), code=303)


def _render_version(policy_id: str, *, refusal: DomainError | None = None) -> str:
    with application().uow(read_only=True) as uow:
        version = policies.get_version(uow, actor(), policy_id=policy_id)
        base = policies.base_of(uow, version)
        votes = policies.votes_on(uow, version)
        shown = {
            "names": names_of(uow, [version.author_id, *(vote.auditor_id for vote in votes)]),
            "no_vote": reason(lambda: policies.check_may_vote(uow, actor(), version)),
            "no_withdrawal": reason(
                lambda: check_may_withdraw_policy(actor(), version, asked=policy_id)
            ),
        }
    policy = policies.read(version.toml)
    return render_template(
        "policy.html",
        nav="policies",
        version=version,
        policy=policy,
        changes=_changes(base, policy),
        votes=votes,
        needed=APPROVALS_NEEDED,
        is_open=version.state is PolicyState.PROPOSED,
        refusal=refusal,
        given=request.form,
        **shown,
    )


def _changes(base: Policy | None, policy: Policy) -> list[policy_limits.Change] | None:
    return None if base is None else policy_limits.compare(base, policy)


def _file(text: str) -> Response:
    answer = Response(text, content_type="application/toml; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="policy.toml"'
    return answer


@blueprint.app_template_filter("after_colon")
def after_colon(title: str) -> str:
    """Return the part of a title behind its tier, beginning with a capital letter."""
    short = title.partition(": ")[2] or title
    return short[:1].upper() + short[1:]
