"""Say something about a release while it is reviewed. A comment is never changed or deleted.

Among auditors it stays private until both have voted; shared with the author it reaches the data
owners at once, and the other auditor only then as well. The author's answer goes back to whoever
asked. The trail holds each comment's digest.
"""

import hashlib

from service.domain.accounts import Actor, Role
from service.domain.errors import InputRefused, NotFound, PermissionDenied
from service.domain.identifiers import new_id
from service.domain.releases import Release
from service.domain.review_permissions import check_may_comment, check_may_read_comments
from service.domain.reviews import Audience, Comment
from service.domain.trail import TrailEvent
from service.operations import conflicts, notifying, review_notices
from service.operations.assignments import check_assigned
from service.operations.blinding import visible_comments
from service.store.unit_of_work import UnitOfWork

_TEXT_LIMIT = 10_000


def add_comment(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    text: str,
    audience: Audience | str = Audience.AUDITORS,
    reply_to: str | None = None,
) -> Comment:
    """Add a comment to the current round.

    A data owner's is for everybody; one that replies reaches the auditor who asked, and the other
    once both have voted.  Raises: NotFound, PermissionDenied for an auditor who must not judge it,
    IllegalTransition, InputRefused.
    """
    release = check_may_comment(actor, uow.get(Release, release_id, lock=True), asked=release_id)
    text = _checked(text)
    audience = _audience(uow, actor, release, audience)
    shown = {comment.id: comment for comment in visible_comments(uow, actor, release)}
    if reply_to is not None and reply_to not in shown:
        raise NotFound(f"No comment {reply_to!r} was found. Check the identifier.")
    comment = Comment(
        new_id("cmt"),
        release.id,
        release.round,
        actor.user_id,
        audience,
        text,
        uow.now(),
        reply_to,
    )
    uow.session.add(comment)
    uow.trail(
        actor,
        TrailEvent.RELEASE_COMMENT,
        release.id,
        comment=comment.id,
        round=release.round,
        audience=audience.value,
        text=hashlib.sha256(text.encode()).hexdigest(),
    )
    _tell(uow, actor, release, comment, answered=shown.get(reply_to or ""))
    return comment


def list_comments(uow: UnitOfWork, actor: Actor, *, release_id: str) -> list[Comment]:
    """Return the comments that the actor may see, oldest first; there are no counts of others.

    Raises: NotFound, PermissionDenied unless the actor is a data owner or auditor of the tenant.
    """
    release = check_may_read_comments(actor, uow.get(Release, release_id), asked=release_id)
    return visible_comments(uow, actor, release)


def _audience(uow: UnitOfWork, actor: Actor, release: Release, asked: Audience | str) -> Audience:
    """Return whom a comment is for. Whoever made a part of the release speaks as its author."""
    if actor.has(Role.AUDITOR):
        interest = conflicts.interest_of(uow, actor.user_id, release)
        if interest is None:
            check_assigned(uow, actor, release)
            return _auditors_choice(asked)
        if not actor.has(Role.DATA_OWNER):
            conflicts.check_uninvolved(uow, actor, release)
    if not actor.has(Role.DATA_OWNER):
        raise PermissionDenied(
            "The comment was refused: only a data owner or an auditor of the tenant may comment."
        )
    return Audience.EVERYBODY


def _auditors_choice(asked: Audience | str) -> Audience:
    if asked not in {Audience.AUDITORS, Audience.AUTHOR}:
        raise InputRefused(
            f"The audience {str(asked)[:40]!r} was refused. An auditor's comment is for: auditors, "
            "author.",
            value=str(asked)[:40],
        )
    return Audience(asked)


def _tell(
    uow: UnitOfWork, actor: Actor, release: Release, comment: Comment, *, answered: Comment | None
) -> None:
    """Tell the side that may read it now; a comment among auditors is told to nobody."""
    if comment.audience is Audience.AUDITORS:
        return
    if comment.audience is Audience.AUTHOR:
        to = review_notices.owners(uow, release)
    elif answered is not None:
        to = [answered.author_id]
    else:
        to = review_notices.reviewers(uow, release)
    notifying.notify(
        uow,
        to=[user_id for user_id in to if user_id != actor.user_id],
        kind="review.comment",
        subject=f"A comment on {release.name} {release.version}",
        text="Somebody wrote to you about this release.",
        link=f"/releases/{release.id}",
    )


def _checked(text: str) -> str:
    text = text.strip()
    if not 1 <= len(text) <= _TEXT_LIMIT or "\x00" in text:
        raise InputRefused(
            f"The comment was refused: it has {len(text)} characters; give 1 to {_TEXT_LIMIT}.",
            value=len(text),
            limit=_TEXT_LIMIT,
        )
    return text
