"""Tables of passwords, second factors, sessions and links."""

import sqlalchemy as sa

from service.domain.sign_in import Method, ResetOutcome
from service.store.tables import Instant, _id, _word, metadata

sign_ins = sa.Table(
    "sign_ins",
    metadata,
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("sign_in_name", sa.String(200), nullable=False, unique=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("password_hash", sa.String(300)),
    sa.Column("password_changed_at", Instant),
    sa.Column("totp_sealed", sa.LargeBinary),
    sa.Column("totp_added_at", Instant),
    sa.Column("totp_last_step", sa.BigInteger, nullable=False),
)

passkeys = sa.Table(
    "passkeys",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("used_at", Instant),
)

recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("used_at", Instant),
)

identities = sa.Table(
    "identities",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("issuer", sa.String(500), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("issuer", "subject"),
)

invitations = sa.Table(
    "invitations",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("sets_password", sa.Boolean, nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("used_at", Instant),
    sa.Column("revoked_at", Instant),
)

factor_resets = sa.Table(
    "factor_resets",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("requested_by", _id(), nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("needs_second", sa.Boolean, nullable=False),
    sa.Column("slot", _id(), unique=True),
    sa.Column("outcome", _word(ResetOutcome)),
    sa.Column("ended_by", _id()),
    sa.Column("ended_at", Instant),
)

web_sessions = sa.Table(
    "web_sessions",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("method", _word(Method), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
    sa.Column("is_pending", sa.Boolean, nullable=False),
    sa.Column("key_id", _id()),
    sa.Column("factor_at", Instant),
    sa.Column("challenge", sa.LargeBinary),
    sa.Column("browser", sa.String(100), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("ended_at", Instant),
)
