"""Release: the decision to publish one set of samples, as a table of states and their owners."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from privacy.modality import Modality, modality_in
from service.domain.errors import IllegalTransition

AUDITORS_NEEDED = 2


class ReleaseState(StrEnum):
    """Driven by people; see OWNERS for whose turn it is."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    UNDER_REVIEW = "under_review"
    RETURNED = "returned"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    PUBLISHED = "published"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"


TRANSITIONS: dict[ReleaseState, frozenset[ReleaseState]] = {
    ReleaseState.DRAFT: frozenset({ReleaseState.SUBMITTED, ReleaseState.WITHDRAWN}),
    ReleaseState.SUBMITTED: frozenset({ReleaseState.UNDER_REVIEW, ReleaseState.WITHDRAWN}),
    ReleaseState.UNDER_REVIEW: frozenset(
        {
            ReleaseState.APPROVED,
            ReleaseState.RETURNED,
            ReleaseState.REJECTED,
            ReleaseState.WITHDRAWN,
            ReleaseState.SUBMITTED,
        }
    ),
    ReleaseState.RETURNED: frozenset({ReleaseState.SUBMITTED, ReleaseState.WITHDRAWN}),
    ReleaseState.APPROVED: frozenset(
        {ReleaseState.PUBLISHED, ReleaseState.WITHDRAWN, ReleaseState.SUBMITTED}
    ),
    ReleaseState.REJECTED: frozenset(),
    ReleaseState.WITHDRAWN: frozenset(),
    ReleaseState.PUBLISHED: frozenset(
        {ReleaseState.SUSPENDED, ReleaseState.EXPIRED, ReleaseState.REVOKED}
    ),
    ReleaseState.SUSPENDED: frozenset(
        {ReleaseState.PUBLISHED, ReleaseState.EXPIRED, ReleaseState.REVOKED}
    ),
    ReleaseState.EXPIRED: frozenset({ReleaseState.REVOKED}),
    ReleaseState.REVOKED: frozenset(),
}
"""UNDER_REVIEW | APPROVED -> SUBMITTED happens when the evidence changed: votes start again.

What expired never comes back: two auditors approve its next version, under conditions of their own.
"""


class StateOwner(StrEnum):
    """Whose turn it is."""

    AUTHOR = "author"
    REVIEWER = "reviewer"
    NOBODY = "nobody"


OWNERS: dict[ReleaseState, StateOwner] = {
    ReleaseState.DRAFT: StateOwner.AUTHOR,
    ReleaseState.SUBMITTED: StateOwner.REVIEWER,
    ReleaseState.UNDER_REVIEW: StateOwner.REVIEWER,
    ReleaseState.RETURNED: StateOwner.AUTHOR,
    ReleaseState.APPROVED: StateOwner.AUTHOR,
    ReleaseState.REJECTED: StateOwner.NOBODY,
    ReleaseState.WITHDRAWN: StateOwner.NOBODY,
    ReleaseState.PUBLISHED: StateOwner.AUTHOR,
    ReleaseState.SUSPENDED: StateOwner.AUTHOR,
    ReleaseState.EXPIRED: StateOwner.AUTHOR,
    ReleaseState.REVOKED: StateOwner.NOBODY,
}


class Due(StrEnum):
    """What the time is counted by, after which the owner of a state should have acted."""

    REVIEW = "review_due_days"
    AUTHOR = "author_due_days"
    EXPIRY = "expires_at"
    NEVER = "never"


DUE: dict[ReleaseState, Due] = {
    ReleaseState.DRAFT: Due.NEVER,
    ReleaseState.SUBMITTED: Due.REVIEW,
    ReleaseState.UNDER_REVIEW: Due.REVIEW,
    ReleaseState.RETURNED: Due.AUTHOR,
    ReleaseState.APPROVED: Due.AUTHOR,
    ReleaseState.REJECTED: Due.NEVER,
    ReleaseState.WITHDRAWN: Due.NEVER,
    ReleaseState.PUBLISHED: Due.EXPIRY,
    ReleaseState.SUSPENDED: Due.AUTHOR,
    ReleaseState.EXPIRED: Due.NEVER,
    ReleaseState.REVOKED: Due.NEVER,
}
"""REVIEW and AUTHOR name settings in days, counted from when the state was entered; a review is
counted from its submission, whenever somebody begins to read."""

IN_CATALOGUE = frozenset(
    {
        ReleaseState.PUBLISHED,
        ReleaseState.SUSPENDED,
        ReleaseState.EXPIRED,
        ReleaseState.REVOKED,
    }
)
"""What collaborators of the whole instance see: releases, and tombstones of withdrawn ones."""


class Decision(StrEnum):
    """An auditor's vote."""

    APPROVE = "approve"
    RETURN = "return"
    REJECT = "reject"


class Location(StrEnum):
    """Which bucket holds the bundle."""

    NOWHERE = "nowhere"
    RELEASED = "released"
    QUARANTINE = "quarantine"


@dataclass(eq=False)
class Release:
    """One candidate on its way out. `revision` is the ETag; `round` counts submissions."""

    id: str
    tenant_id: str
    dataset_id: str
    audit_job_id: str
    name: str
    version: str
    terms: str
    author_id: str
    created_at: datetime
    state: ReleaseState = ReleaseState.DRAFT
    revision: int = 1
    round: int = 0
    tier: str = ""
    verdict: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    package_job_id: str | None = None
    bundle_key: str | None = None
    bundle_sha256: str | None = None
    bundle_bytes: int = 0
    certificate: dict[str, Any] = field(default_factory=dict)
    location: Location = Location.NOWHERE
    published_at: datetime | None = None
    tombstone: dict[str, Any] | None = None
    declared: dict[str, Any] = field(default_factory=dict)
    """Licence, uses, citation: a `service.domain.declarations.ReleaseDeclaration`, or nothing."""
    preview_key: str | None = None
    """Where in the work bucket the picture of the bundle's gallery lies."""

    state_since: datetime | None = None
    expires_at: datetime | None = None
    """When a published release stops being one, because its approval held until then only."""
    conditions: dict[str, Any] = field(default_factory=dict)
    """What both approvals depend on: `service.domain.reviews.JoinedConditions`, or nothing."""
    renews_id: str | None = None
    """The release whose next version this is, of the same samples."""

    @property
    def etag(self) -> str:
        """Return the revision as it appears in ETag and If-Match, quotes included."""
        return f'"{self.revision}"'

    @property
    def modality(self) -> Modality:
        """Return what kind of records was certified; images before there is a certificate."""
        return modality_in(self.certificate.get("declared", {}))

    @property
    def holds_rows(self) -> bool:
        """Say whether what was certified has rows, with an image each or without."""
        return self.modality != "image"

    @property
    def effective_terms(self) -> str:
        """Return what a collaborator accepts: the terms, and the conditions of the approval."""
        return "\n\n".join([self.terms, *_condition_lines(self.conditions)])

    @property
    def file_name(self) -> str:
        """Return the name under which the bundle is downloaded."""
        return f"{self.name}-{self.version}.zip"

    def move_to(self, state: ReleaseState, *, at: datetime | None = None) -> None:
        """Change the state; the only writer of `state`. `at` starts the time until it is due."""
        if state not in TRANSITIONS[self.state]:
            onward = ", ".join(sorted(TRANSITIONS[self.state])) or "nothing"
            raise IllegalTransition(
                f"Release {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: {onward}.",
                state=self.state.value,
            )
        self.state, self.state_since = state, at or self.state_since


@dataclass(eq=False)
class Review:
    """One auditor's vote in one round."""

    release_id: str
    round: int
    auditor_id: str
    decision: Decision
    reason: str
    created_at: datetime
    conditions: dict[str, Any] = field(default_factory=dict)
    """What the approval depends on: `service.domain.reviews.Conditions`, or nothing."""


@dataclass(eq=False)
class Acceptance:
    """A collaborator accepted the terms whose digest is named."""

    release_id: str
    user_id: str
    terms_digest: str
    accepted_at: datetime


@dataclass(eq=False)
class Download:
    """A presigned URL was handed out; the URL itself is never stored."""

    id: str
    release_id: str
    user_id: str
    created_at: datetime
    expires_at: datetime
    request_id: str | None = None


def due_at(release: Release, *, review_days: int, author_days: int) -> datetime | None:
    """Return when the owner of the release's state should have acted, or None."""
    due = DUE[release.state]
    if due is Due.EXPIRY:
        return release.expires_at
    if due is Due.NEVER or release.state_since is None:
        return None
    return release.state_since + timedelta(days=review_days if due is Due.REVIEW else author_days)


def _condition_lines(conditions: Mapping[str, Any]) -> list[str]:
    lines = [f"- {text}" for text in conditions.get("texts", ())]
    if conditions.get("max_tier"):
        lines.append(f"- Access is given in the {conditions['max_tier']} tier at most.")
    if conditions.get("expires_on"):
        lines.append(f"- This release expires on {conditions['expires_on']} (UTC).")
    return ["Conditions of its approval:\n" + "\n".join(lines)] if lines else []


def outcome(decisions: list[Decision]) -> Decision | None:
    """Return what the votes of one round come to, or None while votes are missing.

    One rejection rejects; otherwise one return returns; approval needs every vote.
    """
    if len(decisions) < AUDITORS_NEEDED:
        return None
    for decisive in (Decision.REJECT, Decision.RETURN):
        if decisive in decisions:
            return decisive
    return Decision.APPROVE
