"""Index what long lists are ordered by, so that a page costs a page and not the table."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NEW = {
    "ix_journal_subject_event_seq": ("journal", ["subject", "event", "seq"]),
    "ix_jobs_tenant_id_id": ("jobs", ["tenant_id", "id"]),
    "ix_releases_tenant_id_id": ("releases", ["tenant_id", "id"]),
    "ix_reviews_auditor_id_created_at": ("reviews", ["auditor_id", "created_at"]),
}
_REPLACED = {"ix_jobs_tenant_id": "jobs", "ix_releases_tenant_id": "releases"}


def upgrade() -> None:
    """Create the indexes; those that begin them are superfluous."""
    for name, (table, columns) in _NEW.items():
        op.create_index(op.f(name), table, columns)
    for name, table in _REPLACED.items():
        op.drop_index(op.f(name), table_name=table)


def downgrade() -> None:
    """Drop them, and put the shorter ones back."""
    for name, table in _REPLACED.items():
        op.create_index(op.f(name), table, ["tenant_id"])
    for name, (table, _) in _NEW.items():
        op.drop_index(op.f(name), table_name=table)
