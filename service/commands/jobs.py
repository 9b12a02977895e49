"""`kaima train …`, `kaima job …` and `kaima report …`: spend budget, watch, read the evidence."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from service.client import KaimaClient
from service.commands.console import Session, job_bar, with_client, with_session
from service.plan_words import plan_lines
from service.resources import TrainingPlan

_SAID_OF_JOBS = ("generator", "preset", "epsilon", "delta", "tier", "samples", "verdict")
ESTIMATE_SECONDS = 600.0
"""How long `kaima train plan` waits for its dry run; a busy worker may not come to it sooner."""
PRESETS = click.Choice(["quick", "balanced", "best"])
TIERS = click.Choice(["public", "registered", "enclave"])


def _config(given: str | None, settings: tuple[str, ...]) -> dict[str, Any]:
    """Return a generator's config from --config JSON and --set NAME=VALUE."""
    try:
        config = json.loads(given or "{}")
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="--config") from error
    if not isinstance(config, dict):
        raise click.BadParameter("it must be a JSON object", param_hint="--config")
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"{setting!r} is not NAME=VALUE", param_hint="--set")
        try:
            config[name] = json.loads(value)
        except json.JSONDecodeError:
            config[name] = value
    return config


def _training_options(function: Any) -> Any:
    for option in reversed(
        (
            click.argument("version_id"),
            click.option("--generator", required=True, help="See `kaima train generators`."),
            click.option("--epsilon", type=float, required=True),
            click.option("--delta", type=float, help="A tenth of the budget's if left out."),
            click.option("--preset", type=PRESETS, help="Settings by name; --set overrides them."),
            click.option("--config", "config_json", help="The generator's config as JSON."),
            click.option("--set", "settings", multiple=True, help="One of its values: NAME=VALUE"),
            click.option("--tier", type=TIERS, default="registered", show_default=True),
            click.option(
                "--samples", type=click.IntRange(1, 200_000), default=8000, show_default=True
            ),
        )
    ):
        function = option(function)
    return function


@click.group()
def train() -> None:
    """Plan and request training runs."""


@train.command()
@with_client
def generators(session: Session, client: KaimaClient) -> None:
    """List the generators and their settings."""
    found = client.generators()
    if session.as_json:
        session.show(found)
        return
    for name, about in found.get("generators", found).items():
        click.echo(f"{name}: {about.get('title', '')}")
        for setting, value in about.get("defaults", {}).items():
            click.echo(f"    {setting} = {json.dumps(value)}")
        for preset, values in about.get("presets", {}).items():
            click.echo(f"    --preset {preset}: {values['summary']}")


@train.command()
@_training_options
@click.option("--no-estimate", is_flag=True, help="Do not find out time and memory.")
@with_client
def plan(  # noqa: PLR0913 - one option of the command line each
    session: Session,
    client: KaimaClient,
    *,
    version_id: str,
    generator: str,
    epsilon: float,
    delta: float | None,
    preset: str | None,
    config_json: str | None,
    settings: tuple[str, ...],
    tier: str,
    samples: int,
    no_estimate: bool,
) -> None:
    """Show what a run would reserve and take, or why it would be refused; reserves nothing."""

    def ask() -> TrainingPlan:
        return client.plan_training(
            version_id,
            generator=generator,
            epsilon=epsilon,
            delta=delta,
            preset=preset,
            config=_config(config_json, settings),
            tier=tier,
            samples=samples,
            estimate=not no_estimate,
        )

    found = ask()
    estimate = found.estimate
    if estimate is not None and estimate.state == "pending" and estimate.job_id is not None:
        with job_bar() as show_job, suppress(TimeoutError):  # then it is shown as not known yet
            client.wait(
                estimate.job_id, progress=show_job, check=False, timeout_seconds=ESTIMATE_SECONDS
            )
        found = ask()
    if session.as_json:
        session.show(found)
        return
    for line in plan_lines(found):
        click.echo(line)


@train.command()
@_training_options
@click.option("--wait", is_flag=True, help="Wait for training, sampling and audit.")
@click.option(
    "--canaries",
    type=click.IntRange(0, 2000),
    default=0,
    help="Run an audit twin with so many canaries: charged like a run, never released.",
)
@with_client
def request(  # noqa: PLR0913 - one option of the command line each
    session: Session,
    client: KaimaClient,
    *,
    version_id: str,
    generator: str,
    epsilon: float,
    delta: float | None,
    preset: str | None,
    config_json: str | None,
    settings: tuple[str, ...],
    tier: str,
    samples: int,
    wait: bool,
    canaries: int,
) -> None:
    """Reserve the budget for a run and queue it."""
    job = client.request_training(
        version_id,
        generator=generator,
        epsilon=epsilon,
        delta=delta,
        preset=preset,
        config=_config(config_json, settings),
        tier=tier,
        samples=samples,
        canaries=canaries,
    )
    if wait:
        with job_bar() as show_job:
            wait_for = client.wait if canaries else client.wait_for_audit
            job = wait_for(job.id, progress=show_job)
    session.show(job, "id", "kind", "status", "result")


@click.group()
def job() -> None:
    """Look at jobs and cancel them."""


@job.command("list")
@click.option("--dataset", "dataset_id", help="Only jobs of this dataset.")
@with_client
def list_(session: Session, client: KaimaClient, dataset_id: str | None) -> None:
    """List jobs, newest first."""
    found = client.jobs(dataset_id=dataset_id)
    session.show_table(found, "id", "kind", "status", "step", "total", "created_at")


@job.command()
@click.argument("job_id")
@with_client
def show(session: Session, client: KaimaClient, job_id: str) -> None:
    """Show a job; with `kaima --json`, everything that is known of it."""
    found = client.job(job_id)
    if session.as_json:
        session.show(found)
        return
    session.show(
        found,
        "id",
        "kind",
        "status",
        "step",
        "total",
        "attempt",
        "dataset_id",
        "version_id",
        "release_id",
        "parent_id",
        "created_at",
        "finished_at",
    )
    for name in _SAID_OF_JOBS:
        value = {**found.payload, **found.result}.get(name)
        if value is not None:
            click.echo(f"{name.replace('_', ' ')}: {value}")
    if found.problem:
        click.echo(f"problem: {found.problem.get('detail', found.problem)}")


@job.command()
@click.argument("job_id")
@click.option("--chain", is_flag=True, help="Go on to the sampling and audit that follow.")
@with_client
def watch(session: Session, client: KaimaClient, job_id: str, *, chain: bool) -> None:
    """Wait for a job with a progress bar."""
    with job_bar() as show_job:
        if chain:
            found = client.wait_for_audit(job_id, progress=show_job)
        else:
            found = client.wait(job_id, progress=show_job)
    session.show(found, "id", "kind", "status", "result")


@job.command()
@click.argument("job_id")
@click.option("--wait", is_flag=True, help="Wait until its worker has stopped.")
@with_client
def cancel(session: Session, client: KaimaClient, job_id: str, *, wait: bool) -> None:
    """Cancel a job; steps that did not run are refunded."""
    found = client.cancel_job(job_id)
    if wait:
        with job_bar() as show_job:
            found = client.wait(job_id, progress=show_job, check=False)
    session.show(found, "id", "kind", "status")


@click.group()
def report() -> None:
    """Read audit reports."""


@report.command("open")
@click.argument("audit_job_id")
@with_session
def open_(session: Session, audit_job_id: str) -> None:
    """Open a report in the browser, where you sign in with your API key."""
    url = f"{session.profile.url}/reports/{audit_job_id}"
    click.echo(url)
    click.launch(url)


@report.command("download")
@click.argument("audit_job_id")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), show_default=True)
@with_client
def download_report(session: Session, client: KaimaClient, audit_job_id: str, folder: Path) -> None:
    """Download a report as JSON and HTML, readable by you only: it holds real images."""
    document, page = client.report(audit_job_id), client.report_html(audit_job_id)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", json.dumps(document, indent=2)), ("report.html", page)):
        path = folder / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(text, encoding="utf-8")
        click.echo(f"{path} (not for release)")
    del session
