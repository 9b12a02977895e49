"""The audit policy with its versions, and the auditors' queue; JSON in, operation, JSON out."""

from dataclasses import asdict
from typing import Literal

from flask import Response
from pydantic import BaseModel, Field

from privacy.policy import Policy
from privacy.policy_limits import ENTRIES, compare
from service import policy_resources as r
from service.api.answers import ListQuery, RevisionHeader, answer, answer_page, needed_revision
from service.api.auth import actor, make_blueprint
from service.api.problems import documented
from service.domain.policies import PolicyVersion, check_may_read_policies
from service.operations import decisions, policies, review_queue
from service.operations.review_queue import Filters
from service.resources import Identifier
from service.store.unit_of_work import UnitOfWork
from service.web import application

blueprint = make_blueprint("policies", about="Policy: by what candidates are judged.")

_EDITED = documented(412, 428)


class PolicyPath(BaseModel):
    """A version of the policy."""

    policy_id: Identifier


class QueueQuery(BaseModel):
    """Which of what waits; nothing means everything."""

    kind: Literal["", "release", "plan", "policy"] = ""
    tier: str = Field(default="", max_length=20)
    verdict: str = Field(default="", max_length=20)
    mine: bool = Field(default=False, description="only what asks for my vote")


@blueprint.get("/policy", summary="The policy in force", responses={200: r.PolicyInForce})
def get_policy() -> Response:
    """Show what new trainings commit to, with every threshold explained."""
    with application().uow(read_only=True) as uow:
        check_may_read_policies(actor())
        version = policies.version_in_force(uow, actor().tenant_id)
        policy = policies.policy_in_force(uow, actor().tenant_id)
        text = policies.text_in_force(uow, actor().tenant_id)
    return answer(
        r.PolicyInForce(
            id=version.id if version else None,
            version=policy.version,
            digest=policy.digest,
            depth=policy.grid.depth.value,
            toml=text,
            entries=_entries(policy),
        )
    )


@blueprint.get("/policies", summary="List policy versions", responses={200: r.PolicyPage})
def list_policies(query: ListQuery) -> Response:
    """List the versions of my tenant, newest first."""
    with application().uow(read_only=True) as uow:
        page = policies.list_versions(uow, actor(), cursor=query.cursor, limit=query.limit)
    return answer_page(r.PolicyPage, page, _listed)


@blueprint.post("/policies", summary="Propose a policy", responses={201: r.PolicyVersion})
def propose_policy(body: r.NewPolicy) -> Response:
    """Propose the policy in force with other values; two other auditors must approve it."""
    with application().uow() as uow:
        depth = body.depth or policies.policy_in_force(uow, actor().tenant_id).grid.depth.value
        version = policies.propose_version(
            uow, actor(), values=body.values, depth=depth, reason=body.reason
        )
        uow.session.flush()
        return _show(uow, version, status=201)


@blueprint.get(
    "/policies/<string:policy_id>", summary="A policy version", responses={200: r.PolicyVersion}
)
def get_policy_version(path: PolicyPath) -> Response:
    """Show one version: its values, what it changes, who voted."""
    with application().uow(read_only=True) as uow:
        version = policies.get_version(uow, actor(), policy_id=path.policy_id)
        return _show(uow, version)


@blueprint.post(
    "/policies/<string:policy_id>/votes",
    summary="Vote on a policy",
    responses={200: r.PolicyVersion, **_EDITED},
)
def vote_on_policy(path: PolicyPath, body: r.PolicyVoteBody, header: RevisionHeader) -> Response:
    """Approve or reject; the second approval puts the version in force."""
    with application().uow() as uow:
        version = policies.vote_on_version(
            uow,
            actor(),
            policy_id=path.policy_id,
            approves=body.decision == "approve",
            reason=body.reason,
            if_match=needed_revision(header),
        )
        uow.session.flush()
        return _show(uow, version)


@blueprint.post(
    "/policies/<string:policy_id>/withdraw",
    summary="Withdraw a policy",
    responses={200: r.PolicyVersion, **_EDITED},
)
def withdraw_policy(path: PolicyPath, header: RevisionHeader) -> Response:
    """Take a proposal back."""
    with application().uow() as uow:
        version = policies.withdraw_version(
            uow, actor(), policy_id=path.policy_id, if_match=needed_revision(header)
        )
        uow.session.flush()
        return _show(uow, version)


@blueprint.get("/review-queue", summary="What waits", responses={200: r.ReviewQueue})
def list_waiting(query: QueueQuery) -> Response:
    """List what waits for decisions of auditors: what asks for mine first."""
    filters = Filters(query.kind, query.tier, query.verdict, query.mine)
    with application().uow(read_only=True) as uow:
        waiting = review_queue.list_waiting(uow, actor(), filters=filters)
    return answer(r.ReviewQueue(items=[r.Waiting(**asdict(item)) for item in waiting]))


@blueprint.get("/review-decisions", summary="My decisions", responses={200: r.Decisions})
def list_decided() -> Response:
    """List my votes, newest first."""
    with application().uow(read_only=True) as uow:
        decided = decisions.list_decided(uow, actor())
    return answer(r.Decisions(items=[r.Decided(**asdict(one)) for one in decided]))


def _show(uow: UnitOfWork, version: PolicyVersion, *, status: int = 200) -> Response:
    base, votes = policies.base_of(uow, version), policies.votes_on(uow, version)
    policy = policies.read(version.toml)
    view = r.PolicyVersion(
        **_listed(version).model_dump(),
        revision=version.revision,
        base_digest=version.base_digest,
        reason=version.reason,
        changes=None
        if base is None
        else [r.PolicyChange(**asdict(change)) for change in compare(base, policy)],
        votes=[
            r.PolicyVote(
                auditor_id=vote.auditor_id,
                decision="approve" if vote.approves else "reject",
                reason=vote.reason,
                created_at=vote.created_at,
            )
            for vote in votes
        ],
        toml=version.toml,
    )
    return answer(view, status=status, headers={"ETag": version.etag})


def _listed(version: PolicyVersion) -> r.ListedPolicyVersion:
    return r.ListedPolicyVersion(
        id=version.id,
        number=version.number,
        state=version.state.value,
        digest=version.digest,
        author_id=version.author_id,
        created_at=version.created_at,
        decided_at=version.decided_at,
    )


def _entries(policy: Policy) -> list[r.PolicyEntry]:
    return [
        r.PolicyEntry(
            path=entry.path,
            title=entry.title,
            about=entry.about,
            value=entry.read(policy),
            limit=entry.limit,
            higher_is_looser=entry.higher_is_looser,
        )
        for entry in ENTRIES
    ]
