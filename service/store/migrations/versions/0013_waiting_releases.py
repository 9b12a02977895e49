"""Index releases by tenant and state: the badge of every auditor's page counts those that wait."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_NAME = "ix_releases_tenant_id_state"


def upgrade() -> None:
    """Create the index."""
    op.create_index(op.f(_NAME), "releases", ["tenant_id", "state"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index(op.f(_NAME), table_name="releases")
