"""Tables of reader studies: plan and state, cases, consents, readers, answers."""

import sqlalchemy as sa

from service.domain.studies import Phase, StudyState
from service.store.tables import Instant, _id, _word, metadata

reader_studies = sa.Table(
    "reader_studies",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False, index=True),
    sa.Column("audit_job_id", sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("created_by", _id(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("state", _word(StudyState), nullable=False),
    sa.Column("plan_digest", sa.String(64)),
    sa.Column("registered_at", Instant),
    sa.Column("job_id", sa.ForeignKey("jobs.id")),
    sa.Column("cases_digest", sa.String(64)),
    sa.Column("opened_at", Instant),
    sa.Column("closed_at", Instant),
    sa.Column("result_digest", sa.String(64)),
    sa.Column("summary", sa.JSON, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
)

study_cases = sa.Table(
    "study_cases",
    metadata,
    sa.Column("study_id", sa.ForeignKey("reader_studies.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("truth", sa.String(16), nullable=False),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("pair", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("key", sa.String(200), nullable=False),
)

study_consents = sa.Table(
    "study_consents",
    metadata,
    sa.Column("study_id", sa.ForeignKey("reader_studies.id"), primary_key=True),
    sa.Column("auditor_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("plan_digest", sa.String(64), nullable=False),
    sa.Column("at", Instant, nullable=False),
)

study_readers = sa.Table(
    "study_readers",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("study_id", sa.ForeignKey("reader_studies.id"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("invited_by", _id(), nullable=False),
    sa.Column("invited_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("link_sha256", sa.String(64), unique=True),
    sa.Column("session_sha256", sa.String(64), unique=True),
    sa.Column("phase", _word(Phase), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("shown_at", Instant),
    sa.Column("joined_at", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("breaks", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.UniqueConstraint("study_id", "name"),
)

study_answers = sa.Table(
    "study_answers",
    metadata,
    sa.Column("reader_id", sa.ForeignKey("study_readers.id"), primary_key=True),
    sa.Column("phase", _word(Phase), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.ForeignKey("reader_studies.id"), nullable=False, index=True),
    sa.Column("case_number", sa.Integer, nullable=False),
    sa.Column("other_number", sa.Integer),
    sa.Column("value", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("at", Instant, nullable=False),
)
