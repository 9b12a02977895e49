"""How people prove who they are: passwords, second factors, sessions, links. No secret in clear."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

FRESH_FACTOR_SECONDS = 15 * 60
"""How long a second factor counts as just given, for what asks for one again."""

PENDING_SECONDS = 15 * 60
"""How long somebody may take between the first and the second step of signing in."""

INVITATION_HOURS = 72
"""How long a link that an operator handed out can be used."""

RECOVERY_CODES = 10


class Method(StrEnum):
    """What somebody signed in with."""

    PASSWORD = "password"  # noqa: S105 - the word, not a password
    OIDC = "oidc"
    API_KEY = "api_key"
    INVITATION = "invitation"


@dataclass(eq=False)
class SignIn:
    """How one user signs in; whoever has no row signs in with API keys only."""

    user_id: str
    sign_in_name: str
    created_at: datetime
    password_hash: str | None = None
    password_changed_at: datetime | None = None
    totp_sealed: bytes | None = None
    totp_added_at: datetime | None = None
    totp_last_step: int = 0

    @property
    def has_totp(self) -> bool:
        """Tell whether an authenticator app is set up and was confirmed with a code."""
        return self.totp_added_at is not None


@dataclass(eq=False)
class Passkey:
    """A WebAuthn credential: the public half of a key that never leaves its device."""

    id: str
    user_id: str
    credential_id: bytes
    public_key: bytes
    sign_count: int
    name: str
    created_at: datetime
    used_at: datetime | None = None


@dataclass(eq=False)
class RecoveryCode:
    """One way back in for whoever lost the second factor; only its hash is kept."""

    id: str
    user_id: str
    digest: str
    used_at: datetime | None = None


@dataclass(eq=False)
class Identity:
    """A user of another sign-in service, linked by an operator: issuer and subject, no e-mail."""

    id: str
    user_id: str
    issuer: str
    subject: str
    created_at: datetime


@dataclass(eq=False)
class Invitation:
    """A link that is good once: to choose a password, or to set up a second factor again."""

    id: str
    user_id: str
    digest: str
    sets_password: bool
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None


class ResetOutcome(StrEnum):
    """What became of a reset of second factors."""

    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class FactorReset:
    """An operator's wish to remove somebody's second factors; it waits before it happens.

    `needs_second`: another operator must confirm it; else it waits until `due_at`. `slot` names the
    user while it waits, so that there is one of each user at most.
    """

    id: str
    user_id: str
    requested_by: str
    requested_at: datetime
    due_at: datetime
    needs_second: bool
    slot: str | None
    outcome: ResetOutcome | None = None
    ended_by: str | None = None
    ended_at: datetime | None = None


@dataclass(eq=False)
class WebSession:
    """One browser that is signed in, or half-way there; the cookie's secret is kept as a hash."""

    id: str
    user_id: str
    digest: str
    method: Method
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    is_pending: bool = False
    key_id: str | None = None
    factor_at: datetime | None = None
    challenge: bytes | None = None
    browser: str = ""
    address: str = ""
    ended_at: datetime | None = None
