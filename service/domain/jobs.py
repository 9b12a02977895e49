"""Job: what machines do, as a table of states. No clock, no database."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.domain.errors import IllegalTransition


class JobKind(StrEnum):
    """What a worker is asked to do; the Celery task is called `workers.` + kind."""

    INGEST = "ingest"
    TRAIN = "train"
    SAMPLE = "sample"
    AUDIT = "audit"
    REAUDIT = "reaudit"  # a published release, when an attack or the policy has changed
    PACKAGE = "package"
    ESTIMATE = "estimate"  # a dry run on random images: what a training would take
    ERASE = "erase"  # a person is withdrawn: a new version without them
    EDIT = "edit"  # a released set edited to a specification: what was released is all it reads
    STUDY = "study"  # draw and lock the cases of a reader study


AUDITS = frozenset({JobKind.AUDIT, JobKind.REAUDIT})
"""Kinds that look at private records and write a report; each is one more attempt at passing."""

SHOW_RECORDS = AUDITS | {JobKind.STUDY}
"""Kinds that store pictures of records: these go when the version they are of is erased."""


class JobState(StrEnum):
    """Drives logic. What people read is `Job.stage` and `Job.status`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""RUNNING -> QUEUED is the reaper taking an expired lease back."""

TERMINAL = frozenset(state for state, onward in TRANSITIONS.items() if not onward)


@dataclass(eq=False)
class Job:
    """One piece of work. `owner` is the fencing token of the worker that holds the lease."""

    id: str
    kind: JobKind
    tenant_id: str
    dataset_id: str
    requested_by: str
    payload: dict[str, Any]
    created_at: datetime
    version_id: str | None = None
    release_id: str | None = None
    parent_id: str | None = None
    state: JobState = JobState.QUEUED
    attempt: int = 0
    owner: str | None = None
    lease_until: datetime | None = None
    enqueued_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    stage: str = "waiting"
    step: int = 0
    total: int = 0
    eta_seconds: float | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        """Return the word for people: the state, or `cancelling` until a worker has stopped."""
        if self.cancel_requested and self.state not in TERMINAL:
            return "cancelling"
        return self.state.value

    def move_to(self, state: JobState) -> None:
        """Change the state; the only writer of `state`."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(
                f"Job {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: {', '.join(sorted(TRANSITIONS[self.state])) or 'nothing'}."
            )
        self.state = state
