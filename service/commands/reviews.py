"""`kaima review …`, `kaima plan …`, `kaima notification …` and `kaima webhook …`."""

import json
from typing import Literal

import click

from service.client import KaimaClient
from service.commands.console import Session, with_client

_RELEASE = (
    "id",
    "name",
    "version",
    "state",
    "revision",
    "tier",
    "conditions",
    "due_at",
    "expires_at",
)
_PLAN = (
    "id",
    "state",
    "revision",
    "version_id",
    "purpose",
    "plan",
    "reason",
    "expires_at",
    "job_id",
)
_WEBHOOK = ("id", "url", "kinds", "enabled", "secret")
_MESSAGE = ("id", "kind", "state", "attempts", "problem", "next_at")


@click.group()
def review() -> None:
    """What surrounds a vote: comments, assignments, delegation, stepping aside."""


@review.command()
@click.argument("release_id")
@with_client
def begin(session: Session, client: KaimaClient, release_id: str) -> None:
    """Say that you read a release; it says nothing of any vote."""
    session.show(client.begin_review(release_id), *_RELEASE)


@review.command()
@click.argument("release_id")
@click.argument("text")
@click.option("--for", "audience", type=click.Choice(["auditors", "author"]), default="auditors")
@click.option("--reply-to", help="Id of the comment that you answer.")
@with_client
def comment(
    session: Session,
    client: KaimaClient,
    release_id: str,
    text: str,
    *,
    audience: Literal["auditors", "author"],
    reply_to: str | None,
) -> None:
    """Say something about a release while it is reviewed; it cannot be changed."""
    session.show(client.comment(release_id, text, audience=audience, reply_to=reply_to))


@review.command()
@click.argument("release_id")
@with_client
def comments(session: Session, client: KaimaClient, release_id: str) -> None:
    """List the comments that you may see."""
    session.show_table(
        client.comments(release_id), "id", "round", "author_id", "audience", "created_at", "text"
    )


@review.command()
@click.argument("release_id")
@with_client
def reviewers(session: Session, client: KaimaClient, release_id: str) -> None:
    """List your tenant's auditors, each with the rule that forbids them this review."""
    session.show_table(client.reviewers(release_id), "user_id", "name", "lab", "refusal")


@review.command()
@click.argument("release_id")
@with_client
def assignments(session: Session, client: KaimaClient, release_id: str) -> None:
    """List who was named to review a release."""
    session.show_table(
        client.assignments(release_id).items, "auditor_id", "assigned_by", "created_at"
    )


@review.command()
@click.argument("release_id")
@click.argument("auditor_ids", nargs=2)
@with_client
def assign(
    session: Session, client: KaimaClient, release_id: str, auditor_ids: tuple[str, str]
) -> None:
    """Name the two auditors of a release."""
    session.show(client.assign_auditors(release_id, auditor_ids), *_RELEASE)


@review.command()
@click.argument("release_id")
@click.option("--to", required=True, help="Id of the other auditor.")
@click.option("--reason", required=True, help="Kept in the trail.")
@with_client
def delegate(
    session: Session, client: KaimaClient, release_id: str, *, to: str, reason: str
) -> None:
    """Hand your assignment to another auditor."""
    session.show(client.delegate_review(release_id, to=to, reason=reason), *_RELEASE)


@review.command("step-aside")
@click.argument("dataset_id")
@click.option("--reason", required=True, help="Why you must not judge what comes from it.")
@with_client
def step_aside(session: Session, client: KaimaClient, dataset_id: str, *, reason: str) -> None:
    """Declare that you must not judge what comes from a dataset; it holds for ever."""
    session.show(client.recuse(dataset_id, reason=reason))


@review.command()
@click.argument("release_id")
@click.option("--release-version", "version", help="Such as 1.0.1; the last number is raised.")
@with_client
def renew(session: Session, client: KaimaClient, release_id: str, *, version: str | None) -> None:
    """Draft the next version of a published or expired release, for a new approval."""
    session.show(client.renew_release(release_id, version=version), *_RELEASE)


@review.command()
@click.argument("user_id")
@click.argument("lab")
@with_client
def lab(session: Session, client: KaimaClient, user_id: str, lab: str) -> None:
    """Say in which lab a user works (operator); an empty one means none."""
    session.show(client.change_lab(user_id, lab))


@click.group()
def plan() -> None:
    """Have an auditor approve a training plan before it spends epsilon."""


@plan.command("request")
@click.argument("version_id")
@click.option("--purpose", required=True, help="What the training is for.")
@click.option("--generator", required=True)
@click.option("--preset", type=click.Choice(["quick", "balanced", "best"]))
@click.option("--config", default="{}", help="Settings of the generator, as JSON.")
@click.option("--epsilon", type=float, required=True)
@click.option("--delta", type=float)
@click.option(
    "--tier", type=click.Choice(["public", "registered", "enclave"]), default="registered"
)
@click.option("--samples", type=int, default=8000, show_default=True)
@click.option("--canaries", type=int, default=0, show_default=True)
@with_client
def request_(  # noqa: PLR0913 - everything that may be asked for
    session: Session,
    client: KaimaClient,
    version_id: str,
    *,
    purpose: str,
    generator: str,
    preset: str | None,
    config: str,
    epsilon: float,
    delta: float | None,
    tier: str,
    samples: int,
    canaries: int,
) -> None:
    """Ask for the approval of exactly this training."""
    try:
        settings = json.loads(config)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"--config is not JSON: {error}.") from error
    made = client.request_plan_approval(
        version_id,
        purpose=purpose,
        generator=generator,
        preset=preset,
        config=settings,
        target={"epsilon": epsilon, "delta": delta},
        tier=tier,
        samples=samples,
        canaries=canaries,
    )
    session.show(made, *_PLAN)


@plan.command("list")
@click.option("--state", help="Such as requested or approved.")
@with_client
def list_plans(session: Session, client: KaimaClient, *, state: str | None) -> None:
    """List your tenant's plans, newest first."""
    session.show_table(
        client.plan_approvals(state=state), "id", "state", "version_id", "purpose", "expires_at"
    )


@plan.command("show")
@click.argument("plan_id")
@with_client
def show_plan(session: Session, client: KaimaClient, plan_id: str) -> None:
    """Show a plan and what was decided of it."""
    session.show(client.plan_approval(plan_id), *_PLAN)


@plan.command()
@click.argument("plan_id")
@click.option("--decision", type=click.Choice(["approve", "refuse"]), required=True)
@click.option("--reason", required=True)
@with_client
def decide(
    session: Session,
    client: KaimaClient,
    plan_id: str,
    *,
    decision: Literal["approve", "refuse"],
    reason: str,
) -> None:
    """Approve or refuse a plan, as an auditor who had no part in it."""
    session.show(client.decide_plan(plan_id, decision=decision, reason=reason), *_PLAN)


@plan.command("withdraw")
@click.argument("plan_id")
@with_client
def withdraw_plan(session: Session, client: KaimaClient, plan_id: str) -> None:
    """Take back a request, or an approval that was not used."""
    session.show(client.withdraw_plan(plan_id), *_PLAN)


@plan.command("require")
@click.argument("tenant_id")
@click.option("--yes/--no", "required", default=True, show_default=True)
@with_client
def require_(session: Session, client: KaimaClient, tenant_id: str, *, required: bool) -> None:
    """Say whether a tenant's plans need approval (operator)."""
    session.show(client.require_plan_approval(tenant_id, required=required))


@click.group()
def notification() -> None:
    """Your notices, and whether they come by e-mail."""


@notification.command("list")
@click.option("--unread", is_flag=True, help="Only those that you have not read.")
@with_client
def list_notifications(session: Session, client: KaimaClient, *, unread: bool) -> None:
    """List your notices, newest first."""
    session.show_table(
        client.notifications(unread=unread), "id", "created_at", "kind", "subject", "link"
    )


@notification.command("read")
@click.argument("ids", nargs=-1)
@with_client
def read_(session: Session, client: KaimaClient, ids: tuple[str, ...]) -> None:
    """Mark notices as read, all of them if none is named."""
    session.show({"unread": client.mark_read(ids)})


@notification.command()
@click.argument("address", required=False)
@click.option("--on/--off", "on", default=True, show_default=True)
@click.option("--mute", "muted", multiple=True, help="A subject of which you want none: study.")
@click.option("--unmute", is_flag=True, help="Want every subject again.")
@with_client
def email(
    session: Session,
    client: KaimaClient,
    address: str | None,
    *,
    on: bool,
    muted: tuple[str, ...],
    unmute: bool,
) -> None:
    """Say where your notices go by e-mail, and which you want; without an address, the one before."""
    known = client.email_choice()
    silent = [] if unmute else [*known.muted, *muted]
    chosen = client.choose_email(known.address if address is None else address, on=on, muted=silent)
    session.show(chosen)


@click.group()
def webhook() -> None:
    """Where notices about your tenant's people are sent, signed (data owner, operator)."""


@webhook.command("create")
@click.argument("url")
@click.option("--kind", "kinds", multiple=True, help="Such as release.published; all without.")
@with_client
def create_webhook(
    session: Session, client: KaimaClient, url: str, *, kinds: tuple[str, ...]
) -> None:
    """Add a webhook; its secret is shown this once."""
    session.show(client.create_webhook(url, kinds=kinds), *_WEBHOOK)


@webhook.command("list")
@with_client
def list_webhooks(session: Session, client: KaimaClient) -> None:
    """List your tenant's webhooks."""
    session.show_table(client.webhooks(), "id", "url", "kinds", "enabled")


@webhook.command("change")
@click.argument("webhook_id")
@click.option("--url")
@click.option("--kind", "kinds", multiple=True)
@click.option("--enable/--disable", "enabled", default=None)
@with_client
def change_webhook(
    session: Session,
    client: KaimaClient,
    webhook_id: str,
    *,
    url: str | None,
    kinds: tuple[str, ...],
    enabled: bool | None,
) -> None:
    """Change where and what is sent, or stop and start it."""
    changed = client.change_webhook(webhook_id, url=url, kinds=kinds or None, enabled=enabled)
    session.show(changed, *_WEBHOOK)


@webhook.command("delete")
@click.argument("webhook_id")
@with_client
def delete_webhook(session: Session, client: KaimaClient, webhook_id: str) -> None:
    """Forget a webhook; what waits for it is not sent."""
    client.delete_webhook(webhook_id)
    session.show({"deleted": webhook_id})


@webhook.command("rotate")
@click.argument("webhook_id")
@with_client
def rotate_webhook(session: Session, client: KaimaClient, webhook_id: str) -> None:
    """Make another secret; for a day the old one signs as well."""
    session.show(client.rotate_webhook_secret(webhook_id), *_WEBHOOK)


@webhook.command("test")
@click.argument("webhook_id")
@with_client
def test_webhook(session: Session, client: KaimaClient, webhook_id: str) -> None:
    """Queue a test message."""
    session.show(client.test_webhook(webhook_id), *_MESSAGE)


@webhook.command("messages")
@click.argument("webhook_id")
@with_client
def list_messages(session: Session, client: KaimaClient, webhook_id: str) -> None:
    """List what was sent to a webhook or waits for it."""
    session.show_table(client.webhook_messages(webhook_id), *_MESSAGE)


@webhook.command("retry")
@click.argument("webhook_id")
@click.argument("message_id")
@with_client
def retry_message(session: Session, client: KaimaClient, webhook_id: str, message_id: str) -> None:
    """Give a dead message all its tries again."""
    session.show(client.retry_webhook_message(webhook_id, message_id), *_MESSAGE)
