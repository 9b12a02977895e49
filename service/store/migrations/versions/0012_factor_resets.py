"""Hold the resets of second factors that wait, and which notices a person wants no e-mail of."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, add the column."""
    op.add_column(
        "email_choices", sa.Column("muted", sa.JSON(), nullable=False, server_default="[]")
    )
    op.create_table(
        "factor_resets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("needs_second", sa.Boolean(), nullable=False),
        sa.Column("slot", sa.String(64)),
        sa.Column("outcome", sa.String(32)),
        sa.Column("ended_by", sa.String(64)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_factor_resets_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_factor_resets")),
        sa.UniqueConstraint("slot", name=op.f("uq_factor_resets_slot")),
    )
    op.create_index(op.f("ix_factor_resets_user_id"), "factor_resets", ["user_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("factor_resets")
    op.drop_column("email_choices", "muted")
