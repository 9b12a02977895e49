"""The JSON of what surrounds a vote: comments, assignments, renewals, and approvals of plans."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from service.resources import Body, Count, Identifier, NewTraining, Page, Prose, Resource

Said = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00]+$")]


class NewComment(Body):
    """A comment. An auditor's is for auditors or the author; a data owner's for everybody."""

    text: Said
    audience: Literal["auditors", "author"] = "auditors"
    reply_to: Identifier | None = None


class Comment(Resource):
    """Something said during a round; it is never changed."""

    id: str
    round: int
    author_id: str
    audience: str
    text: str
    created_at: datetime
    reply_to: str | None = None


class Comments(Resource):
    """The comments that the actor may see, oldest first."""

    items: list[Comment]


class NewAssignments(Body):
    """The two auditors who are to review a release."""

    auditor_ids: list[Identifier] = Field(min_length=2, max_length=2)


class NewDelegation(Body):
    """To whom one's own assignment goes, and why."""

    to: Identifier
    reason: Prose


class Assignment(Resource):
    """One auditor's assignment; `ended_at` once it was replaced or handed on."""

    id: str
    auditor_id: str
    assigned_by: str
    created_at: datetime
    ended_at: datetime | None = None
    delegated_to: str | None = None
    reason: str = ""


class Assignments(Resource):
    """Who is to review a release, and who was before; no names means any two auditors."""

    items: list[Assignment]
    before: list[Assignment]


class Candidate(Resource):
    """An auditor of the tenant; `refusal` is the rule that forbids them this review."""

    user_id: str
    name: str
    lab: str
    refusal: str | None = None


class Candidates(Resource):
    """Every auditor of the tenant."""

    items: list[Candidate]


class NewRecusal(Body):
    """Why an auditor must not judge what comes from a dataset."""

    reason: Prose


class Recusal(Resource):
    """That an auditor stepped aside, for ever."""

    auditor_id: str
    dataset_id: str
    reason: str
    created_at: datetime


class NewRenewal(Body):
    """The next version of a release; without one, the last number is raised."""

    version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")] | None = None


class ChangedLab(Body):
    """In which lab a user works; an empty one means none."""

    lab: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Lab(Resource):
    """In which lab a user works."""

    user_id: str
    lab: str


class PlanRule(Body):
    """Whether an auditor must approve a tenant's plans before they spend epsilon."""

    required: Annotated[bool, Strict()]


class TenantPlanRule(Resource):
    """Whether a tenant's plans need approval."""

    tenant_id: str
    required: bool


class NewPlanApproval(NewTraining):
    """Exactly the training that is to be approved, and what it is for."""

    version_id: Identifier
    purpose: Prose
    canaries: Count = Field(default=0, ge=0, le=2000)


class PlanDecision(Body):
    """What an auditor decides of a plan, and why."""

    decision: Literal["approve", "refuse"]
    reason: Prose


class PlanApproval(Resource):
    """A plan that waits for an auditor, or what was decided of it."""

    id: str
    version_id: str
    requested_by: str
    purpose: str
    plan: dict[str, Any]
    state: str
    revision: int
    created_at: datetime
    decided_by: str | None = None
    reason: str = ""
    expires_at: datetime | None = None
    job_id: str | None = None


class PlanApprovalPage(Page):
    """Plans, newest first."""

    items: list[PlanApproval]
