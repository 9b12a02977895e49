"""`kaima serve`, `demo`, `journal` and `openapi`: run an instance and look after it."""

# ruff: noqa: PLC0415 - the base install lacks what these commands import, so they import it late

import json
import sys
from pathlib import Path

import click

from service.commands import local
from service.commands.console import EXIT_FAILED


@click.command()
@local.state_option
def serve(state: str) -> None:
    """Run the whole service on this machine, its state in one folder."""
    from service import supervisor

    sys.exit(supervisor.main(Path(state)))


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Run the whole walkthrough, on phantom knees or your own file (see `kaima demo --help`)."""
    from service import demo as walkthrough

    sys.exit(walkthrough.main(list(arguments)))


@click.group()
def journal() -> None:
    """Check the journal, and restore what an older database has lost."""


@journal.command()
@local.state_option
def verify(state: str) -> None:
    """Walk the hash chain and compare it with what object storage holds. Exit 1 on a problem."""
    problems = local.verify_journal(state)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(EXIT_FAILED)
    click.echo("The journal is whole, and the database is not behind it.")


@journal.command()
@local.state_option
def replay(state: str) -> None:
    """Put back the rows that object storage holds and the database lost; re-applies charges."""
    click.echo(local.replay_journal(state))


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Else: print it.")
def openapi(out: Path | None) -> None:
    """Write the OpenAPI 3.1 document of the HTTP API."""
    text = json.dumps(local.openapi_document(), indent=2)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
