"""The JSON of the audit policy, of its versions, and of the auditors' queue."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from service.resources import Body, Page, Prose, Resource

Path = Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z0-9_.]+)+$", max_length=80)]
Value = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e9)]


class NewPolicy(Body):
    """The policy in force with other values; what is not named stays."""

    values: dict[Path, Value] = Field(
        default={}, max_length=60, description="entry, such as tiers.public.auc, to its new value"
    )
    depth: Literal["quick", "full"] | None = Field(
        default=None, description="battery unless asked otherwise"
    )
    reason: Prose


class PolicyVoteBody(Body):
    """What an auditor says of a proposed policy."""

    decision: Literal["approve", "reject"]
    reason: str = Field(default="", max_length=4000)


class PolicyEntry(Resource):
    """One threshold: its value, its fixed limit and what it means."""

    path: str
    title: str
    about: str
    value: float
    limit: float
    higher_is_looser: bool


class PolicyChange(Resource):
    """One difference to the policy that a version was written from."""

    path: str
    title: str
    before: str
    after: str
    effect: Literal["tightens", "loosens"]


class PolicyVote(Resource):
    """One vote; it is not blind."""

    auditor_id: str
    decision: Literal["approve", "reject"]
    reason: str
    created_at: datetime


class PolicyInForce(Resource):
    """What is judged by now. `id` is null while the policy that was shipped is."""

    id: str | None
    version: str
    digest: str
    depth: str
    toml: str
    entries: list[PolicyEntry]


class PolicyVersion(Resource):
    """A version of the policy; `changes` is null where its base is no longer known."""

    id: str
    number: int
    revision: int
    state: str
    digest: str
    base_digest: str
    author_id: str
    reason: str
    created_at: datetime
    decided_at: datetime | None
    changes: list[PolicyChange] | None
    votes: list[PolicyVote]
    toml: str


class ListedPolicyVersion(Resource):
    """A version in a list."""

    id: str
    number: int
    state: str
    digest: str
    author_id: str
    created_at: datetime
    decided_at: datetime | None


class PolicyPage(Page):
    """Versions, newest first."""

    items: list[ListedPolicyVersion]


class Waiting(Resource):
    """Something that auditors have to decide. `standing` says whether your vote is asked for."""

    kind: Literal["release", "plan", "policy"]
    id: str
    title: str
    about: str
    asked_by: str
    asked_at: datetime
    due_at: datetime | None
    round: int
    votes: int
    standing: Literal["yours", "voted", "not_yours"]
    why: str
    tier: str
    verdict: str
    epsilon: float | None


class ReviewQueue(Resource):
    """What waits: what asks for your vote first."""

    items: list[Waiting]


class Decided(Resource):
    """One vote of yours, and what became of the thing."""

    kind: Literal["release", "plan", "policy"]
    id: str
    title: str
    round: int
    decision: str
    reason: str
    at: datetime
    state: str


class Decisions(Resource):
    """Your votes, newest first."""

    items: list[Decided]
