"""`kaima release …` and `kaima download`: from a candidate to a bundle on a collaborator's disk."""

from pathlib import Path
from typing import IO, Literal

import click

from service.client import KaimaClient
from service.commands.accounts import pin_instance
from service.commands.console import Session, byte_bar, fail, job_bar, with_client
from service.resources import Conditions

_SHOWN = (
    "id", "name", "version", "state", "revision", "unit", "relation", "epsilon", "delta", "tier",
    "verdict", "conditions", "due_at", "expires_at", "votes", "reviews", "earlier", "tombstone", "audit_job_id", "published_at",
)  # fmt: skip


@click.group()
def release() -> None:
    """Propose, review, publish and take away releases."""


@release.command()
@click.argument("dataset_id")
@click.option("--audit-job", "audit_job_id", required=True, help="Id of the audit job.")
@click.option("--name", required=True, help="Lower-case letters, digits and hyphens.")
@click.option("--release-version", "version", default="1.0.0", show_default=True)
@click.option("--terms", help="The terms a collaborator accepts.")
@click.option(
    "--terms-file", type=click.File("r", encoding="utf-8"), help="The terms, from a file."
)
@with_client
def create(
    session: Session,
    client: KaimaClient,
    *,
    dataset_id: str,
    audit_job_id: str,
    name: str,
    version: str,
    terms: str | None,
    terms_file: IO[str] | None,
) -> None:
    """Draft a release of one audited set of samples."""
    text = terms_file.read() if terms_file is not None else terms
    if not text:
        raise click.UsageError("Give --terms or --terms-file.")
    created = client.create_release(
        dataset_id, audit_job_id=audit_job_id, name=name, version=version, terms=text
    )
    session.show(created, *_SHOWN)


@release.command("list")
@click.option("--mine", is_flag=True, help="All of your tenant's, drafts included.")
@with_client
def list_(session: Session, client: KaimaClient, *, mine: bool) -> None:
    """List the catalogue, or your tenant's releases."""
    session.show_table(
        client.releases(mine=mine),
        "id",
        "name",
        "version",
        "state",
        "unit",
        "epsilon",
        "delta",
        "tier",
    )


@release.command()
@click.argument("release_id")
@with_client
def show(session: Session, client: KaimaClient, release_id: str) -> None:
    """Show a release."""
    session.show(client.release(release_id), *_SHOWN)


@release.command()
@click.argument("release_id")
@with_client
def trail(session: Session, client: KaimaClient, release_id: str) -> None:
    """Show who did what to a release, and when."""
    session.show_table(client.trail(release_id), "sequence", "happened_at", "actor_id", "action")


@release.command()
@click.argument("release_id")
@click.option("--audit-job", "audit_job_id", help="Another candidate's audit job.")
@click.option("--terms", help="Other terms.")
@with_client
def revise(
    session: Session,
    client: KaimaClient,
    release_id: str,
    audit_job_id: str | None,
    terms: str | None,
) -> None:
    """Change a draft or returned release."""
    revised = client.revise_release(release_id, audit_job_id=audit_job_id, terms=terms)
    session.show(revised, *_SHOWN)


@release.command()
@click.argument("release_id")
@with_client
def submit(session: Session, client: KaimaClient, release_id: str) -> None:
    """Freeze the evidence and hand the release to two auditors."""
    session.show(client.submit_release(release_id), *_SHOWN)


@release.command()
@click.argument("release_id")
@click.option("--decision", type=click.Choice(["approve", "return", "reject"]), required=True)
@click.option("--reason", required=True, help="Kept in the trail.")
@click.option("--condition", default="", help="What collaborators must accept besides the terms.")
@click.option("--max-tier", type=click.Choice(["public", "registered", "enclave"]))
@click.option("--expires-on", metavar="YYYY-MM-DD", help="The first day without this approval.")
@with_client
def review(
    session: Session,
    client: KaimaClient,
    release_id: str,
    *,
    decision: str,
    reason: str,
    condition: str,
    max_tier: str | None,
    expires_on: str | None,
) -> None:
    """Vote on a release as one of its two auditors; an approval may have conditions."""
    given = {"text": condition, "max_tier": max_tier, "expires_on": expires_on}
    conditions = Conditions.model_validate(given) if any(given.values()) else None
    done = client.review_release(
        release_id, decision=decision, reason=reason, conditions=conditions
    )
    session.show(done, *_SHOWN)


@release.command()
@click.argument("release_id")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is published.")
@with_client
def publish(session: Session, client: KaimaClient, release_id: str, *, no_wait: bool) -> None:
    """Package, sign and publish an approved release."""
    job = client.publish_release(release_id)
    if no_wait:
        session.show(job, "id", "kind", "status")
        return
    with job_bar() as show_job:
        client.wait(job.id, progress=show_job)
    session.show(client.release(release_id), *_SHOWN)


@release.command()
@click.argument("release_id")
@click.option("--reason", required=True, help="Shown on the tombstone.")
@with_client
def suspend(session: Session, client: KaimaClient, release_id: str, reason: str) -> None:
    """Take a published release away for now."""
    session.show(client.suspend_release(release_id, reason=reason), *_SHOWN)


@release.command()
@click.argument("release_id")
@click.option("--reason", required=True, help="Kept in the trail.")
@with_client
def reinstate(session: Session, client: KaimaClient, release_id: str, reason: str) -> None:
    """Bring a suspended release back."""
    session.show(client.reinstate_release(release_id, reason=reason), *_SHOWN)


@release.command()
@click.argument("release_id")
@click.option("--reason", required=True, help="Shown on the tombstone.")
@with_client
def revoke(session: Session, client: KaimaClient, release_id: str, reason: str) -> None:
    """Take a published release away for good."""
    session.show(client.revoke_release(release_id, reason=reason), *_SHOWN)


@release.command()
@click.argument("release_id")
@click.option("--reason", required=True, help="Kept in the trail.")
@with_client
def withdraw(session: Session, client: KaimaClient, release_id: str, reason: str) -> None:
    """Take a release back before it is published."""
    session.show(client.withdraw_release(release_id, reason=reason), *_SHOWN)


@release.command("audit-again")
@click.argument("release_ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every published or suspended release.")
@click.option("--depth", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option("--wait", is_flag=True, help="Wait for the audits and show their verdicts.")
@with_client
def audit_again(
    session: Session,
    client: KaimaClient,
    release_ids: tuple[str, ...],
    *,
    every: bool,
    depth: Literal["quick", "full"],
    wait: bool,
) -> None:
    """Audit releases again under the policy in force; one that fails is suspended."""
    if bool(release_ids) == every:
        raise click.UsageError("Name releases, or give --all.")
    asked = client.reaudit_releases(release_ids, depth=depth)
    if not wait:
        session.show(asked, "policy_version", "queued", "skipped")
        return
    done = []
    for item in asked.queued:
        with job_bar() as show_job:
            job = client.wait(item.job_id, progress=show_job, check=False)
        state = client.release(item.release_id).state
        verdict = job.result.get("verdict") or job.status
        done.append(item.model_copy(update={"verdict": verdict, "state": state}))
    session.show_table(done, "release_id", "job_id", "verdict", "state")


@release.command()
@click.argument("release_id")
@with_client
def downloaders(session: Session, client: KaimaClient, release_id: str) -> None:
    """List who holds a release: everybody to whom a link to its bundle was handed out."""
    session.show_table(
        client.downloaders(release_id), "user_id", "name", "tenant", "downloads", "last_at"
    )


@click.command()
@click.argument("release_id")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), show_default=True)
@click.option("--accept-terms", is_flag=True, help="You have read the terms and accept them.")
@with_client
def download(
    session: Session, client: KaimaClient, release_id: str, folder: Path, *, accept_terms: bool
) -> None:
    """Download a release's bundle; run it again to go on where it stopped."""
    if accept_terms:
        client.accept_terms(release_id)
    elif not session.as_json:
        click.echo(client.release(release_id).terms or "", err=True)
    pin_instance(client)
    with byte_bar("download") as progress:
        path = client.download(release_id, folder, progress=progress)
    if not path.exists():
        fail(f"{path} was not written.")
    session.show({"path": str(path), "next": f"kaima verify {path}"})
