"""`kaima dataset version` and `kaima job samples`: one version; the pictures of a run."""

from pathlib import Path

import click

from service.client import KaimaClient
from service.commands.console import Session, with_client
from service.commands.datasets import dataset
from service.commands.jobs import job


@dataset.command()
@click.argument("version_id")
@with_client
def version(session: Session, client: KaimaClient, version_id: str) -> None:
    """Show a version: its state, and why it was refused."""
    session.show(client.version(version_id))


@job.command()
@click.argument("job_id")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@with_client
def samples(session: Session, client: KaimaClient, job_id: str, out: Path) -> None:
    """Write the sample grid of a run as PNG."""
    out.write_bytes(client.sample_grid(job_id))
    click.echo(f"Written to {out}.", err=True)
    del session
