"""Notices to persons, messages that carry them outside, and where a tenant wants them sent.

A notice says that something waits, never what was measured: it leaves by e-mail and webhook.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from service.domain.errors import IllegalTransition


class Channel(StrEnum):
    """How a message leaves."""

    EMAIL = "email"
    WEBHOOK = "webhook"


class MessageState(StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


MESSAGE_TRANSITIONS: dict[MessageState, frozenset[MessageState]] = {
    MessageState.WAITING: frozenset({MessageState.SENT, MessageState.DEAD}),
    MessageState.SENT: frozenset(),
    MessageState.DEAD: frozenset({MessageState.WAITING}),
}
"""DEAD -> WAITING: somebody has mended the receiver and asks for another try."""

BACK_OFF = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600)
)
"""How long after each failed try the next one comes; after the last, the message is dead.

Just over two days in all, the schedule that the Standard Webhooks specification suggests.
"""


SUBJECTS = {
    "account": "Your account: links, keys, factors",
    "release": "Releases: submitted, returned, approved, published, taken away",
    "review": "Reviews: requests, assignments, comments",
    "plan": "Training plans that need approval",
    "policy": "Versions of the audit policy",
    "access": "Requests for access, and grants",
    "study": "Reader studies",
    "reminder": "Reminders of what is due soon, or overdue",
}
"""The first words of the kinds of notices, and what each is about."""


@dataclass(eq=False)
class Notification:
    """One notice to one person, shown when they sign in."""

    id: str
    user_id: str
    kind: str
    subject: str
    text: str
    link: str
    created_at: datetime
    read_at: datetime | None = None


@dataclass(eq=False)
class Message:
    """One row of the outbox. `target` is an e-mail address or the id of a webhook endpoint."""

    id: str
    channel: Channel
    target: str
    kind: str
    body: dict[str, Any]
    created_at: datetime
    next_at: datetime
    state: MessageState = MessageState.WAITING
    attempts: int = 0
    problem: str = ""
    ended_at: datetime | None = None

    def move_to(self, state: MessageState) -> None:
        """Change the state; the only writer of `state`."""
        if state not in MESSAGE_TRANSITIONS[self.state]:
            raise IllegalTransition(
                f"Message {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: "
                f"{', '.join(sorted(MESSAGE_TRANSITIONS[self.state])) or 'nothing'}.",
                state=self.state.value,
            )
        self.state = state


@dataclass(eq=False)
class WebhookEndpoint:
    """Where a tenant wants to hear of what concerns its people. No kinds means all of them.

    Its secret follows from the master key and `secret_number`; it is stored nowhere.
    """

    id: str
    tenant_id: str
    url: str
    created_by: str
    created_at: datetime
    kinds: list[str] = field(default_factory=list)
    secret_number: int = 1
    rotated_at: datetime | None = None
    disabled_at: datetime | None = None

    def wants(self, kind: str) -> bool:
        """Tell whether a notice of this kind is sent here."""
        return not self.kinds or kind in self.kinds


@dataclass(eq=False)
class EmailChoice:
    """Where a person's notices go by e-mail, and whether they want them."""

    user_id: str
    address: str
    is_on: bool
    muted: list[str] = field(default_factory=list)
    """Subjects, the first words of kinds, that no e-mail is wanted of."""

    def wants(self, kind: str) -> bool:
        """Tell whether a notice of this kind is sent by e-mail."""
        return self.is_on and kind.partition(".")[0] not in self.muted
