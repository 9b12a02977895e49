"""`kaima schema …`: draft the declaration of a table from its header, and check one.

Neither needs a service, and neither looks at a value: what is declared public is never read from
data.
"""

from pathlib import Path

import click

from privacy.image_parts import cells_of
from privacy.schema_drafts import draft_schema
from privacy.table_schema import read_schema
from service.commands.console import Session, with_session


@click.group()
def schema() -> None:
    """Draft and check the TOML by which a table is declared."""


@schema.command()
@click.argument("header", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--dictionary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A public code book as CSV: column, kind, unit, low, high, bins, levels (a|b|c), missing, role.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Else: print it.")
@with_session
def draft(session: Session, header: Path, dictionary: Path | None, out: Path | None) -> None:
    """Write a schema to complete by hand, from the first line of HEADER alone.

    Names of columns, a dictionary and common clinical ranges are all that is used. What could not
    be told is marked, and refused until somebody fills it in.
    """
    del session
    text = draft_schema(header, dictionary=dictionary)
    if out is None:
        click.echo(text)
        return
    if out.exists():
        raise click.UsageError(f"{out} was not written: it exists. Name another file with --out.")
    out.write_text(text, encoding="utf-8")
    click.echo(f"Complete {out} by hand, then run: kaima schema check {out}")


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
    if (part := found.images) is not None:
        click.echo(
            f"  images: one for each row, named by {part.column!r}; {part.height} x {part.width} "
            f"pixels of {part.bit_depth} bits, drawn for {' and '.join(part.condition_on)} "
            f"({cells_of(found)} cells)"
        )
    for constraint in found.constraints:
        click.echo(f"  constraint: {constraint.name}")
    click.echo(f"{path.name} can be declared: {len(found.columns)} columns.")
