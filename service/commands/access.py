"""`kaima access …` and `kaima agreement …`: ask for releases, decide, and what is agreed to."""

import json
from datetime import datetime
from typing import IO, Literal

import click

from service.access_resources import NewDeclaration
from service.client import KaimaClient
from service.commands.console import Session, with_client
from service.domain.access_fields import FieldKind, RequestField

_SHOWN = (
    "id", "release_id", "release_name", "release_version", "user_name", "user_tenant", "state",
    "answers", "reason", "expires_at", "end_reason", "created_at",
)  # fmt: skip
_ROW = ("id", "release_name", "release_version", "user_name", "user_tenant", "state", "expires_at")


@click.group()
def access() -> None:
    """Ask for releases that are given on request, and decide who gets them."""


@access.command()
@click.argument("release_id")
@click.option("--answer", "answers", multiple=True, metavar="NAME=TEXT", help="May be repeated.")
@click.option("--accept-agreement", is_flag=True, help="You have read the agreement and accept it.")
@with_client
def request(
    session: Session,
    client: KaimaClient,
    release_id: str,
    answers: tuple[str, ...],
    *,
    accept_agreement: bool,
) -> None:
    """Ask for a release, or for your access to be renewed; without answers, show the questions."""
    policy = client.access_policy(release_id)
    if not answers and policy.fields:
        session.show_table(policy.fields, "name", "label", "kind", "required", "choices")
        return
    number, sha256 = None, None
    if policy.agreement_id and accept_agreement:
        current = client.agreement(policy.agreement_id).current
        number, sha256 = (current.number, current.sha256) if current else (None, None)
    made = client.request_access(
        release_id,
        answers=_answers(answers, policy.fields),
        agreement_number=number,
        agreement_sha256=sha256,
    )
    session.show(made, *_SHOWN)


@access.command()
@click.argument("words", nargs=-1)
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@with_client
def search(
    session: Session, client: KaimaClient, words: tuple[str, ...], filters: tuple[str, ...]
) -> None:
    """Search the catalogue; filters: label, modality, tier, licence, duo, epsilon_max, order."""
    given = dict(_pair(text, "--filter") for text in filters)
    session.show_table(
        client.search_catalogue(" ".join(words), **given),
        "release_id", "name", "version", "state", "tier", "epsilon", "licence", "mode",
    )  # fmt: skip


@access.command("list")
@click.option("--incoming", is_flag=True, help="Those that your tenant decides on.")
@click.option("--state", help="submitted, approved, rejected, withdrawn, expired or revoked.")
@click.option("--release", "release_id", help="Of one release.")
@with_client
def list_(
    session: Session,
    client: KaimaClient,
    *,
    incoming: bool,
    state: str | None,
    release_id: str | None,
) -> None:
    """List your requests and grants, or those that your tenant decides on."""
    whose: Literal["mine", "incoming"] = "incoming" if incoming else "mine"
    found = client.access_requests(whose=whose, state=state, release_id=release_id)
    session.show_table(found, *_ROW)


@access.command()
@click.argument("request_id")
@with_client
def show(session: Session, client: KaimaClient, request_id: str) -> None:
    """Show a request with its answers."""
    session.show(client.access_request(request_id), *_SHOWN)


@access.command()
@click.argument("request_id")
@click.option("--days", type=int, help="For how long; the release's policy says otherwise.")
@click.option("--reason", default="", help="Read by who asked.")
@with_client
def approve(
    session: Session, client: KaimaClient, request_id: str, days: int | None, reason: str
) -> None:
    """Grant access."""
    session.show(client.approve_access(request_id, days=days, reason=reason), *_SHOWN)


@access.command()
@click.argument("request_id")
@click.option("--reason", required=True, help="Read by who asked.")
@with_client
def reject(session: Session, client: KaimaClient, request_id: str, reason: str) -> None:
    """Refuse access."""
    session.show(client.reject_access(request_id, reason=reason), *_SHOWN)


@access.command()
@click.argument("request_id")
@with_client
def withdraw(session: Session, client: KaimaClient, request_id: str) -> None:
    """Take back your own request."""
    session.show(client.withdraw_access_request(request_id), *_SHOWN)


@access.command()
@click.argument("request_id")
@click.option("--reason", required=True, help="Read by whose access ends.")
@with_client
def revoke(session: Session, client: KaimaClient, request_id: str, reason: str) -> None:
    """End a grant at once."""
    session.show(client.revoke_access(request_id, reason=reason), *_SHOWN)


@access.command()
@click.argument("release_id")
@click.option("--mode", type=click.Choice(["open", "by_request"]), help="Change it.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME:KIND:LABEL[:A|B]",
    help="A question; KIND is text, choice, checkbox, date or country. May be repeated.",
)
@click.option("--agreement", "agreement_id", help="Id of the agreement it needs.")
@click.option("--days", type=int, default=365, show_default=True, help="How long a grant lasts.")
@with_client
def policy(
    session: Session,
    client: KaimaClient,
    release_id: str,
    *,
    mode: Literal["open", "by_request"] | None,
    fields: tuple[str, ...],
    agreement_id: str | None,
    days: int,
) -> None:
    """Show who may have a release; with --mode, choose it."""
    if mode is None:
        session.show(client.access_policy(release_id))
        return
    asked = [_field(text) for text in fields]
    session.show(
        client.set_access_policy(
            release_id, mode=mode, fields=asked, agreement_id=agreement_id, grant_days=days
        )
    )


@access.command()
@click.argument("release_id")
@with_client
def log(session: Session, client: KaimaClient, release_id: str) -> None:
    """List the links to a release's bundle that were handed out."""
    session.show_table(
        client.download_log(release_id),
        "at", "user_name", "user_id", "tenant", "release_version", "grant_id",
    )  # fmt: skip


@access.command()
@click.argument("release_id")
@click.option("--from", "source", type=click.File("r", encoding="utf-8"), help="A JSON file.")
@with_client
def declare(session: Session, client: KaimaClient, release_id: str, source: IO[str] | None) -> None:
    """Show licence, data use terms and citation of a release; with --from, declare a draft's."""
    if source is not None:
        declared = NewDeclaration.model_validate(json.load(source))
        session.show(client.declare_release(release_id, declared))
        return
    session.show(client.declaration(release_id))


@click.group()
def agreement() -> None:
    """Write, read and accept agreements; every version is kept."""


@agreement.command("list")
@with_client
def list_agreements(session: Session, client: KaimaClient) -> None:
    """List your tenant's agreements."""
    session.show_table(client.agreements(), "id", "name")


@agreement.command("show")
@click.argument("agreement_id")
@with_client
def show_agreement(session: Session, client: KaimaClient, agreement_id: str) -> None:
    """Show the version in force."""
    found = client.agreement(agreement_id)
    if session.as_json or found.current is None:
        session.show(found)
        return
    session.show({"name": found.name, "accepted": str(found.accepted_at or "not yet")})
    session.show(found.current, "number", "effective_from", "sha256")
    click.echo("\n" + found.current.text)


@agreement.command()
@click.argument("name")
@click.option("--text-file", type=click.File("r", encoding="utf-8"), required=True)
@click.option("--effective-from", type=click.DateTime(), help="In UTC; now if left out.")
@with_client
def create(
    session: Session,
    client: KaimaClient,
    name: str,
    text_file: IO[str],
    effective_from: datetime | None,
) -> None:
    """Write the first version of an agreement."""
    made = client.create_agreement(name, text=text_file.read(), effective_from=effective_from)
    session.show(made, "id", "name")


@agreement.command("new-version")
@click.argument("agreement_id")
@click.option("--text-file", type=click.File("r", encoding="utf-8"), required=True)
@click.option("--effective-from", type=click.DateTime(), help="In UTC; now if left out.")
@with_client
def new_version(
    session: Session,
    client: KaimaClient,
    agreement_id: str,
    text_file: IO[str],
    effective_from: datetime | None,
) -> None:
    """Write another version; whoever accepted an older one is asked again."""
    made = client.add_agreement_version(
        agreement_id, text=text_file.read(), effective_from=effective_from
    )
    session.show({"id": made.id, "name": made.name, "versions": len(made.versions)})


@agreement.command()
@click.argument("agreement_id")
@click.option("--number", type=int, required=True, help="Of the version that you have read.")
@with_client
def accept(session: Session, client: KaimaClient, agreement_id: str, number: int) -> None:
    """Accept the version in force."""
    found = client.agreement(agreement_id)
    if found.current is None:
        raise click.UsageError("No version of this agreement is in force.")
    session.show(client.accept_agreement(agreement_id, number=number, sha256=found.current.sha256))


def _answers(given: tuple[str, ...], fields: list[RequestField]) -> dict[str, str | bool]:
    ticked = {field.name for field in fields if field.kind is FieldKind.CHECKBOX}
    answers: dict[str, str | bool] = {}
    for text in given:
        name, value = _pair(text, "--answer")
        answers[name] = value.lower() in {"yes", "true", "1"} if name in ticked else value
    return answers


def _pair(text: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise click.UsageError(f"Write {option} NAME=VALUE, not {text!r}.")
    return name, value


def _field(text: str) -> RequestField:
    name, _, rest = text.partition(":")
    kind, _, rest = rest.partition(":")
    label, _, choices = rest.partition(":")
    return RequestField.model_validate(
        {
            "name": name,
            "kind": kind,
            "label": label,
            "choices": tuple(choices.split("|")) if choices else (),
        }
    )
