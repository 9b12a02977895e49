"""`kaima journal list|fetch-…`: what a service says of its journal, for whoever does not run it."""

import json
from pathlib import Path
from typing import Any

import click

from service.client import KaimaClient
from service.commands.console import Session, with_client
from service.commands.journal import journal
from service.journal_resources import JournalHead

_out = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Else: print it."
)


@journal.command("list")
@with_client
def list_rows(session: Session, client: KaimaClient) -> None:
    """List every row that the service shows you, oldest first (operator)."""
    session.show_table(
        client.journal(), "sequence", "happened_at", "kind", "actor_id", "action", "subject_id"
    )


@journal.command("fetch-head")
@_out
@with_client
def fetch_head(session: Session, client: KaimaClient, out: Path | None) -> None:
    """Fetch the signed head; keep it, to demand a proof of growth later."""
    _hand_over(session, client.journal_head().model_dump(mode="json"), out)


@journal.command("fetch-proof")
@click.argument("seq", type=click.IntRange(min=1))
@_out
@with_client
def fetch_proof(session: Session, client: KaimaClient, seq: int, out: Path | None) -> None:
    """Fetch the proof that row SEQ, which you may read, is under the present head."""
    _hand_over(session, client.prove_row(seq).model_dump(mode="json"), out)


@journal.command("fetch-growth")
@click.argument("kept", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_out
@with_client
def fetch_growth(session: Session, client: KaimaClient, kept: Path, out: Path | None) -> None:
    """Fetch the proof that the rows of a head that you KEPT begin the present journal."""
    head = JournalHead.model_validate_json(kept.read_bytes())
    _hand_over(session, client.prove_growth(head), out)


def _hand_over(session: Session, document: dict[str, Any], out: Path | None) -> None:
    if out is None:
        session.show(document)
        return
    out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    click.echo(f"Written to {out}.", err=True)
