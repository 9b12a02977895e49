"""What surrounds a vote: conditions, comments, assignments, recusals. No clock, no database."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Self

TIERS = ("public", "registered", "enclave")
"""From the widest access to the narrowest."""


class Audience(StrEnum):
    """Who may read a comment: an auditor's is for auditors or the author, the author's for all."""

    AUDITORS = "auditors"
    AUTHOR = "author"
    EVERYBODY = "everybody"


@dataclass(frozen=True)
class Conditions:
    """What an approval depends on. `expires_on` is the first day on which it no longer holds."""

    text: str = ""
    max_tier: str | None = None
    expires_on: date | None = None

    def __bool__(self) -> bool:
        """Tell whether there is any condition."""
        return bool(self.text or self.max_tier or self.expires_on)

    def document(self) -> dict[str, Any]:
        """Return the conditions as they are stored; nothing for none."""
        day = self.expires_on
        found = {
            "text": self.text,
            "max_tier": self.max_tier,
            "expires_on": day.isoformat() if day else None,
        }
        return {name: value for name, value in found.items() if value}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Read what `document` returned."""
        day = document.get("expires_on")
        return cls(
            text=document.get("text", ""),
            max_tier=document.get("max_tier"),
            expires_on=date.fromisoformat(day) if day else None,
        )


@dataclass(frozen=True)
class JoinedConditions:
    """What all approvals of a round depend on together: every text, narrowest tier, first day."""

    texts: tuple[str, ...] = ()
    max_tier: str | None = None
    expires_on: date | None = None

    def document(self) -> dict[str, Any]:
        """Return them as they are stored on a release; nothing for none."""
        day = self.expires_on
        found = {
            "texts": list(self.texts),
            "max_tier": self.max_tier,
            "expires_on": day.isoformat() if day else None,
        }
        return {name: value for name, value in found.items() if value}


def join(given: Iterable[Conditions]) -> JoinedConditions:
    """Return what holds when all of them do; equal texts stand once, none names its auditor."""
    given = list(given)
    texts = sorted({item.text.strip() for item in given if item.text.strip()})
    tiers = [item.max_tier for item in given if item.max_tier]
    days = [item.expires_on for item in given if item.expires_on]
    return JoinedConditions(
        texts=tuple(texts),
        max_tier=narrowest(*tiers) if tiers else None,
        expires_on=min(days, default=None),
    )


def narrowest(*tiers: str) -> str:
    """Return the tier that lets the fewest in."""
    return max(tiers, key=TIERS.index)


@dataclass(eq=False)
class Comment:
    """Something said during a round. Never changed, never deleted; the trail holds its digest."""

    id: str
    release_id: str
    round: int
    author_id: str
    audience: Audience
    text: str
    created_at: datetime
    reply_to: str | None = None


@dataclass(eq=False)
class Assignment:
    """One auditor is to review one release; ended when it was handed on or replaced."""

    id: str
    release_id: str
    auditor_id: str
    assigned_by: str
    created_at: datetime
    ended_at: datetime | None = None
    delegated_to: str | None = None
    reason: str = ""


@dataclass(eq=False)
class Recusal:
    """An auditor declared that they must not judge what comes from a dataset."""

    auditor_id: str
    dataset_id: str
    reason: str
    created_at: datetime


@dataclass(eq=False)
class Reminder:
    """That a reminder of a kind was sent about a thing, in the state it entered at `since`."""

    subject_id: str
    since: datetime
    kind: str
    created_at: datetime
