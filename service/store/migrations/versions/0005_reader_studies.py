"""Keep reader studies: plan and state, cases, consents, readers, answers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_OWN = ("study_answers", "study_readers", "study_consents", "study_cases", "reader_studies")


def upgrade() -> None:
    """Create five tables."""
    _create_studies()
    _create_cases()
    _create_readers()


def downgrade() -> None:
    """Drop them."""
    for table in _OWN:
        op.drop_table(table)


def _create_studies() -> None:
    op.create_table(
        "reader_studies",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("audit_job_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("plan_digest", sa.String(64)),
        sa.Column("registered_at", _INSTANT),
        sa.Column("job_id", sa.String(64)),
        sa.Column("cases_digest", sa.String(64)),
        sa.Column("opened_at", _INSTANT),
        sa.Column("closed_at", _INSTANT),
        sa.Column("result_digest", sa.String(64)),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        _refers("reader_studies", "tenant_id", "tenants"),
        _refers("reader_studies", "dataset_id", "datasets"),
        _refers("reader_studies", "audit_job_id", "jobs"),
        _refers("reader_studies", "job_id", "jobs"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reader_studies")),
    )
    for column in ("tenant_id", "dataset_id", "audit_job_id"):
        op.create_index(op.f(f"ix_reader_studies_{column}"), "reader_studies", [column])


def _create_cases() -> None:
    op.create_table(
        "study_cases",
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("truth", sa.String(16), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("pair", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        _refers("study_cases", "study_id", "reader_studies"),
        sa.PrimaryKeyConstraint("study_id", "number", name=op.f("pk_study_cases")),
    )
    op.create_table(
        "study_consents",
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("auditor_id", sa.String(64), nullable=False),
        sa.Column("plan_digest", sa.String(64), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        _refers("study_consents", "study_id", "reader_studies"),
        _refers("study_consents", "auditor_id", "users"),
        sa.PrimaryKeyConstraint("study_id", "auditor_id", name=op.f("pk_study_consents")),
    )


def _create_readers() -> None:
    op.create_table(
        "study_readers",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("invited_by", sa.String(64), nullable=False),
        sa.Column("invited_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.Column("link_sha256", sa.String(64)),
        sa.Column("session_sha256", sa.String(64)),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("shown_at", _INSTANT),
        sa.Column("joined_at", _INSTANT),
        sa.Column("finished_at", _INSTANT),
        sa.Column("breaks", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        _refers("study_readers", "study_id", "reader_studies"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_readers")),
        sa.UniqueConstraint("link_sha256", name=op.f("uq_study_readers_link_sha256")),
        sa.UniqueConstraint("session_sha256", name=op.f("uq_study_readers_session_sha256")),
        sa.UniqueConstraint("study_id", "name", name=op.f("uq_study_readers_study_id_name")),
    )
    op.create_index(op.f("ix_study_readers_study_id"), "study_readers", ["study_id"])
    op.create_table(
        "study_answers",
        sa.Column("reader_id", sa.String(64), nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("case_number", sa.Integer(), nullable=False),
        sa.Column("other_number", sa.Integer()),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        _refers("study_answers", "reader_id", "study_readers"),
        _refers("study_answers", "study_id", "reader_studies"),
        sa.PrimaryKeyConstraint("reader_id", "phase", "position", name=op.f("pk_study_answers")),
    )
    op.create_index(op.f("ix_study_answers_study_id"), "study_answers", ["study_id"])


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=op.f(f"fk_{table}_{column}"))
