"""One release under review: all the evidence on one page, and the vote beside it."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.domain.accounts import Role
from service.domain.errors import DomainError, InputRefused, PermissionDenied
from service.domain.releases import AUDITORS_NEEDED, Decision, Release
from service.domain.review_permissions import check_may_comment
from service.domain.reviews import Conditions
from service.operations import assigning, commenting, conflicts, releases, review_queue
from service.operations.conflicts import Candidate
from service.operations.reminding import release_due_at
from service.operations.review_queue import names_of
from service.pages.evidence import VERDICT_KINDS, load_candidate
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.pages.step_up import require_fresh_factor
from service.store.unit_of_work import UnitOfWork
from service.web import application

DECISIONS = (
    (Decision.APPROVE, "Approve", "It may leave, under the conditions that I set."),
    (Decision.RETURN, "Return", "Its author should change something and submit it again."),
    (Decision.REJECT, "Reject", "These samples must never leave, under whatever name."),
)
_EVENTS = {
    "release:create": ("Drafted", ""),
    "release:revise": ("Revised", ""),
    "release:submit": ("Submitted: its evidence was frozen", "wait"),
    "release:begin_review": ("Reading began", "wait"),
    "release:comment": ("A comment was made", ""),
    "release:assign": ("Its auditors were named", ""),
    "release:delegate": ("The review was handed on", ""),
    "release:review": ("A vote was cast", ""),
    "release:reveal_vote": ("A vote was revealed", ""),
    "release:reset_votes": ("The evidence had changed: every vote is void", "bad"),
    "release:request_publication": ("Publication was asked for", ""),
    "release:publish": ("Published", "good"),
    "release:suspend": ("Suspended", "bad"),
    "release:reinstate": ("Reinstated", "good"),
    "release:revoke": ("Revoked", "bad"),
    "release:withdraw": ("Withdrawn by its author", "bad"),
    "release:audit_again": ("Audited again", ""),
}


@blueprint.get("/review/<string:release_id>")
def review_release(release_id: str) -> str:
    """Show everything that the question "may this leave?" is answered from."""
    return render_review(release_id)


@blueprint.post("/review/<string:release_id>/votes")
def vote_on_release(release_id: str) -> AnyResponse | tuple[str, int]:
    """Cast a vote on the revision that the form shows; a refusal comes back with what was typed."""
    try:
        require_fresh_factor(back=url_for("pages.review_release", release_id=release_id))
        with application().uow() as uow:
            releases.review_release(
                uow,
                actor(),
                release_id=release_id,
                decision=request.form.get("decision", ""),
                reason=request.form.get("reason", ""),
                conditions=_conditions(),
                if_match=request.form.get("if_match", ""),
            )
    except DomainError as refusal:
        if refusal.status == 404:
            raise
        return render_review(release_id, refusal=refusal), refusal.status
    return redirect(url_for("pages.review_release", release_id=release_id, _anchor="vote"), 303)


def render_review(
    release_id: str,
    *,
    refusal: DomainError | None = None,
    what: str = "Your vote was not counted.",
) -> str:
    """Return the page; that the report was read goes into the trail."""
    with application().uow() as uow:
        view = releases.get_release(uow, actor(), release_id=release_id)
        candidate = load_candidate(uow, actor(), audit_job_id=view.release.audit_job_id)
        trail = releases.list_trail(uow, actor(), release_id=release_id, limit=200)
        people = {vote.auditor_id for vote in view.reviews} | {view.release.author_id}
        people |= {row["body"]["actor"] for row in trail}
        people |= {vote.auditor_id for other in view.earlier for vote in other.reviews}
        comments = commenting.list_comments(uow, actor(), release_id=release_id)
        people |= {comment.author_id for comment in comments}
        assigned = assigning.list_assigned(uow, actor(), release_id=release_id)
        people |= {item.auditor_id for item in (*assigned.now, *assigned.before)}
        shown: dict[str, Any] = {
            "names": names_of(uow, people),
            "rules": _rules(uow, view.release),
            "now": uow.now(),
            "due": release_due_at(uow, view.release),
            "no_comment": reason(
                lambda: check_may_comment(actor(), view.release, asked=release_id)
            ),
            "auditors": _auditors(uow, release_id),
        }
    return render_template(
        "review_release.html",
        nav="review",
        view=view,
        release=view.release,
        candidate=candidate,
        needed=AUDITORS_NEEDED,
        kinds=VERDICT_KINDS,
        decisions=DECISIONS,
        story=story(trail, shown["names"]),
        comments=comments,
        assigned=assigned,
        refusal=refusal,
        what=what,
        given=request.form,
        **shown,
    )


def story(trail: Iterable[dict[str, Any]], names: dict[str, str]) -> list[dict[str, str]]:
    """Return the trail of a release as rows of a timeline, newest first."""
    rows = []
    for row in trail:
        body = row["body"]
        title, kind = _EVENTS.get(body["event"], (_spoken(body["event"]), ""))
        details = body["details"]
        said = [f"round {details['round']}"] if details.get("round") else []
        said += [
            str(details[name]) for name in ("decision", "verdict", "reason") if details.get(name)
        ]
        rows.append(
            {
                "title": title,
                "kind": kind,
                "detail": " · ".join(said),
                "by": names.get(body["actor"], body["actor"]),
                "at": f"{row['at'][:16].replace('T', ' ')} UTC",
            }
        )
    return rows[::-1]


def _conditions() -> Conditions:
    """Return what the form says an approval depends on.  Raises: InputRefused for no date."""
    day = request.form.get("expires_on", "").strip()
    try:
        expires_on = date.fromisoformat(day) if day else None
    except ValueError as error:
        raise InputRefused(
            f"The expiry {day[:20]!r} was refused: write a day such as 2030-12-31.", value=day[:20]
        ) from error
    return Conditions(
        text=request.form.get("condition", "").strip(),
        max_tier=request.form.get("max_tier") or None,
        expires_on=expires_on,
    )


def _auditors(uow: UnitOfWork, release_id: str) -> list[Candidate]:
    """Return who could review it, with the rule against each; nothing for whoever may not ask."""
    if not actor().has(Role.AUDITOR):
        return []
    try:
        return conflicts.list_candidates(uow, actor(), release_id=release_id)
    except PermissionDenied:
        return []


def _rules(uow: UnitOfWork, release: Release) -> dict[str, str | None] | None:
    """Return, for each vote, the sentence of the rule that forbids it; None for no auditor."""
    if not actor().has(Role.AUDITOR):
        return None
    return {
        decision.value: review_queue.forbidding_rule(uow, actor(), release, decision)
        for decision in Decision
    }


def _spoken(event: str) -> str:
    subject, _, action = event.partition(":")
    return f"{subject}: {action}".replace("_", " ").capitalize()
