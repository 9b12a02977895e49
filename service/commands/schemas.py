"""`kaima schema …`: check the declaration of a table. It needs no service and looks at no value."""

from pathlib import Path

import click

from privacy.table_schema import read_schema
from service.commands.console import Session, with_session


@click.group()
def schema() -> None:
    """Check the TOML by which a table is declared."""


@schema.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_session
def check(session: Session, path: Path) -> None:
    """Say what a schema declares, or the first thing that is wrong with it."""
    found = read_schema(path)
    if session.as_json:
        session.show(found)
        return
    persons = f", told apart by {found.person!r}" if found.person else ""
    click.echo(f"About {found.declared_count:,} {found.unit.value}s{persons}.")
    for column in found.columns:
        role = "" if column.role == "feature" else f" [{column.role.replace('_', ' ')}]"
        click.echo(f"  {column.name}: {column.kind}, {column.size} codes{role}")
    for constraint in found.constraints:
        click.echo(f"  constraint: {constraint.name}")
    click.echo(f"{path.name} can be declared: {len(found.columns)} columns.")
