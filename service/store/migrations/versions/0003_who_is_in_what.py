"""Remember every record of a cohort, every person of a version, and a cohort's reference rate.

Versions ingested before have no rows here, so nobody can be withdrawn from them: upload them again.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create two tables, and give each cohort the rate of its oldest dataset."""
    op.create_table(
        "cohort_contents",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("content_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("cohort_id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["cohort_id"], ["cohorts.id"], name=op.f("fk_cohort_contents_cohort_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "content_digest", name=op.f("pk_cohort_contents")),
    )
    op.create_index(op.f("ix_cohort_contents_cohort_id"), "cohort_contents", ["cohort_id"])
    op.create_table(
        "version_persons",
        sa.Column("version_id", sa.String(64), nullable=False),
        sa.Column("person_digest", sa.LargeBinary(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_versions.id"], name=op.f("fk_version_persons_version_id")
        ),
        sa.PrimaryKeyConstraint("version_id", "person_digest", name=op.f("pk_version_persons")),
    )
    op.create_index(op.f("ix_version_persons_person_digest"), "version_persons", ["person_digest"])
    # With a default, SQLite need not make the table again, which the rows that refer to it forbid.
    rate = sa.Column("reference_rate", sa.Float(), nullable=False, server_default="0.2")
    op.add_column("cohorts", rate)
    _fill_rates()


def downgrade() -> None:
    """Drop them."""
    op.drop_column("cohorts", "reference_rate")
    op.drop_table("version_persons")
    op.drop_table("cohort_contents")


def _fill_rates() -> None:
    connection = op.get_bind()
    cohorts = sa.table("cohorts", sa.column("id"), sa.column("reference_rate"))
    datasets = sa.table(
        "datasets", sa.column("cohort_id"), sa.column("declared"), sa.column("created_at")
    )
    for (cohort_id,) in connection.execute(sa.select(cohorts.c.id)).all():
        oldest = sa.select(datasets.c.declared).where(datasets.c.cohort_id == cohort_id)
        declared = connection.execute(oldest.order_by(datasets.c.created_at).limit(1)).scalar()
        whole = json.loads(declared) if isinstance(declared, str) else declared
        rate = _reference_rate(int(whole["declared_count"])) if whole else 0.2
        connection.execute(
            sa.update(cohorts).where(cohorts.c.id == cohort_id).values(reference_rate=rate)
        )


def _reference_rate(declared_count: int) -> float:
    """Return what datasets of this size used until now."""
    return 0.1 if declared_count < 1000 else min(0.2, max(0.1, 500 / declared_count))  # persons
