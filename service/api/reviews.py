"""What surrounds a vote, JSON in and out: comments, assignments, delegation, recusals, renewal."""

from flask import Response
from pydantic import BaseModel

from service import resources
from service import review_resources as r
from service.api import views
from service.api.answers import (
    DatasetPath,
    ReleasePath,
    RevisionHeader,
    answer,
    needed_revision,
)
from service.api.auth import actor, make_blueprint
from service.api.problems import documented
from service.domain.reviews import Assignment, Comment
from service.operations import (
    assigning,
    commenting,
    conflicts,
    labs,
    releases,
    renewing,
    reviewing,
)
from service.store.unit_of_work import UnitOfWork
from service.web import application

blueprint = make_blueprint("reviews", about="What surrounds a vote.")

_EDITED = documented(412, 428)


class UserPath(BaseModel):
    """A user."""

    user_id: resources.Identifier


@blueprint.post(
    "/releases/<string:release_id>/begin-review",
    summary="Begin reading",
    responses={200: resources.Release, **_EDITED},
)
def begin_review(path: ReleasePath, header: RevisionHeader) -> Response:
    """Say that an auditor reads the release; it says nothing of any vote."""
    with application().uow() as uow:
        reviewing.begin_review(
            uow, actor(), release_id=path.release_id, if_match=needed_revision(header)
        )
        return _show(uow, path.release_id)


@blueprint.get(
    "/releases/<string:release_id>/comments", summary="Comments", responses={200: r.Comments}
)
def list_comments(path: ReleasePath) -> Response:
    """List the comments that you may see: another auditor's not before both have voted."""
    with application().uow(read_only=True) as uow:
        found = commenting.list_comments(uow, actor(), release_id=path.release_id)
        return answer(r.Comments(items=[_comment(item) for item in found]))


@blueprint.post(
    "/releases/<string:release_id>/comments", summary="Comment", responses={201: r.Comment}
)
def add_comment(path: ReleasePath, body: r.NewComment) -> Response:
    """Say something about a release while it is reviewed; it cannot be changed."""
    with application().uow() as uow:
        made = commenting.add_comment(
            uow,
            actor(),
            release_id=path.release_id,
            text=body.text,
            audience=body.audience,
            reply_to=body.reply_to,
        )
        return answer(_comment(made), status=201)


@blueprint.get(
    "/releases/<string:release_id>/reviewers",
    summary="Who may review it",
    responses={200: r.Candidates},
)
def list_reviewers(path: ReleasePath) -> Response:
    """List the tenant's auditors, each with the rule that forbids them this review, if any."""
    with application().uow(read_only=True) as uow:
        found = conflicts.list_candidates(uow, actor(), release_id=path.release_id)
        return answer(r.Candidates(items=[r.Candidate(**vars(item)) for item in found]))


@blueprint.get(
    "/releases/<string:release_id>/assignments",
    summary="Who is to review it",
    responses={200: r.Assignments},
)
def list_assignments(path: ReleasePath) -> Response:
    """List who was named to review a release."""
    with application().uow(read_only=True) as uow:
        found = assigning.list_assigned(uow, actor(), release_id=path.release_id)
        return answer(
            r.Assignments(
                items=[_assignment(item) for item in found.now],
                before=[_assignment(item) for item in found.before],
            )
        )


@blueprint.put(
    "/releases/<string:release_id>/assignments",
    summary="Name two auditors",
    responses={200: resources.Release, **_EDITED},
)
def assign_auditors(path: ReleasePath, body: r.NewAssignments, header: RevisionHeader) -> Response:
    """Name the two auditors of a release; replacing them while they read begins the round again."""
    with application().uow() as uow:
        assigning.assign_auditors(
            uow,
            actor(),
            release_id=path.release_id,
            auditor_ids=body.auditor_ids,
            if_match=needed_revision(header),
        )
        return _show(uow, path.release_id)


@blueprint.post(
    "/releases/<string:release_id>/delegations",
    summary="Hand on",
    responses={200: resources.Release, **_EDITED},
)
def delegate_review(path: ReleasePath, body: r.NewDelegation, header: RevisionHeader) -> Response:
    """Hand your assignment to another auditor of the tenant."""
    with application().uow() as uow:
        assigning.delegate_review(
            uow,
            actor(),
            release_id=path.release_id,
            to=body.to,
            reason=body.reason,
            if_match=needed_revision(header),
        )
        return _show(uow, path.release_id)


@blueprint.post(
    "/releases/<string:release_id>/renewals",
    summary="Propose the next version",
    responses={201: resources.Release},
)
def renew_release(path: ReleasePath, body: r.NewRenewal) -> Response:
    """Draft the next version of a published or expired release, of the same samples."""
    with application().uow() as uow:
        made = renewing.renew_release(
            uow, actor(), release_id=path.release_id, version=body.version
        )
        return _show(uow, made.id, status=201)


@blueprint.post(
    "/datasets/<string:dataset_id>/recusals", summary="Step aside", responses={201: r.Recusal}
)
def recuse(path: DatasetPath, body: r.NewRecusal) -> Response:
    """Declare that you must not judge what comes from a dataset; it holds for ever."""
    with application().uow() as uow:
        found = assigning.recuse(uow, actor(), dataset_id=path.dataset_id, reason=body.reason)
        view = r.Recusal(
            auditor_id=found.auditor_id,
            dataset_id=found.dataset_id,
            reason=found.reason,
            created_at=found.created_at,
        )
        return answer(view, status=201)


@blueprint.put("/users/<string:user_id>/lab", summary="A user's lab", responses={200: r.Lab})
def change_lab(path: UserPath, body: r.ChangedLab) -> Response:
    """Say in which lab a user works: nobody reviews what their own lab made."""
    with application().uow() as uow:
        user = labs.change_lab(uow, actor(), user_id=path.user_id, lab=body.lab)
        return answer(r.Lab(user_id=user.id, lab=user.lab))


def _show(uow: UnitOfWork, release_id: str, *, status: int = 200) -> Response:
    uow.session.flush()  # the revision, which is the ETag, is counted when the row is written
    found = releases.get_release(uow, actor(), release_id=release_id)
    headers = {"ETag": found.release.etag}
    if status == 201:
        headers["Location"] = f"/v1/releases/{release_id}"
    return answer(views.release(found), status=status, headers=headers)


def _comment(found: Comment) -> r.Comment:
    return r.Comment(
        id=found.id,
        round=found.round,
        author_id=found.author_id,
        audience=found.audience.value,
        text=found.text,
        created_at=found.created_at,
        reply_to=found.reply_to,
    )


def _assignment(found: Assignment) -> r.Assignment:
    return r.Assignment(
        id=found.id,
        auditor_id=found.auditor_id,
        assigned_by=found.assigned_by,
        created_at=found.created_at,
        ended_at=found.ended_at,
        delegated_to=found.delegated_to,
        reason=found.reason,
    )
