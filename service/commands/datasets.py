"""`kaima dataset …`: declare a dataset and its budget, upload versions, withdraw a person."""

from pathlib import Path

import click

from privacy.manifests import DatasetSchema
from service.client import KaimaClient
from service.commands.console import Session, byte_bar, job_bar, with_client


@click.group()
def dataset() -> None:
    """Declare datasets, upload versions, look at budgets."""


@dataset.command()
@click.argument("name")
@click.option("--purpose", required=True, help="What the synthetic images will be used for.")
@click.option(
    "--unit",
    type=click.Choice(["person", "record"]),
    default="person",
    show_default=True,
    help="Whose presence is hidden: all images of a person, or a single image.",
)
@click.option(
    "--declared-count",
    type=click.IntRange(min=50),
    required=True,
    help="Rounded public number of persons (or images, with --unit record).",
)
@click.option("--height", type=click.IntRange(8, 4096), required=True, help="Pixels.")
@click.option("--width", type=click.IntRange(8, 4096), required=True, help="Pixels.")
@click.option("--bit-depth", type=click.Choice(["8", "16"]), default="8", show_default=True)
@click.option("--label", required=True, help="Name of the label column.")
@click.option("--labels", required=True, help="Every label, with commas between: 0,1,2,3,4")
@click.option("--epsilon", type=float, help="The budget's epsilon (left out with --join).")
@click.option("--delta", type=float, help="The budget's delta; 1e-5 if left out.")
@click.option("--rule", type=click.Choice(["basic", "renyi"]), default="basic", show_default=True)
@click.option("--join", "join_dataset_id", help="Share the budget of this dataset.")
@with_client
def create(  # noqa: PLR0913 - one option of the command line each
    session: Session,
    client: KaimaClient,
    *,
    name: str,
    purpose: str,
    unit: str,
    declared_count: int,
    height: int,
    width: int,
    bit_depth: str,
    label: str,
    labels: str,
    epsilon: float | None,
    delta: float | None,
    rule: str,
    join_dataset_id: str | None,
) -> None:
    """Create a dataset: everything declared here is public."""
    words = tuple(part.strip() for part in labels.split(","))
    if not all(words):
        raise click.BadParameter(
            f"{labels!r} holds an empty label; give every label, with one comma between.",
            param_hint="--labels",
        )
    declared = DatasetSchema.model_validate(
        {
            "unit": unit,
            "declared_count": declared_count,
            "height": height,
            "width": width,
            "bit_depth": int(bit_depth),
            "label": label,
            "labels": words,
        }
    )
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
    """Upload a .zip, an .npz, or a folder (zipped on the way) as a new version."""
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
