"""What every `kaima` command shares: the profile, printing, progress bars, errors as sentences."""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click
import httpx
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from privacy.errors import PrivacyError
from service.client import JobFailed, JobProgress, KaimaClient, ProblemError
from service.domain.errors import DomainError
from service.profile import PinChanged, Profile, ProfileRefused
from service.resources import Job
from service.transfers import ByteProgress, TransferRefused

EXIT_FAILED = 1
EXIT_REFUSED = 2

_AWAY = {
    "EndpointConnectionError": "Object storage does not answer.",
    "ConnectTimeoutError": "Object storage does not answer.",
    "ConnectionClosedError": "Object storage does not answer.",
    "ReadTimeoutError": "Object storage does not answer.",
    "OperationalError": "The database does not answer, or holds no instance.",
}
"""By name, because the base install has neither a database nor an object store."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Session:
    """One run of the command."""

    profile: Profile
    as_json: bool = False

    def show(self, resource: BaseModel | Mapping[str, Any], *names: str) -> None:
        """Print a resource: as JSON, or the named fields one a line."""
        document = (
            resource.model_dump(mode="json") if isinstance(resource, BaseModel) else dict(resource)
        )
        if self.as_json:
            click.echo(json.dumps(document, indent=2))
            return
        shown = {name: document.get(name) for name in names} if names else document
        width = max((len(name) for name in shown), default=0)
        for name, value in shown.items():
            if value not in (None, [], {}):
                text = value if isinstance(value, str) else json.dumps(value)
                click.echo(f"{name.replace('_', ' '):<{width}}  {text}")

    def show_table(self, resources: Iterable[BaseModel], *names: str) -> None:
        """Print many resources: as a JSON array, or as a table of the named fields."""
        documents = [resource.model_dump(mode="json") for resource in resources]
        if self.as_json:
            click.echo(json.dumps(documents, indent=2))
            return
        rows = [[name.replace("_", " ") for name in names]]
        rows += [[_cell(document.get(name)) for name in names] for document in documents]
        # Never cut: a shortened id is of no use to the next command.
        widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
        for row in rows if documents else [["none"]]:
            cells = zip(row, widths, strict=False)
            click.echo("  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip())


def with_session(
    function: Callable[Concatenate[Session, P], R],
) -> Callable[P, R]:
    """Hand the command its `Session`."""
    return click.pass_obj(function)


def with_client(
    function: Callable[Concatenate[Session, KaimaClient, P], R],
) -> Callable[P, R]:
    """Hand the command its `Session` and a client that is closed afterwards."""

    @functools.wraps(function)
    def run(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with session.profile.client() as client:
            return function(session, client, *args, **kwargs)

    return click.pass_obj(run)


@contextmanager
def byte_bar(title: str) -> Iterator[ByteProgress]:
    """Show how many bytes are through, how fast, and how long the rest takes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def job_bar() -> Iterator[JobProgress]:
    """Show the stage and step of the job that is waited for, one bar for each job of a chain."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def show(job: Job) -> None:
            if job.id not in tasks:
                tasks[job.id] = progress.add_task("", total=None, left="")
            # A finished job's bar is full, whatever its last report of progress was.
            total = job.total or (1 if job.finished else None)
            done = total if job.state == "succeeded" else job.step
            stage = job.status if job.finished else job.stage
            progress.update(
                tasks[job.id],
                description=f"{job.kind}: {stage}",
                completed=done,
                total=total,
                left=_left(None if job.finished else job.eta_seconds),
            )

        yield show


def fail(sentence: str, *, code: int = EXIT_FAILED) -> NoReturn:
    """Print a sentence to stderr and end with `code`."""
    click.echo(sentence, err=True)
    sys.exit(code)


def run_command(command: click.Command) -> None:
    """Run the command line; every refusal is one sentence on stderr and an exit code.

    Exit codes: 0 done, 1 failed, 2 input refused or wrong usage; `verify` and `audit` add theirs.
    """
    try:
        command.main(prog_name="kaima")
    except Exception as error:
        if os.environ.get("KAIMA_DEBUG"):
            raise
        sentence, code = _meaning(error)
        fail(sentence, code=code)


def _meaning(error: Exception) -> tuple[str, int]:
    """Return an error as a sentence and an exit code."""
    if isinstance(error, ProblemError):
        remedy, said = error.problem.remedy, str(error)
        sentence = said if remedy is None or remedy in said else f"{said} {remedy}"
        return sentence, EXIT_REFUSED if error.status < 500 else EXIT_FAILED
    if isinstance(error, JobFailed):
        return str(error), EXIT_REFUSED if error.job.kind == "ingest" else EXIT_FAILED
    refusal = _refusal(error)
    return (_failure(error), EXIT_FAILED) if refusal is None else (refusal, EXIT_REFUSED)


def _refusal(error: Exception) -> str | None:
    """Return what was wrong with the input, if that is what the error means."""
    if isinstance(error, (TransferRefused, PrivacyError, DomainError, ProfileRefused)):
        return str(error)
    if isinstance(error, ValidationError):
        return validation_sentence(error)
    if isinstance(error, ModuleNotFoundError):
        return (
            f"This command needs {error.name}, which is not installed. Install "
            "kaima[service,worker]."
        )
    if isinstance(error, OSError) and not isinstance(error, (TimeoutError, ConnectionError)):
        what = "A file" if error.filename is None else str(error.filename)
        return f"{what} was refused: {error.strerror or error}."
    return None


def _failure(error: Exception) -> str:
    """Return what did not work."""
    if isinstance(error, (PinChanged, TimeoutError)):
        return str(error)
    if isinstance(error, (httpx.TransportError, httpx.InvalidURL)):
        return (
            f"The service did not answer ({type(error).__name__}). Check KAIMA_URL, and that "
            "`kaima serve` runs."
        )
    for kind in type(error).__mro__:
        if kind.__name__ in _AWAY:
            return f"{_AWAY[kind.__name__]} Check that `kaima serve` runs."
    said = " ".join(str(error).split())[:300]
    return (
        f"The command failed inside ({type(error).__name__}: {said}). Set KAIMA_DEBUG=1 to see "
        "where, and report it."
    )


def validation_sentence(error: ValidationError) -> str:
    """Return which value a model refuses first, and why."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{f'The value of {where!r}' if where else 'The request'} was refused: {reason}."


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} left"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
