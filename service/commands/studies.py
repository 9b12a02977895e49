"""`kaima study …`: plan a reader study, lock it, invite readers, read its result."""

import json
from pathlib import Path
from typing import Any

import click

from service.client import KaimaClient
from service.commands.console import Session, with_client
from service.study_resources import NewStudyPlan

_SHOWN = (
    "id", "name", "state", "audit_job_id", "plan", "plan_digest", "consents", "readers", "job_id",
    "result_digest",
)  # fmt: skip


@click.group()
def study() -> None:
    """Ask readers whether they can tell synthetic from real."""


@study.command()
@click.argument("audit_job_id")
@click.option("--name", required=True, help="A name for you; readers do not see it.")
@click.option("--question", required=True, help="What the study is to find out.")
@click.option("--readers", type=int, default=5, show_default=True)
@click.option("--cases", "cases_per_class", type=int, default=30, show_default=True)
@click.option(
    "--margin", type=float, default=0.1, show_default=True, help="Equivalence: .5 ± this."
)
@click.option("--alpha", type=float, default=0.05, show_default=True)
@click.option("--pairs", is_flag=True, help="Show pairs of which one is real.")
@click.option("--grade", "scale", multiple=True, help="A grade of phase A, lowest first; repeat.")
@click.option("--grades-are-labels", "scale_is_the_label", is_flag=True)
@with_client
def create(
    session: Session,
    client: KaimaClient,
    /,
    *,
    audit_job_id: str,
    name: str,
    pairs: bool,
    scale: tuple[str, ...],
    **plan: Any,
) -> None:
    """Draft a study of an audited candidate."""
    plan |= {
        "endpoint": "pairs_correct" if pairs else "area_under_roc",
        "scale": list(scale),
    }
    session.show(client.create_study(audit_job_id, name=name, plan=plan), *_SHOWN)


@study.command("list")
@with_client
def list_(session: Session, client: KaimaClient) -> None:
    """List your tenant's studies."""
    session.show_table(client.studies(), "id", "name", "state", "audit_job_id", "result_digest")


@study.command()
@click.argument("study_id")
@with_client
def show(session: Session, client: KaimaClient, study_id: str) -> None:
    """Show a study and how far its readers are."""
    session.show(client.study(study_id), *_SHOWN)


@study.command()
@click.argument("study_id")
@click.option("--name", help="Another name.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Such as readers=6.")
@with_client
def revise(
    session: Session,
    client: KaimaClient,
    study_id: str,
    *,
    name: str | None,
    changes: tuple[str, ...],
) -> None:
    """Change the plan of a draft; a value is read as JSON, or else as text."""
    found = client.study(study_id)
    known = NewStudyPlan.model_fields
    plan = {entry: value for entry, value in found.plan.items() if entry in known}
    plan |= dict(_entry(text) for text in changes)
    session.show(client.revise_study(study_id, name=name or found.name, plan=plan), *_SHOWN)


@study.command()
@click.argument("study_id")
@with_client
def register(session: Session, client: KaimaClient, study_id: str) -> None:
    """Lock the plan by its digest and ask two auditors for their consent."""
    session.show(client.register_study(study_id), *_SHOWN)


@study.command()
@click.argument("study_id")
@click.option("--plan", "plan_digest", required=True, help="Digest of the plan that you have read.")
@with_client
def consent(session: Session, client: KaimaClient, study_id: str, plan_digest: str) -> None:
    """Agree, as an auditor, that real records of held-out persons are shown to readers."""
    session.show(client.consent_to_study(study_id, plan_digest=plan_digest), *_SHOWN)


@study.command("draw-again")
@click.argument("study_id")
@with_client
def draw_again(session: Session, client: KaimaClient, study_id: str) -> None:
    """Draw the cases once more after it failed."""
    session.show(client.draw_study_again(study_id), *_SHOWN)


@study.command()
@click.argument("study_id")
@click.option("--name", required=True, help="How you call this reader; not in the result.")
@click.option("--days", type=int, default=21, show_default=True)
@with_client
def invite(session: Session, client: KaimaClient, study_id: str, name: str, days: int) -> None:
    """Invite a reader; the link works once and is shown this once."""
    found = client.invite_reader(study_id, name=name, days=days)
    session.show({"reader": found.reader.id, "link": found.link})


@study.command("new-link")
@click.argument("study_id")
@click.argument("reader_id")
@with_client
def new_link(session: Session, client: KaimaClient, study_id: str, reader_id: str) -> None:
    """Give a reader a new link; the old session ends, the answers stay."""
    found = client.renew_reader_link(study_id, reader_id)
    session.show({"reader": found.reader.id, "link": found.link})


@study.command("withdraw-reader")
@click.argument("study_id")
@click.argument("reader_id")
@with_client
def withdraw_reader(session: Session, client: KaimaClient, study_id: str, reader_id: str) -> None:
    """End a reader's part; what they answered falls under the registered exclusion rule."""
    session.show(client.withdraw_reader(study_id, reader_id))


@study.command()
@click.argument("study_id")
@with_client
def close(session: Session, client: KaimaClient, study_id: str) -> None:
    """End the reading, analyse it once, and lock the result."""
    session.show(client.close_study(study_id), *_SHOWN)


@study.command()
@click.argument("study_id")
@with_client
def cancel(session: Session, client: KaimaClient, study_id: str) -> None:
    """End a study without a result."""
    session.show(client.cancel_study(study_id), *_SHOWN)


@study.command()
@click.argument("study_id")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the document.")
@with_client
def result(session: Session, client: KaimaClient, study_id: str, out: Path | None) -> None:
    """Show the result of a closed study in words, or write the whole document."""
    found = client.study_result(study_id)
    if out is not None:
        out.write_text(json.dumps(found.result, indent=1), encoding="utf-8")
    if session.as_json:
        session.show(found.result)
        return
    for sentence in (*found.result["sentences"], *found.result["limits"]):
        click.echo(sentence)


@study.command()
@click.option("--readers", type=int, required=True)
@click.option("--cases", "cases_per_class", type=int, required=True, help="Of each class.")
@click.option("--margin", type=float, default=0.1, show_default=True)
@click.option("--case-sd", type=float, default=0.5, show_default=True)
@click.option("--reader-sd", type=float, default=0.03, show_default=True)
@with_client
def power(session: Session, client: KaimaClient, /, **asked: float) -> None:
    """Say how likely a study of this size shows equivalence, if readers guess."""
    session.show(client.study_power(**asked))


def _entry(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE.  Raises: click.UsageError."""
    name, equals, value = text.partition("=")
    if not equals or name not in NewStudyPlan.model_fields:
        known = ", ".join(NewStudyPlan.model_fields)
        raise click.UsageError(f"Write --set NAME=VALUE with one of {known}, not {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
