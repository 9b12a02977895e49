"""Every table, in one page. Queries use these columns; nothing else in the service writes SQL."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from service.domain.datasets import VersionState
from service.domain.jobs import JobKind, JobState
from service.domain.releases import Decision, Location, ReleaseState

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(sa.types.TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on the way out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse a moment without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone was refused; use UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Put UTC back."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Exact(sa.types.TypeDecorator[Decimal]):
    """A decimal number kept as text: no database may round a budget."""

    impl = sa.String(64)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write the digits."""
        return None if value is None else format(value, "f")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        """Read the digits."""
        return None if value is None else Decimal(value)


def _id() -> sa.String:
    return sa.String(64)


def _word(kind: type[StrEnum]) -> sa.Enum:
    return sa.Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("needs_plan_approval", sa.Boolean, nullable=False, server_default=sa.false()),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("disabled_at", Instant),
    sa.Column("lab", sa.String(200), nullable=False, server_default=""),
    sa.UniqueConstraint("tenant_id", "name"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
)

cohorts = sa.Table(
    "cohorts",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", _id(), nullable=False, index=True),
    sa.Column("budget_epsilon", Exact, nullable=False),
    sa.Column("budget_delta", Exact, nullable=False),
    sa.Column("rule", sa.String(16), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("reference_rate", sa.Float, nullable=False),
)

cohort_persons = sa.Table(
    "cohort_persons",
    metadata,
    sa.Column("tenant_id", _id(), primary_key=True),
    sa.Column("person_digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("cohort_id", sa.ForeignKey("cohorts.id"), nullable=False, index=True),
    sa.Column("withdrawn_at", Instant),
)

# Of every record, whatever the unit: another id or unit does not make other data of it.
cohort_contents = sa.Table(
    "cohort_contents",
    metadata,
    sa.Column("tenant_id", _id(), primary_key=True),
    sa.Column("content_digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("cohort_id", sa.ForeignKey("cohorts.id"), nullable=False, index=True),
)

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("cohort_id", sa.ForeignKey("cohorts.id"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("declared", sa.JSON, nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("tenant_id", "name"),
)

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", _id(), nullable=False, index=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("state", _word(VersionState), nullable=False, index=True),
    sa.Column("raw_key", sa.String(500)),
    sa.Column("raw_bytes", sa.BigInteger, nullable=False),
    sa.Column("raw_erased_at", Instant),
    sa.Column("upload_id", sa.String(500)),
    sa.Column("part_bytes", sa.BigInteger, nullable=False),
    sa.Column("part_count", sa.Integer, nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("manifest_digest", sa.String(64)),
    sa.Column("ingest_report", sa.JSON, nullable=False),
    sa.Column("problem", sa.JSON),
    sa.Column("blobs_erased_at", Instant),
    sa.UniqueConstraint("dataset_id", "number"),
)

# Kept when a version's bytes are erased: what was trained on it still was.
version_persons = sa.Table(
    "version_persons",
    metadata,
    sa.Column("version_id", sa.ForeignKey("dataset_versions.id"), primary_key=True),
    sa.Column("person_digest", sa.LargeBinary(32), primary_key=True, index=True),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("kind", _word(JobKind), nullable=False),
    sa.Column("tenant_id", _id(), nullable=False),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False, index=True),
    sa.Column("requested_by", _id(), nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("version_id", _id(), index=True),
    sa.Column("release_id", _id(), index=True),
    sa.Column("parent_id", _id(), index=True),
    sa.Column("state", _word(JobState), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(128)),
    sa.Column("lease_until", Instant),
    sa.Column("enqueued_at", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("stage", sa.String(200), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("eta_seconds", sa.Float),
    sa.Column("progress", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("problem", sa.JSON),
    sa.Index(None, "tenant_id", "id"),
)

# No foreign key to jobs: replaying the journal into an older database may know a reservation
# whose job row is lost, and the spend must be restored all the same.
reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("job_id", _id(), primary_key=True),
    sa.Column("cohort_id", _id(), nullable=False, index=True),
    sa.Column("mechanisms", sa.JSON, nullable=False),
    sa.Column("charged", sa.JSON, nullable=False),
    sa.Column("epsilon_reserved", Exact, nullable=False),
    sa.Column("epsilon", Exact, nullable=False),
    sa.Column("delta", Exact, nullable=False),
    sa.Column("is_open", sa.Boolean, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", _id(), nullable=False),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False, index=True),
    sa.Column("audit_job_id", sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("author_id", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("state", _word(ReleaseState), nullable=False, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("tier", sa.String(32), nullable=False),
    sa.Column("verdict", sa.String(32), nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("package_job_id", _id()),
    sa.Column("bundle_key", sa.String(500)),
    sa.Column("bundle_sha256", sa.String(64)),
    sa.Column("bundle_bytes", sa.BigInteger, nullable=False),
    sa.Column("certificate", sa.JSON, nullable=False),
    sa.Column("location", _word(Location), nullable=False),
    sa.Column("published_at", Instant),
    sa.Column("tombstone", sa.JSON),
    sa.Column("declared", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("preview_key", sa.String(500)),
    sa.Column("state_since", Instant),
    sa.Column("expires_at", Instant),
    sa.Column("conditions", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("renews_id", _id()),
    sa.UniqueConstraint("tenant_id", "name", "version"),
    sa.Index(None, "tenant_id", "id"),
    sa.Index(None, "tenant_id", "state"),
)

reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("release_id", sa.ForeignKey("releases.id"), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("auditor_id", _id(), primary_key=True),
    sa.Column("decision", _word(Decision), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("conditions", sa.JSON, nullable=False, server_default="{}"),
    sa.Index(None, "auditor_id", "created_at"),
)

acceptances = sa.Table(
    "acceptances",
    metadata,
    sa.Column("release_id", sa.ForeignKey("releases.id"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("terms_digest", sa.String(64), nullable=False),
    sa.Column("accepted_at", Instant, nullable=False),
)

downloads = sa.Table(
    "downloads",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False, index=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("request_id", _id()),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("subject", _id(), nullable=False),
    sa.Column("row", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    # What lists are filtered by, as the row's text has it; `kaima journal verify` compares them.
    sa.Column("event", sa.String(64), nullable=False, server_default=""),
    sa.Column("actor", _id()),
    sa.Column("at", Instant, index=True),
    sa.Index(None, "subject", "seq"),
    sa.Index(None, "subject", "event", "seq"),
    sa.Index(None, "event", "seq"),
    sa.Index(None, "actor", "seq"),
)

journal_head = sa.Table(
    "journal_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("anchored_seq", sa.BigInteger, nullable=False),
    sa.Column("signed_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("signed_at", Instant),
    sa.CheckConstraint("id = 1", name="one_row"),
)

instance = sa.Table(
    "instance",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("master_key_check", sa.String(64), nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("user_id", _id(), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("method", sa.String(8), primary_key=True),
    sa.Column("path", sa.String(500), primary_key=True),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("body", sa.JSON),
)
