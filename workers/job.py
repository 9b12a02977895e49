"""The process that does one job: `python -m workers.job JOB_ID`, started by `workers.lifecycle`.

Standard input: one JSON line {"token", "scratch"}, then nothing until end-of-file, which means that
the supervisor is gone, and ends this process at once. Standard output: JSON lines {"progress"},
{"result"} or {"problem"}. Everything that libraries print goes to standard error.

A refusal (an error of the domain or of the trust kernel) carries the sentence that the user reads.
Any other error is logged here and shown as "internal error": its text may hold private values.
"""

import importlib
import json
import math
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from enum import IntEnum
from io import FileIO
from pathlib import Path
from typing import Any, TextIO

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from privacy.errors import PrivacyError
from service.config import Settings
from service.domain.errors import DomainError, JournalBehind, LeaseLost
from service.domain.jobs import Job, JobKind
from service.operations import jobs
from service.wiring import Application, build
from workers.context import Entry, JobContext
from workers.logs import configure_logging, describe_error, logger
from workers.policy_of_job import under_its_policy

PROGRESS_INTERVAL_SECONDS = 0.5
INTAKE_DATA_BYTES = 4 << 30
"""Most private writable memory of the process that parses what strangers upload."""
INTAKE_CPU_SECONDS = 4 * 3600

OUT_OF_MEMORY = (
    "The job needed more memory than its worker may use. Upload smaller images or fewer of them, "
    "choose a smaller batch, or ask the operator for a larger worker."
)

UNAVAILABLE = (
    "The database or the object store did not answer, again and again. An operator finds the "
    "reason in the worker's log; request the job again once it is mended."
)

INTERNAL = (
    "The job ended by an internal error. An operator finds it in the worker's log under the id of "
    "the job; request the job again once it is mended."
)


class Exit(IntEnum):
    """How a job process ends by itself; a signal shows as a negative code."""

    SUCCEEDED = 0
    REFUSED = 1  # a problem for the user to read
    BROKEN = 2  # an internal error
    LEASE_LOST = 3  # somebody else owns the job: nothing may be written
    ORPHANED = 4  # the supervisor is gone
    HELD = 5  # the journal is behind: the job waits for an operator
    UNAVAILABLE = 6  # the database or the object store did not answer: worth another attempt


def entry_for(kind: JobKind) -> Entry:
    """Return the `run` of the module that does this kind of job: `workers.<kind>`."""
    entry: Entry = importlib.import_module(f"workers.{kind.value}").run
    return entry


def outcome_of(error: Exception) -> tuple[Exit, dict[str, Any]]:
    """Return how a job ends by an error, and its problem; only refusals show their text."""
    if isinstance(error, LeaseLost):
        return Exit.LEASE_LOST, {}
    if isinstance(error, DomainError):
        how = Exit.HELD if isinstance(error, JournalBehind) else Exit.REFUSED
        return how, {"type": error.slug, "detail": error.sentence, **error.extensions}
    if isinstance(error, PrivacyError):
        return Exit.REFUSED, {"type": "refused", "detail": str(error)}
    if isinstance(error, MemoryError):
        return Exit.REFUSED, {"type": "out-of-memory", "detail": OUT_OF_MEMORY}
    if isinstance(error, SQLAlchemyError | BotoCoreError | ClientError):
        return Exit.UNAVAILABLE, {"type": "unavailable", "detail": UNAVAILABLE}
    return Exit.BROKEN, {"type": "internal", "detail": INTERNAL}


class Messages:
    """JSON lines to the supervisor; progress is thinned out."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which nothing else writes to."""
        self._stream = stream
        self._lock = threading.Lock()
        self._last_progress = -PROGRESS_INTERVAL_SECONDS
        self._last_stage = ""

    def send(self, kind: str, value: Mapping[str, object]) -> None:
        """Write one message."""
        with self._lock:
            # A refusal may name any value; what JSON does not know is told as text.
            self._stream.write(json.dumps({kind: value}, default=str, allow_nan=False) + "\n")
            self._stream.flush()

    def progress(
        self,
        stage: str,
        step: int = 0,
        total: int = 0,
        *,
        eta_seconds: float | None = None,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Write how far the job is, at most twice a second unless the stage changes."""
        now = time.monotonic()
        is_due = now - self._last_progress >= PROGRESS_INTERVAL_SECONDS
        if not is_due and stage == self._last_stage and step < total:
            return
        self._last_progress, self._last_stage = now, stage
        self.send(
            "progress",
            {
                "stage": stage,
                "step": step,
                "total": total,
                "eta_seconds": eta_seconds,
                "metrics": {
                    # JSON has no infinity, and a diverged loss must not end the run.
                    name: float(value) if math.isfinite(value) else None
                    for name, value in (public_metrics or {}).items()
                },
            },
        )


def limit_resources(kind: JobKind) -> None:
    """Forbid core dumps (they hold private records); bound what parses uploads."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if kind is JobKind.INGEST:
        # Not RLIMIT_AS: images.npy is mapped from disk and may be larger than memory.
        resource.setrlimit(resource.RLIMIT_DATA, (INTAKE_DATA_BYTES, INTAKE_DATA_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (INTAKE_CPU_SECONDS, INTAKE_CPU_SECONDS))


def exit_when_orphaned(stdin: FileIO, scratch: Path) -> None:
    """End this process as soon as the supervisor's end of the pipe closes."""

    def watch() -> None:
        while stdin.read(1):
            continue
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(Exit.ORPHANED)

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()


def perform(context: JobContext, messages: Messages) -> Exit:
    """Run the task module and send its result or its problem."""
    try:
        result = entry_for(context.job.kind)(context)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job must end with a problem
        how, problem = outcome_of(error)
        logger.error("The job ended early", job_id=context.job.id, how=how.name, **_shown(error))
        messages.send("problem", problem)
        return how
    messages.send("result", result)
    return Exit.SUCCEEDED


def _shown(error: Exception) -> dict[str, object]:
    """Return what the log says: a refusal's text is its user's, who may have named files in it."""
    if isinstance(error, DomainError | PrivacyError):
        return {"error": type(error).__name__}
    return describe_error(error)


def take_stdout() -> TextIO:
    """Keep standard output for messages; whatever else is printed goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def load_job(application: Application, job_id: str) -> Job:
    """Return the job that the supervisor claimed."""
    with application.uow(read_only=True) as uow:
        return jobs.load_job(uow, job_id)


def main(arguments: list[str]) -> int:
    """Do the job named on the command line; return the exit code."""
    os.umask(0o077)
    messages = Messages(take_stdout())
    configure_logging()
    # Unbuffered: a thread that waits inside a buffered stream would hold its lock at exit.
    stdin = FileIO(sys.stdin.fileno(), closefd=False)
    order = json.loads(stdin.readline())
    scratch = Path(order["scratch"])
    exit_when_orphaned(stdin, scratch)
    application = build(Settings.from_environment())
    job = load_job(application, arguments[0])
    limit_resources(job.kind)
    context = JobContext(
        application=under_its_policy(application, job),
        job=job,
        token=order["token"],
        scratch=scratch,
        report=messages.progress,
    )
    return int(perform(context, messages))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
