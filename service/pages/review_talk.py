"""What surrounds a vote: comments, handing a review on, stepping aside."""

from collections.abc import Callable
from typing import Any

from flask import redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.domain.errors import DomainError
from service.domain.releases import Release
from service.domain.reviews import Comment
from service.operations import assigning, commenting
from service.operations.releases import get_release
from service.pages.review_release import render_review
from service.pages.session import actor, blueprint
from service.store.unit_of_work import UnitOfWork
from service.web import application


@blueprint.post("/review/<string:release_id>/comments")
def comment_on_release(release_id: str) -> AnyResponse | tuple[str, int]:
    """Say something to the other auditors or to the author; a reply goes to whoever asked."""

    def say(uow: UnitOfWork) -> object:
        return commenting.add_comment(
            uow,
            actor(),
            release_id=release_id,
            text=request.form.get("text", ""),
            audience=request.form.get("audience") or "auditors",
            reply_to=request.form.get("reply_to") or None,
        )

    return _attempt(release_id, say, what="Your comment was not added.", back="comments")


@blueprint.post("/review/<string:release_id>/assignments")
def assign_release(release_id: str) -> AnyResponse | tuple[str, int]:
    """Name the two auditors who vote."""

    def name(uow: UnitOfWork) -> Release:
        return assigning.assign_auditors(
            uow,
            actor(),
            release_id=release_id,
            auditor_ids=request.form.getlist("auditor"),
            if_match=request.form.get("if_match", ""),
        )

    return _attempt(release_id, name, what="Nobody was named.", back="who")


@blueprint.post("/review/<string:release_id>/delegation")
def delegate_release(release_id: str) -> AnyResponse | tuple[str, int]:
    """Hand one's own assignment to another auditor."""

    def hand_on(uow: UnitOfWork) -> Release:
        return assigning.delegate_review(
            uow,
            actor(),
            release_id=release_id,
            to=request.form.get("to", ""),
            reason=request.form.get("reason", ""),
            if_match=request.form.get("if_match", ""),
        )

    return _attempt(release_id, hand_on, what="The review was not handed on.", back="who")


@blueprint.post("/review/<string:release_id>/recusal")
def step_aside(release_id: str) -> AnyResponse | tuple[str, int]:
    """Declare that one must not judge what comes from this dataset."""

    def recuse(uow: UnitOfWork) -> object:
        release = get_release(uow, actor(), release_id=release_id).release
        return assigning.recuse(
            uow, actor(), dataset_id=release.dataset_id, reason=request.form.get("reason", "")
        )

    return _attempt(release_id, recuse, what="You did not step aside.", back="who")


def _attempt(
    release_id: str, action: Callable[[UnitOfWork], Any], *, what: str, back: str
) -> AnyResponse | tuple[str, int]:
    """Do it and go back; a refusal comes back with what was typed."""
    try:
        with application().uow() as uow:
            action(uow)
    except DomainError as refusal:
        if refusal.status == 404:
            raise
        return render_review(release_id, refusal=refusal, what=what), refusal.status
    return redirect(url_for("pages.review_release", release_id=release_id, _anchor=back), 303)


@blueprint.app_template_filter("comment_choice")
def comment_choice(comment: Comment) -> tuple[str, str]:
    """Return a comment as a choice of a list: its id and how it begins."""
    return comment.id, f"{comment.text[:60]}…" if len(comment.text) > 60 else comment.text
