"""`kaima journal …`: check the journal, export its signed head, prove what is under it.

`check-proof` needs neither an instance nor its packages: a stranger with the public key runs it.
"""

# ruff: noqa: PLC0415 - the base install lacks what these commands import, so they import it late

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import local
from service.commands.console import EXIT_FAILED, Session, with_session

if TYPE_CHECKING:
    from service.store.unit_of_work import UnitOfWork

_out_option = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Else: print it."
)
_existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def journal() -> None:
    """Check the journal, prove what stands in it, and restore what an older database has lost."""


@journal.command()
@local.state_option
@click.option(
    "--head",
    "heads",
    type=_existing_file,
    multiple=True,
    help="A signed head that was exported before; give it as often as there are some.",
)
def verify(state: str, heads: tuple[Path, ...]) -> None:
    """Walk the hash chain and the tree; compare them with object storage and signed heads.

    Exit code: 0 whole, 1 with a sentence for each problem.
    """
    problems = _verify(state, heads)
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


@journal.command()
@local.state_option
@_out_option
def head(state: str, out: Path | None) -> None:
    """Sign how many rows the journal has and their root; store it in object storage, and export it.

    Keep it elsewhere: a journal that was cut or forked since can then be told by it.
    """
    from service.operations import journal_heads

    _write(_in_instance(state, journal_heads.store_head), out)


@journal.command()
@click.argument("seq", type=click.IntRange(min=1))
@local.state_option
@_out_option
@click.option("--digest-only", is_flag=True, help="Prove it without handing out what it says.")
def prove(seq: int, state: str, out: Path | None, *, digest_only: bool) -> None:
    """Prove that row SEQ is under the present signed head."""
    from service.operations import journal_heads
    from service.store import journal as rows

    def make(uow: "UnitOfWork") -> dict[str, Any]:
        row = rows.read_row(uow.session, seq)
        if row is None:
            last = rows.position(uow.session).seq
            raise click.UsageError(f"Row {seq} was refused: the journal has {last} rows.")
        return journal_heads.proof_of(uow, row, with_text=not digest_only)

    _write(_in_instance(state, make), out)


@journal.command()
@click.argument("old", type=_existing_file)
@local.state_option
@_out_option
def consistency(old: Path, state: str, out: Path | None) -> None:
    """Prove that the rows of the exported head OLD begin the present journal, unchanged."""
    from service.domain.errors import InputRefused
    from service.operations import journal_heads
    from service.store import journal_proof

    kept = journal_proof.read_head(old.read_bytes(), place=old.name)
    try:
        made = _in_instance(state, lambda uow: journal_heads.consistency_with(uow, kept.document))
    except InputRefused as error:
        raise click.ClickException(str(error)) from error
    _write(made, out)


@journal.command("check-proof")
@click.argument("file", type=_existing_file)
@click.option(
    "--public-key",
    type=_existing_file,
    required=True,
    help="PEM of the service's key, told by its operator or pinned by `kaima login`.",
)
@click.option(
    "--head",
    "kept",
    type=_existing_file,
    help="The older head that you kept; a consistency proof is then about this one.",
)
@with_session
def check_proof(session: Session, file: Path, public_key: Path, kept: Path | None) -> None:
    """Check a head, an inclusion or a consistency proof with the public key alone.

    Exit code: 0 it holds, 1 refused.
    """
    from privacy.signing import load_public_key
    from service.domain import journal_heads

    try:
        document = journal_heads.read_document(file.read_bytes())
        if kept is not None:
            document = journal_heads.about(document, journal_heads.read_document(kept.read_bytes()))
        found = journal_heads.check(document, key=load_public_key(public_key.read_bytes()))
    except ValueError as error:
        if session.as_json:
            click.echo(json.dumps({"accepted": False, "problem": str(error)}, indent=2))
        else:
            click.echo(f"REFUSED. {error}", err=True)
        sys.exit(EXIT_FAILED)
    if session.as_json:
        click.echo(json.dumps({"accepted": True, **vars(found)}, indent=2))
    else:
        click.echo(f"Accepted. {found.sentence}\nSigned by {found.key_id}.")


@journal.command()
@local.state_option
def rebuild(state: str) -> None:
    """Make the tree over the journal again from its rows; needed only if `verify` says so."""
    from service.operations import journal_heads

    rows = _in_instance(state, journal_heads.rebuild_tree)
    click.echo(f"The tree over {rows} rows was made again.")


def _verify(state: str, heads: tuple[Path, ...]) -> list[str]:
    from service.operations import journal as operation
    from service.store import journal_proof

    known = [journal_proof.read_head(path.read_bytes(), place=str(path)) for path in heads]
    with (
        local.open_application(state).uow(read_only=True) as uow,
        click.progressbar(length=operation.position(uow).seq, label="Rows", file=sys.stderr) as bar,
    ):
        return operation.verify(
            uow, heads=known, progress=lambda seq, _total: bar.update(seq - bar.pos)
        )


def _in_instance(state: str, operation: "Callable[[UnitOfWork], Any]") -> Any:
    with local.open_application(state).uow() as uow:
        return operation(uow)


def _write(document: dict[str, Any], out: Path | None) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
