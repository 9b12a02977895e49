"""What the entry point of a job is handed, and the errors that stop a job early."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.domain.jobs import Job
from service.operations import jobs
from service.wiring import Application


class Report(Protocol):
    """Show people how far a job is."""

    def __call__(
        self,
        stage: str,
        step: int = 0,
        total: int = 0,
        *,
        eta_seconds: float | None = None,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Send one message; cheap enough to call at every step."""


@dataclass(frozen=True)
class JobContext:
    """One attempt at one job. `token` fences every write; `scratch` is private and wiped after."""

    application: Application
    job: Job
    token: str
    scratch: Path
    report: Report

    def candidate_key(self, name: str) -> str:
        """Return the object key of a file that this attempt makes.

        The attempt is in the key, so that a worker which wakes up after its lease was given to
        another cannot overwrite what the other one stored.
        """
        return f"candidate/{self.job.id}/{self.job.attempt}/{name}"

    def check_lease(self) -> None:
        """Refuse to go on once another worker owns the job.  Raises: LeaseLost."""
        with self.application.uow() as uow:
            jobs.check_token(uow, self.job.id, token=self.token)


Entry = Callable[[JobContext], dict[str, object]]
"""A task module's `run`: does the work and returns the job's result document."""
