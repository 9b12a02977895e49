"""Tables of the policy's versions and of the votes on them."""

import sqlalchemy as sa

from service.domain.policies import PolicyState
from service.store.tables import Instant, _id, _word, metadata

policy_versions = sa.Table(
    "policy_versions",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("toml", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("base_digest", sa.String(64), nullable=False),
    sa.Column("author_id", _id(), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("state", _word(PolicyState), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("decided_at", Instant),
    sa.UniqueConstraint("tenant_id", "number"),
)

policy_votes = sa.Table(
    "policy_votes",
    metadata,
    sa.Column("policy_id", sa.ForeignKey("policy_versions.id"), primary_key=True),
    sa.Column("auditor_id", _id(), primary_key=True),
    sa.Column("approves", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)
