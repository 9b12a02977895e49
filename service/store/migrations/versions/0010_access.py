"""Hold what a release declares, who may have it, and what the catalogue is searched by."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of access, add and three columns."""
    op.add_column("releases", sa.Column("declared", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("releases", sa.Column("preview_key", sa.String(500)))
    op.add_column("downloads", sa.Column("request_id", sa.String(64)))
    _create_agreements()
    _create_requests()
    _create_listings()


def downgrade() -> None:
    """Drop them."""
    for table in (
        "listings",
        "access_requests",
        "access_policies",
        "agreement_acceptances",
        "agreement_versions",
        "agreements",
    ):
        op.drop_table(table)
    op.drop_column("downloads", "request_id")
    op.drop_column("releases", "preview_key")
    op.drop_column("releases", "declared")


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _word(name: str, length: int = 64, *, nullable: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.String(length), nullable=nullable)


def _foreign(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [other], name=op.f(f"fk_{table}_{column}"))


def _create_agreements() -> None:
    op.create_table(
        "agreements",
        _word("id"),
        _word("tenant_id"),
        _word("name", 200),
        _word("created_by"),
        _moment("created_at"),
        _foreign("agreements", "tenant_id", "tenants.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agreements")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_agreements_tenant_id_name")),
    )
    op.create_index(op.f("ix_agreements_tenant_id"), "agreements", ["tenant_id"])
    op.create_table(
        "agreement_versions",
        _word("agreement_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        _word("sha256"),
        _moment("effective_from"),
        _word("created_by"),
        _moment("created_at"),
        _foreign("agreement_versions", "agreement_id", "agreements.id"),
        sa.PrimaryKeyConstraint("agreement_id", "number", name=op.f("pk_agreement_versions")),
    )
    op.create_table(
        "agreement_acceptances",
        _word("agreement_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        _word("user_id"),
        _word("sha256"),
        _moment("accepted_at"),
        _foreign("agreement_acceptances", "agreement_id", "agreements.id"),
        _foreign("agreement_acceptances", "user_id", "users.id"),
        sa.PrimaryKeyConstraint(
            "agreement_id", "number", "user_id", name=op.f("pk_agreement_acceptances")
        ),
    )
    op.create_index(op.f("ix_agreement_acceptances_user_id"), "agreement_acceptances", ["user_id"])
    op.create_table(
        "access_policies",
        _word("release_id"),
        _word("mode", 32),
        sa.Column("fields", sa.JSON(), nullable=False),
        _word("agreement_id", nullable=True),
        sa.Column("grant_days", sa.Integer(), nullable=False),
        _word("changed_by"),
        _moment("changed_at"),
        sa.Column("revision", sa.Integer(), nullable=False),
        _foreign("access_policies", "release_id", "releases.id"),
        _foreign("access_policies", "agreement_id", "agreements.id"),
        sa.PrimaryKeyConstraint("release_id", name=op.f("pk_access_policies")),
    )
    op.create_index(op.f("ix_access_policies_agreement_id"), "access_policies", ["agreement_id"])


def _create_requests() -> None:
    op.create_table(
        "access_requests",
        _word("id"),
        _word("release_id"),
        _word("tenant_id"),
        _word("user_id"),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        _word("agreement_id", nullable=True),
        sa.Column("agreement_number", sa.Integer()),
        _moment("created_at"),
        _word("renews_id", nullable=True),
        _word("state", 32),
        _word("slot", 200, nullable=True),
        _word("decided_by", nullable=True),
        _moment("decided_at", nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        _moment("expires_at", nullable=True),
        _word("ended_by", nullable=True),
        _moment("ended_at", nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        _moment("reminded_at", nullable=True),
        _foreign("access_requests", "release_id", "releases.id"),
        _foreign("access_requests", "user_id", "users.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_requests")),
        sa.UniqueConstraint("slot", name=op.f("uq_access_requests_slot")),
    )
    for columns in (["release_id"], ["user_id"], ["tenant_id", "state"], ["state", "expires_at"]):
        op.create_index(op.f(f"ix_access_requests_{'_'.join(columns)}"), "access_requests", columns)


def _create_listings() -> None:
    op.create_table(
        "listings",
        _word("release_id"),
        _word("tenant_id"),
        _word("state", 32),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        _word("name", 100),
        _word("version", 50),
        _word("title", 300),
        _word("tier", 32),
        _word("verdict", 32),
        _word("modality", 16),
        _word("label"),
        _word("licence", 40),
        _word("duo", 600),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("epsilon", sa.Float()),
        _word("unit", 16),
        _moment("listed_at", nullable=True),
        _foreign("listings", "release_id", "releases.id"),
        sa.PrimaryKeyConstraint("release_id", name=op.f("pk_listings")),
    )
    for key in ("listed_at", "name", "epsilon"):
        op.create_index(
            op.f(f"ix_listings_is_public_{key}"), "listings", ["is_public", key, "release_id"]
        )
    op.create_index(op.f("ix_listings_tenant_id_is_public"), "listings", ["tenant_id", "is_public"])
