"""Tables of access: policies, agreements, requests; and the catalogue's narrow rows."""

import sqlalchemy as sa

from service.domain.access import AccessMode, RequestState
from service.store.tables import Instant, _id, _word, metadata

access_policies = sa.Table(
    "access_policies",
    metadata,
    sa.Column("release_id", sa.ForeignKey("releases.id"), primary_key=True),
    sa.Column("mode", _word(AccessMode), nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("agreement_id", sa.ForeignKey("agreements.id"), index=True),
    sa.Column("grant_days", sa.Integer, nullable=False),
    sa.Column("changed_by", _id(), nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
)

agreements = sa.Table(
    "agreements",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("tenant_id", "name"),
)

agreement_versions = sa.Table(
    "agreement_versions",
    metadata,
    sa.Column("agreement_id", sa.ForeignKey("agreements.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("effective_from", Instant, nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

agreement_acceptances = sa.Table(
    "agreement_acceptances",
    metadata,
    sa.Column("agreement_id", sa.ForeignKey("agreements.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True, index=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("accepted_at", Instant, nullable=False),
)

access_requests = sa.Table(
    "access_requests",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False, index=True),
    sa.Column("tenant_id", _id(), nullable=False),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("answers", sa.JSON, nullable=False),
    sa.Column("agreement_id", _id()),
    sa.Column("agreement_number", sa.Integer),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("renews_id", _id()),
    sa.Column("state", _word(RequestState), nullable=False),
    sa.Column("slot", sa.String(200), unique=True),
    sa.Column("decided_by", _id()),
    sa.Column("decided_at", Instant),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("ended_by", _id()),
    sa.Column("ended_at", Instant),
    sa.Column("end_reason", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("reminded_at", Instant),
    sa.Index("ix_access_requests_tenant_id_state", "tenant_id", "state"),
    sa.Index("ix_access_requests_state_expires_at", "state", "expires_at"),
)

listings = sa.Table(
    "listings",
    metadata,
    sa.Column("release_id", sa.ForeignKey("releases.id"), primary_key=True),
    sa.Column("tenant_id", _id(), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("title", sa.String(300), nullable=False),
    sa.Column("tier", sa.String(32), nullable=False),
    sa.Column("verdict", sa.String(32), nullable=False),
    sa.Column("modality", sa.String(16), nullable=False),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("licence", sa.String(40), nullable=False),
    sa.Column("duo", sa.String(600), nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("epsilon", sa.Float),
    sa.Column("unit", sa.String(16), nullable=False),
    sa.Column("listed_at", Instant),
    # Each order of the catalogue is a walk along one of these.
    sa.Index("ix_listings_is_public_listed_at", "is_public", "listed_at", "release_id"),
    sa.Index("ix_listings_is_public_name", "is_public", "name", "release_id"),
    sa.Index("ix_listings_is_public_epsilon", "is_public", "epsilon", "release_id"),
    sa.Index("ix_listings_tenant_id_is_public", "tenant_id", "is_public"),
)
