"""`kaima dataset …`: declare a dataset and its budget, upload versions, withdraw a person."""

from pathlib import Path
from typing import Any

import click

from privacy.manifests import DatasetSchema
from privacy.table_schema import TableSchema, read_schema
from service.client import KaimaClient
from service.commands.console import Session, byte_bar, job_bar, with_client


@click.group()
def dataset() -> None:
    """Declare datasets, upload versions, look at budgets."""


@dataset.command()
@click.argument("name")
@click.option("--purpose", required=True, help="What the synthetic records will be used for.")
@click.option(
    "--schema",
    "schema_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Declare a table by this TOML (see `kaima schema`), in place of the options of images.",
)
@click.option(
    "--unit",
    type=click.Choice(["person", "record"]),
    help="Whose presence is hidden: all images of a person (the default), or a single image.",
)
@click.option(
    "--declared-count",
    type=click.IntRange(min=50),
    help="Rounded public number of persons (or images, with --unit record).",
)
@click.option("--height", type=click.IntRange(8, 4096), help="Pixels.")
@click.option("--width", type=click.IntRange(8, 4096), help="Pixels.")
@click.option("--bit-depth", type=click.Choice(["8", "16"]), help="8 if left out.")
@click.option("--label", help="Name of the label column.")
@click.option("--labels", help="Every label, with commas between: 0,1,2,3,4")
@click.option("--epsilon", type=float, help="The budget's epsilon (left out with --join).")
@click.option("--delta", type=float, help="The budget's delta; 1e-5 if left out.")
@click.option("--rule", type=click.Choice(["basic", "renyi"]), default="basic", show_default=True)
@click.option("--join", "join_dataset_id", help="Share the budget of this dataset.")
@with_client
def create(  # noqa: PLR0913 - one option of the command line each
    session: Session,
    client: KaimaClient,
    /,
    *,
    name: str,
    purpose: str,
    schema_path: Path | None,
    epsilon: float | None,
    delta: float | None,
    rule: str,
    join_dataset_id: str | None,
    **images: Any,
) -> None:
    """Create a dataset of images, or with --schema of a table, with images or without: all declared is public."""
    declared = _images(images) if schema_path is None else _table(schema_path, images)
    created = client.create_dataset(
        name,
        purpose=purpose,
        declared=declared,
        epsilon=epsilon,
        delta=delta,
        rule=rule,
        join_dataset_id=join_dataset_id,
    )
    session.show(created, "id", "name", "cohort_id", "declared")


def _table(path: Path, images: dict[str, Any]) -> TableSchema:
    """Return the schema of a table, which says everything that the options of images would."""
    for name, value in images.items():
        if value is not None:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is about images, and --schema declares a table. "
                "Leave one of them out."
            )
    return read_schema(path)


def _images(given: dict[str, Any]) -> DatasetSchema:
    """Return what the options say about images."""
    for name in ("declared_count", "height", "width", "label", "labels"):
        if given[name] is None:
            raise click.UsageError(
                f"Missing option '--{name.replace('_', '-')}'. Images need it; a table is declared "
                "by --schema."
            )
    words = tuple(part.strip() for part in given["labels"].split(","))
    if not all(words):
        raise click.BadParameter(
            f"{given['labels']!r} holds an empty label; give every label, with one comma between.",
            param_hint="--labels",
        )
    return DatasetSchema.model_validate(
        given
        | {
            "unit": given["unit"] or "person",
            "bit_depth": int(given["bit_depth"] or 8),
            "labels": words,
        }
    )


@dataset.command("list")
@with_client
def list_(session: Session, client: KaimaClient) -> None:
    """List datasets."""
    session.show_table(client.datasets(), "id", "name", "created_at")


@dataset.command()
@click.argument("dataset_id")
@with_client
def show(session: Session, client: KaimaClient, dataset_id: str) -> None:
    """Show a dataset and its versions."""
    found = client.dataset(dataset_id)
    if session.as_json:
        session.show(found)
        return
    session.show(found, "id", "name", "purpose", "cohort_id", "declared", "created_at")
    session.show_table(found.versions, "number", "id", "state", "created_at")


@dataset.command()
@click.argument("dataset_id")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--through-service", is_flag=True, help="Never straight to object storage.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is taken in.")
@with_client
def upload(
    session: Session,
    client: KaimaClient,
    dataset_id: str,
    path: Path,
    *,
    through_service: bool,
    no_wait: bool,
) -> None:
    """Upload a .zip, .npz, .csv, .parquet, or a folder (zipped on the way) as a new version."""
    with byte_bar("upload") as progress:
        job = client.upload(dataset_id, path, progress=progress, through_service=through_service)
    if not no_wait:
        with job_bar() as show_job:
            job = client.wait(job.id, progress=show_job)
    session.show(job, "version_id", "id", "status")


@dataset.command("withdraw-person")
@click.argument("dataset_id")
@click.option(
    "--patient-id",
    prompt="Patient id",
    hide_input=True,
    help="Asked for if left out, which keeps it out of the shell's history.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
@with_client
def withdraw_person(
    session: Session, client: KaimaClient, dataset_id: str, patient_id: str, *, no_wait: bool
) -> None:
    """Make a new version without a person; the epsilon spent stays spent."""
    job = client.withdraw_person(dataset_id, patient_id)
    if not no_wait:
        with job_bar() as show_job:
            job = client.wait(job.id, progress=show_job)
    session.show(job, "id", "status", "version_id", "result")


@dataset.command()
@click.argument("dataset_id")
@with_client
def budget(session: Session, client: KaimaClient, dataset_id: str) -> None:
    """Show what is reserved, spent and left of a dataset's budget."""
    found = client.budget(dataset_id)
    if session.as_json:
        session.show(found)
        return
    session.show(
        found,
        "rule",
        "relation",
        "unit",
        "epsilon",
        "epsilon_reserved",
        "epsilon_spent",
        "epsilon_remaining",
        "delta",
        "delta_spent",
        "delta_remaining",
        "candidates_trained",
        "audits_attempted",
    )
    session.show_table(
        found.entries,
        "job_id",
        "generator",
        "state",
        "open",
        "epsilon_reserved",
        "epsilon",
        "delta",
    )
