"""Settings: one frozen value, read from the environment once. Libraries receive arguments instead.

Every variable is explained in deploy/env.example. Nothing is opened or connected to here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.domain.accounts import Role

MEBIBYTE = 1024 * 1024


class ListOfRoles(str):
    """Roles with commas, or "none": a misspelt role would switch a second factor off unseen."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Refuse a word that is no role.  Raises: ValueError."""
        words = {word.strip() for word in text.split(",")}
        if not words <= {*Role, "none"}:
            raise ValueError(text)
        return super().__new__(cls, text)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the real components are, and the limits that an operator chooses."""

    state: Path = Path(".kaima")
    database_url: str = ""
    redis_url: str = "redis://127.0.0.1:6379/0"
    s3_endpoint_url: str = "http://127.0.0.1:8333"
    s3_public_endpoint_url: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_region: str = "us-east-1"
    s3_bucket_prefix: str = "kaima"
    master_key_file: Path | None = None
    signing_key_file: Path | None = None
    public_url: str = "http://127.0.0.1:8000"
    publisher: str = "Kaima"
    policy_file: Path | None = None
    catalogue_file: Path | None = None
    journal_retention_days: int = 365
    train_queue: str = "cpu"
    quota_datasets: int = 100
    quota_jobs: int = 20
    quota_upload_bytes: int = 200 * 1024 * MEBIBYTE
    max_upload_bytes: int = 50 * 1024 * MEBIBYTE
    part_bytes: int = 16 * MEBIBYTE
    lease_seconds: float = 30.0
    resend_seconds: float = 30.0
    max_attempts: int = 3
    upload_url_seconds: int = 3600
    download_url_seconds: int = 600
    idempotency_seconds: int = 86_400
    upload_expiry_seconds: int = 7 * 86_400
    second_factor_roles: str = "auditor"
    factor_reset_hours: int = 24
    reader_study_tiers: str = ""
    session_seconds: int = 8 * 3600
    session_idle_seconds: int = 3600
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: Path | None = None
    oidc_name: str = "your organisation"

    review_due_days: int = 10
    author_due_days: int = 30
    remind_before_days: int = 3
    plan_approval_days: int = 14
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    smtp_user: str = ""
    smtp_password_file: Path | None = None
    smtp_from: str = ""
    webhook_allowed_hosts: str = ""
    notification_retention_days: int = 180

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read KAIMA_* and the usual component URLs; an unset variable keeps its default.

        Raises: ValueError naming a variable whose value is not of its type.
        """
        given = os.environ if environment is None else environment
        values: dict[str, object] = {}
        for variable, (name, read) in _VARIABLES.items():
            text = given.get(variable, "").strip()
            if not text:
                continue
            try:
                values[name] = read(text)
            except ValueError as error:
                raise ValueError(
                    f"{variable} was refused: {text!r} is not of type {read.__name__}. "
                    "See deploy/env.example."
                ) from error
        return cls(**values)  # type: ignore[arg-type]

    @property
    def effective_database_url(self) -> str:
        """Return the database URL; without one, a SQLite file in the state folder."""
        if not self.database_url:
            return f"sqlite+pysqlite:///{(self.state / 'kaima.sqlite3').resolve()}"
        for scheme in ("postgresql://", "postgres://"):
            if self.database_url.startswith(scheme):
                return "postgresql+psycopg://" + self.database_url.removeprefix(scheme)
        return self.database_url

    @property
    def effective_master_key_file(self) -> Path:
        """Return where the instance's master key lies (mode 0600)."""
        return self.master_key_file or self.state / "master.key"

    @property
    def effective_signing_key_file(self) -> Path:
        """Return where the instance's Ed25519 signing key lies (mode 0600)."""
        return self.signing_key_file or self.state / "signing.key"


_VARIABLES: dict[str, tuple[str, type]] = {
    "KAIMA_STATE": ("state", Path),
    "DATABASE_URL": ("database_url", str),
    "REDIS_URL": ("redis_url", str),
    "S3_ENDPOINT_URL": ("s3_endpoint_url", str),
    "S3_PUBLIC_ENDPOINT_URL": ("s3_public_endpoint_url", str),
    "S3_ACCESS_KEY": ("s3_access_key", str),
    "S3_SECRET_KEY": ("s3_secret_key", str),
    "S3_REGION": ("s3_region", str),
    "S3_BUCKET_PREFIX": ("s3_bucket_prefix", str),
    "KAIMA_MASTER_KEY_FILE": ("master_key_file", Path),
    "KAIMA_SIGNING_KEY_FILE": ("signing_key_file", Path),
    "KAIMA_PUBLIC_URL": ("public_url", str),
    "KAIMA_PUBLISHER": ("publisher", str),
    "KAIMA_POLICY_FILE": ("policy_file", Path),
    "KAIMA_CATALOGUE_FILE": ("catalogue_file", Path),
    "KAIMA_JOURNAL_RETENTION_DAYS": ("journal_retention_days", int),
    "KAIMA_TRAIN_QUEUE": ("train_queue", str),
    "KAIMA_QUOTA_DATASETS": ("quota_datasets", int),
    "KAIMA_QUOTA_JOBS": ("quota_jobs", int),
    "KAIMA_QUOTA_UPLOAD_BYTES": ("quota_upload_bytes", int),
    "KAIMA_MAX_UPLOAD_BYTES": ("max_upload_bytes", int),
    "KAIMA_PART_BYTES": ("part_bytes", int),
    "KAIMA_LEASE_SECONDS": ("lease_seconds", float),
    "KAIMA_RESEND_SECONDS": ("resend_seconds", float),
    "KAIMA_MAX_ATTEMPTS": ("max_attempts", int),
    "KAIMA_UPLOAD_URL_SECONDS": ("upload_url_seconds", int),
    "KAIMA_DOWNLOAD_URL_SECONDS": ("download_url_seconds", int),
    "KAIMA_IDEMPOTENCY_SECONDS": ("idempotency_seconds", int),
    "KAIMA_UPLOAD_EXPIRY_SECONDS": ("upload_expiry_seconds", int),
    "KAIMA_SECOND_FACTOR_ROLES": ("second_factor_roles", ListOfRoles),
    "KAIMA_FACTOR_RESET_HOURS": ("factor_reset_hours", int),
    "KAIMA_READER_STUDY_TIERS": ("reader_study_tiers", str),
    "KAIMA_SESSION_SECONDS": ("session_seconds", int),
    "KAIMA_SESSION_IDLE_SECONDS": ("session_idle_seconds", int),
    "KAIMA_OIDC_ISSUER": ("oidc_issuer", str),
    "KAIMA_OIDC_CLIENT_ID": ("oidc_client_id", str),
    "KAIMA_OIDC_CLIENT_SECRET_FILE": ("oidc_client_secret_file", Path),
    "KAIMA_OIDC_NAME": ("oidc_name", str),
    "KAIMA_REVIEW_DUE_DAYS": ("review_due_days", int),
    "KAIMA_AUTHOR_DUE_DAYS": ("author_due_days", int),
    "KAIMA_REMIND_BEFORE_DAYS": ("remind_before_days", int),
    "KAIMA_PLAN_APPROVAL_DAYS": ("plan_approval_days", int),
    "KAIMA_SMTP_HOST": ("smtp_host", str),
    "KAIMA_SMTP_PORT": ("smtp_port", int),
    "KAIMA_SMTP_SECURITY": ("smtp_security", str),
    "KAIMA_SMTP_USER": ("smtp_user", str),
    "KAIMA_SMTP_PASSWORD_FILE": ("smtp_password_file", Path),
    "KAIMA_SMTP_FROM": ("smtp_from", str),
    "KAIMA_WEBHOOK_ALLOWED_HOSTS": ("webhook_allowed_hosts", str),
    "KAIMA_NOTIFICATION_RETENTION_DAYS": ("notification_retention_days", int),
}
