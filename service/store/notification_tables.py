"""Tables of notices, of what of them is still to be sent, and of where it is sent to."""

import sqlalchemy as sa

from service.domain.notifications import Channel, MessageState
from service.store.tables import Instant, _id, _word, metadata

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("link", sa.String(500), nullable=False),
    sa.Column("created_at", Instant, nullable=False, index=True),
    sa.Column("read_at", Instant),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("channel", _word(Channel), nullable=False),
    sa.Column("target", sa.String(320), nullable=False, index=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("next_at", Instant, nullable=False),
    sa.Column("state", _word(MessageState), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("problem", sa.String(500), nullable=False),
    sa.Column("ended_at", Instant),
    sa.Index(None, "state", "next_at"),
)

webhook_endpoints = sa.Table(
    "webhook_endpoints",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("url", sa.String(500), nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("kinds", sa.JSON, nullable=False),
    sa.Column("secret_number", sa.Integer, nullable=False),
    sa.Column("rotated_at", Instant),
    sa.Column("disabled_at", Instant),
)

email_choices = sa.Table(
    "email_choices",
    metadata,
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("address", sa.String(320), nullable=False),
    sa.Column("is_on", sa.Boolean, nullable=False),
    sa.Column("muted", sa.JSON, nullable=False, server_default="[]"),
)
