"""Tables of what surrounds a vote, and of approvals of training plans."""

import sqlalchemy as sa

from service.domain.plan_approvals import PlanState
from service.domain.reviews import Audience
from service.store.tables import Instant, _id, _word, metadata

review_comments = sa.Table(
    "review_comments",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False, index=True),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("author_id", _id(), nullable=False),
    sa.Column("audience", _word(Audience), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("reply_to", _id()),
)

review_assignments = sa.Table(
    "review_assignments",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False, index=True),
    sa.Column("auditor_id", _id(), nullable=False, index=True),
    sa.Column("assigned_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("delegated_to", _id()),
    sa.Column("reason", sa.Text, nullable=False),
)

recusals = sa.Table(
    "recusals",
    metadata,
    sa.Column("auditor_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

# No foreign key: a reminder may be about a release or about a plan's approval.
reminders = sa.Table(
    "reminders",
    metadata,
    sa.Column("subject_id", _id(), primary_key=True),
    sa.Column("since", Instant, primary_key=True),
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("created_at", Instant, nullable=False),
)

plan_approvals = sa.Table(
    "plan_approvals",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", _id(), nullable=False, index=True),
    sa.Column("version_id", sa.ForeignKey("dataset_versions.id"), nullable=False, index=True),
    sa.Column("cohort_id", _id(), nullable=False),
    sa.Column("requested_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("plan_digest", sa.String(64), nullable=False),
    sa.Column("ledger", sa.JSON, nullable=False),
    sa.Column("state", _word(PlanState), nullable=False, index=True),
    sa.Column("state_since", Instant, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("decided_by", _id()),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("job_id", _id()),
)
