"""Approval of a training plan before it spends epsilon, as a table of states and owners.

Epsilon is spent by training, not by publishing; where a tenant asks for it, an auditor reads the
plan while nothing has been spent. An approval is of exactly one plan at one position of the budget's
account, for a while, and is used up by the training that it allows.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.domain.errors import IllegalTransition


class PlanState(StrEnum):
    """Where an approval stands."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    VOID = "void"
    USED = "used"


TRANSITIONS: dict[PlanState, frozenset[PlanState]] = {
    PlanState.REQUESTED: frozenset(
        {
            PlanState.APPROVED,
            PlanState.REFUSED,
            PlanState.WITHDRAWN,
            PlanState.EXPIRED,
            PlanState.VOID,
        }
    ),
    PlanState.APPROVED: frozenset(
        {PlanState.USED, PlanState.WITHDRAWN, PlanState.EXPIRED, PlanState.VOID}
    ),
    PlanState.REFUSED: frozenset(),
    PlanState.WITHDRAWN: frozenset(),
    PlanState.EXPIRED: frozenset(),
    PlanState.VOID: frozenset(),
    PlanState.USED: frozenset(),
}
"""VOID: budget or policy are no longer those that were read. EXPIRED: it waited for too long."""


class PlanOwner(StrEnum):
    """Whose turn it is."""

    DATA_OWNER = "data_owner"
    AUDITOR = "auditor"
    NOBODY = "nobody"


OWNERS: dict[PlanState, PlanOwner] = {
    PlanState.REQUESTED: PlanOwner.AUDITOR,
    PlanState.APPROVED: PlanOwner.DATA_OWNER,
    PlanState.REFUSED: PlanOwner.NOBODY,
    PlanState.WITHDRAWN: PlanOwner.NOBODY,
    PlanState.EXPIRED: PlanOwner.NOBODY,
    PlanState.VOID: PlanOwner.NOBODY,
    PlanState.USED: PlanOwner.NOBODY,
}


@dataclass(eq=False)
class PlanApproval:
    """One plan that waits for an auditor, or was decided. `plan` is what was read."""

    id: str
    tenant_id: str
    version_id: str
    cohort_id: str
    requested_by: str
    created_at: datetime
    purpose: str
    plan: dict[str, Any]
    plan_digest: str
    ledger: dict[str, Any]
    state_since: datetime
    state: PlanState = PlanState.REQUESTED
    revision: int = 1
    decided_by: str | None = None
    reason: str = ""
    expires_at: datetime | None = None
    job_id: str | None = None

    @property
    def etag(self) -> str:
        """Return the revision as it appears in ETag and If-Match, quotes included."""
        return f'"{self.revision}"'

    def move_to(self, state: PlanState, *, at: datetime) -> None:
        """Change the state; the only writer of `state`."""
        if state not in TRANSITIONS[self.state]:
            onward = ", ".join(sorted(TRANSITIONS[self.state])) or "nothing"
            raise IllegalTransition(
                f"Plan approval {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: {onward}.",
                state=self.state.value,
            )
        self.state, self.state_since = state, at
