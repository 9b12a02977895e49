"""Remember the versions of each tenant's audit policy, and who approved them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create two tables."""
    op.create_table(
        "policy_versions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("toml", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("base_digest", sa.String(64), nullable=False),
        sa.Column("author_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_policy_versions_tenant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_versions")),
        sa.UniqueConstraint(
            "tenant_id", "number", name=op.f("uq_policy_versions_tenant_id_number")
        ),
    )
    op.create_index(op.f("ix_policy_versions_tenant_id"), "policy_versions", ["tenant_id"])
    op.create_index(op.f("ix_policy_versions_digest"), "policy_versions", ["digest"])
    op.create_table(
        "policy_votes",
        sa.Column("policy_id", sa.String(64), nullable=False),
        sa.Column("auditor_id", sa.String(64), nullable=False),
        sa.Column("approves", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policy_versions.id"], name=op.f("fk_policy_votes_policy_id")
        ),
        sa.PrimaryKeyConstraint("policy_id", "auditor_id", name=op.f("pk_policy_votes")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("policy_votes")
    op.drop_table("policy_versions")
