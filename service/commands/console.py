"""What every `kaima` command shares: the profile, printing, progress bars, errors as sentences."""

import functools
import json
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
from service.profile import PinChanged, Profile
from service.resources import Job
from service.transfers import ByteProgress, TransferRefused

EXIT_FAILED = 1
EXIT_REFUSED = 2

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
    except ProblemError as error:
        remedy = error.problem.remedy
        said = str(error)
        sentence = said if remedy is None or remedy in said else f"{said} {remedy}"
        fail(sentence, code=EXIT_REFUSED if error.status < 500 else EXIT_FAILED)
    except (TransferRefused, PrivacyError, DomainError) as error:
        fail(str(error), code=EXIT_REFUSED)
    except JobFailed as error:
        fail(str(error), code=EXIT_REFUSED if error.job.kind == "ingest" else EXIT_FAILED)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        fail(f"The value of {where!r} was refused: {first['msg']}.", code=EXIT_REFUSED)
    except (PinChanged, TimeoutError) as error:
        fail(str(error))
    except httpx.TransportError as error:
        fail(
            f"The service did not answer ({type(error).__name__}). Check KAIMA_URL, and that "
            "`kaima serve` runs."
        )


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} left"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
