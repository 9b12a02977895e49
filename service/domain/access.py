"""Who may have a release: its policy, agreements, requests and grants. No clock, no database.

An approved request *is* the grant. It ends by expiry or by revocation, and stays readable.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.domain.errors import IllegalTransition

LONGEST_GRANT_DAYS = 3650


class AccessMode(StrEnum):
    """Who may download once the terms are accepted."""

    OPEN = "open"
    BY_REQUEST = "by_request"


class RequestState(StrEnum):
    """Where a request for access stands."""

    SUBMITTED = "submitted"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    REVOKED = "revoked"


ON_REQUEST_ONLY = frozenset({"enclave"})
"""Tiers that are given to persons whom somebody has decided on, whatever the data owner chose."""


def ruling_mode(chosen: AccessMode, *, tier: str) -> AccessMode:
    """Return who may download: what was chosen, unless the release's tier is narrower."""
    return AccessMode.BY_REQUEST if tier in ON_REQUEST_ONLY else chosen


def why_not_open(tier: str) -> str | None:
    """Return the sentence why a release of a tier cannot be open to everybody, or None."""
    if tier not in ON_REQUEST_ONLY:
        return None
    return (
        f"Opening this release to every collaborator was refused: its tier is {tier}, which is "
        "given on request only. Choose 'by_request'."
    )


REQUEST_TRANSITIONS: dict[RequestState, frozenset[RequestState]] = {
    RequestState.SUBMITTED: frozenset(
        {RequestState.APPROVED, RequestState.REJECTED, RequestState.WITHDRAWN}
    ),
    RequestState.APPROVED: frozenset({RequestState.EXPIRED, RequestState.REVOKED}),
    RequestState.REJECTED: frozenset(),
    RequestState.WITHDRAWN: frozenset(),
    RequestState.EXPIRED: frozenset(),
    RequestState.REVOKED: frozenset(),
}


@dataclass(eq=False)
class AccessPolicy:
    """What the data owner chose for one release; one without is open where its tier may be."""

    release_id: str
    mode: AccessMode
    fields: list[dict[str, Any]]
    agreement_id: str | None
    grant_days: int
    changed_by: str
    changed_at: datetime
    revision: int = 1


@dataclass(eq=False)
class Agreement:
    """A document that users of a tenant's releases enter into; its text lives in versions."""

    id: str
    tenant_id: str
    name: str
    created_by: str
    created_at: datetime


@dataclass(eq=False)
class AgreementVersion:
    """One immutable text. It rules from `effective_from` until the next one does."""

    agreement_id: str
    number: int
    text: str
    sha256: str
    effective_from: datetime
    created_by: str
    created_at: datetime


@dataclass(eq=False)
class AgreementAcceptance:
    """A user accepted one version, named by the digest of the text that they were shown."""

    agreement_id: str
    number: int
    user_id: str
    sha256: str
    accepted_at: datetime


@dataclass(eq=False)
class AccessRequest:
    """One user asks for one release; once approved, it is that user's grant.

    `slot` is unique in the database: one open request and one grant for a user and release, however
    many people ask and decide at the same time.
    """

    id: str
    release_id: str
    tenant_id: str
    user_id: str
    fields: list[dict[str, Any]]
    answers: dict[str, Any]
    agreement_id: str | None
    agreement_number: int | None
    created_at: datetime
    renews_id: str | None = None
    state: RequestState = RequestState.SUBMITTED
    slot: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""
    expires_at: datetime | None = None
    ended_by: str | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    revision: int = 1
    reminded_at: datetime | None = None

    def __post_init__(self) -> None:
        """Take the slot of an open request."""
        self.slot = self.slot or f"asked:{self.release_id}:{self.user_id}"

    @property
    def etag(self) -> str:
        """Return the revision as it appears in ETag and If-Match, quotes included."""
        return f'"{self.revision}"'

    def move_to(self, state: RequestState) -> None:
        """Change the state; the only writer of `state` and of `slot`."""
        if state not in REQUEST_TRANSITIONS[self.state]:
            onward = ", ".join(sorted(REQUEST_TRANSITIONS[self.state])) or "nothing"
            raise IllegalTransition(
                f"The access request {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: {onward}.",
                state=self.state.value,
            )
        self.state = state
        granted = state is RequestState.APPROVED
        self.slot = f"granted:{self.release_id}:{self.user_id}" if granted else None

    def is_valid(self, now: datetime) -> bool:
        """Tell whether it lets its user download at this moment."""
        return (
            self.state is RequestState.APPROVED
            and self.expires_at is not None
            and self.expires_at > now
        )
