"""Keep due dates, conditions, comments, assignments and recusals of reviews; and plan approvals."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns to what there is, and create the tables of the review machine."""
    op.add_column("tenants", _flag("needs_plan_approval"))
    op.add_column("users", sa.Column("lab", sa.String(200), nullable=False, server_default=""))
    op.add_column("releases", sa.Column("state_since", _INSTANT))
    op.add_column("releases", sa.Column("expires_at", _INSTANT))
    op.add_column("releases", _document("conditions"))
    op.add_column("releases", sa.Column("renews_id", sa.String(64)))
    op.add_column("reviews", _document("conditions"))
    op.execute("UPDATE releases SET state_since = COALESCE(published_at, created_at)")
    _create_review_tables()
    _create_plan_approvals()


def downgrade() -> None:
    """Drop them."""
    for table in (
        "plan_approvals",
        "reminders",
        "recusals",
        "review_assignments",
        "review_comments",
    ):
        op.drop_table(table)
    op.drop_column("reviews", "conditions")
    for column in ("renews_id", "conditions", "expires_at", "state_since"):
        op.drop_column("releases", column)
    op.drop_column("users", "lab")
    op.drop_column("tenants", "needs_plan_approval")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _document(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False, server_default="{}")


def _create_review_tables() -> None:
    op.create_table(
        "review_comments",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("release_id", sa.String(64), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("author_id", sa.String(64), nullable=False),
        sa.Column("audience", sa.String(32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("reply_to", sa.String(64)),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_review_comments_release_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_comments")),
    )
    op.create_index(op.f("ix_review_comments_release_id"), "review_comments", ["release_id"])
    op.create_table(
        "review_assignments",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("release_id", sa.String(64), nullable=False),
        sa.Column("auditor_id", sa.String(64), nullable=False),
        sa.Column("assigned_by", sa.String(64), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
        sa.Column("delegated_to", sa.String(64)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_review_assignments_release_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_assignments")),
    )
    for column in ("release_id", "auditor_id"):
        name = op.f(f"ix_review_assignments_{column}")
        op.create_index(name, "review_assignments", [column])
    op.create_table(
        "recusals",
        sa.Column("auditor_id", sa.String(64), nullable=False),
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["auditor_id"], ["users.id"], name=op.f("fk_recusals_auditor_id")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_recusals_dataset_id")
        ),
        sa.PrimaryKeyConstraint("auditor_id", "dataset_id", name=op.f("pk_recusals")),
    )
    op.create_table(
        "reminders",
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "since", "kind", name=op.f("pk_reminders")),
    )


def _create_plan_approvals() -> None:
    op.create_table(
        "plan_approvals",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("version_id", sa.String(64), nullable=False),
        sa.Column("cohort_id", sa.String(64), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("plan_digest", sa.String(64), nullable=False),
        sa.Column("ledger", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("state_since", _INSTANT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expires_at", _INSTANT),
        sa.Column("job_id", sa.String(64)),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_versions.id"], name=op.f("fk_plan_approvals_version_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_approvals")),
    )
    for column in ("tenant_id", "version_id", "state"):
        op.create_index(op.f(f"ix_plan_approvals_{column}"), "plan_approvals", [column])
