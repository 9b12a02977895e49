"""`kaima edit ask|list|fetch`: edits that a service makes of a release, rather than this machine."""

from pathlib import Path
from typing import Any

import click

from service.client import KaimaClient
from service.commands.console import Session, with_client
from service.commands.editing import edit

_EDIT = ("id", "release_id", "state", "images", "met", "changed", "problem")


@edit.command()
@click.argument("release_id")
@click.option("--vary", required=True, help="label, exposure, contrast, joint_space or sclerosis.")
@click.option("--form", type=click.Choice(["series", "teaching_set", "stress_test"]))
@click.option("--low", type=float, help="First value; the set's lowest without.")
@click.option("--high", type=float, help="Last value; the set's highest without.")
@click.option("--steps", type=int)
@click.option("--label", help="The label of every image.")
@click.option("--images", type=int, help="How many images are edited.")
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The classifier (ONNX) of a stress test.",
)
@with_client
def ask(session: Session, client: KaimaClient, /, release_id: str, **asked: Any) -> None:
    """Ask the service for a series, a teaching set or a stress test of a release; wait for it."""
    wanted = {name: value for name, value in asked.items() if value is not None}
    if "model" in wanted:
        wanted["model"] = client.upload_model(release_id, wanted["model"])
    found = client.request_edit(release_id, **wanted)
    session.show(client.wait_for_edit(found.id), *_EDIT)


@edit.command("list")
@click.argument("release_id")
@with_client
def list_edits(session: Session, client: KaimaClient, release_id: str) -> None:
    """List the edits of a release that you asked for, newest first."""
    session.show_table(client.edits(release_id), *_EDIT)


@edit.command()
@click.argument("edit_id")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--sheet", is_flag=True, help="The picture, of a teaching set as well.")
@with_client
def fetch(session: Session, client: KaimaClient, edit_id: str, *, out: Path, sheet: bool) -> None:
    """Fetch what came of an edit: a sheet (PNG), a teaching set (zip), a report (HTML, or JSON)."""
    form = client.edit(edit_id).asked.form
    if form == "stress_test" and out.suffix == ".json":
        found = client.stress_test(edit_id)
        session.show(found)
        return
    if form == "stress_test":
        content = client.stress_report(edit_id).encode()
    elif form == "teaching_set" and not sheet:
        content = client.teaching_set(edit_id)
    else:
        content = client.edit_sheet(edit_id)
    out.write_bytes(content)
    click.echo(f"Written to {out}.", err=True)
