"""`kaima serve`, `demo` and `openapi`: run an instance and describe it."""

# ruff: noqa: PLC0415 - the base install lacks what these commands import, so they import it late

import json
import sys
from pathlib import Path

import click

from service.commands import local


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


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Else: print it.")
def openapi(out: Path | None) -> None:
    """Write the OpenAPI 3.1 document of the HTTP API."""
    text = json.dumps(local.openapi_document(), indent=2)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
