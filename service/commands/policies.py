"""`kaima policy …`: the audit policy, its versions and their votes; and the auditors' queue."""

from typing import Literal

import click

from service.client import KaimaClient
from service.commands.console import Session, with_client
from service.commands.reviews import review

_VERSION = ("id", "number", "state", "author_id", "reason", "changes", "votes", "digest")


@click.group()
def policy() -> None:
    """Read the audit policy, propose another one, vote on it (auditor)."""


@policy.command("in-force")
@click.option("--toml", "as_file", is_flag=True, help="Print the file whose SHA-256 is its digest.")
@with_client
def in_force(session: Session, client: KaimaClient, *, as_file: bool) -> None:
    """Show what new trainings commit to, every threshold with its fixed limit."""
    found = client.policy()
    if as_file:
        click.echo(found.toml, nl=False)
    elif session.as_json:
        session.show(found)
    else:
        session.show(found, "id", "version", "depth", "digest")
        session.show_table(found.entries, "path", "value", "limit", "title")


@policy.command("list")
@with_client
def list_versions(session: Session, client: KaimaClient) -> None:
    """List your tenant's own versions, newest first."""
    session.show_table(client.policy_versions(), "id", "number", "state", "author_id", "created_at")


@policy.command("show")
@click.argument("policy_id")
@with_client
def show_version(session: Session, client: KaimaClient, policy_id: str) -> None:
    """Show a version, what it changes and who voted."""
    session.show(client.policy_version(policy_id), *_VERSION)


@policy.command()
@click.option(
    "--set", "changes", multiple=True, metavar="ENTRY=VALUE", help="Such as tiers.public.auc=0.55."
)
@click.option(
    "--depth", type=click.Choice(["quick", "full"]), help="Battery unless asked otherwise."
)
@click.option("--reason", required=True, help="Read by whoever votes.")
@with_client
def propose(
    session: Session,
    client: KaimaClient,
    *,
    changes: tuple[str, ...],
    depth: Literal["quick", "full"] | None,
    reason: str,
) -> None:
    """Propose the policy in force with other values; two other auditors vote."""
    values = dict(_entry(text) for text in changes)
    session.show(client.propose_policy(values, reason=reason, depth=depth), *_VERSION)


@policy.command()
@click.argument("policy_id")
@click.argument("decision", type=click.Choice(["approve", "reject"]))
@click.option("--reason", default="", help="Needed to reject.")
@with_client
def vote(
    session: Session,
    client: KaimaClient,
    policy_id: str,
    decision: Literal["approve", "reject"],
    *,
    reason: str,
) -> None:
    """Vote on a version that another auditor proposed."""
    version = client.policy_version(policy_id)
    session.show(client.vote_on_policy(version, decision, reason=reason), *_VERSION)


@policy.command()
@click.argument("policy_id")
@with_client
def withdraw(session: Session, client: KaimaClient, policy_id: str) -> None:
    """Take your own proposal back."""
    session.show(client.withdraw_policy(client.policy_version(policy_id)), *_VERSION)


@review.command()
@click.option("--mine", is_flag=True, help="Only what asks for your own vote.")
@with_client
def queue(session: Session, client: KaimaClient, *, mine: bool) -> None:
    """List what waits for auditors: releases, plans and policies, yours first."""
    session.show_table(
        client.review_queue(mine=mine).items,
        "kind",
        "id",
        "title",
        "standing",
        "verdict",
        "due_at",
        "why",
    )


@review.command()
@with_client
def decisions(session: Session, client: KaimaClient) -> None:
    """List your votes and what became of each."""
    session.show_table(
        client.review_decisions().items, "kind", "id", "title", "round", "decision", "at", "state"
    )


def _entry(text: str) -> tuple[str, float]:
    """Read ENTRY=VALUE.  Raises: click.UsageError."""
    entry, _, value = text.partition("=")
    try:
        return entry.strip(), float(value)
    except ValueError as error:
        raise click.UsageError(f"Write --set ENTRY=VALUE with a number, not {text!r}.") from error
