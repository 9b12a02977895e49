"""`kaima login`, `kaima whoami` and `kaima operator …`: who may talk to a service."""

import click

from service.client import KaimaClient
from service.commands import local
from service.commands.console import Session, with_client, with_session
from service.domain.errors import Conflict
from service.profile import Profile, pin

ROLES = click.Choice(["data_owner", "collaborator", "auditor", "operator"])


@click.command()
@click.option("--url", prompt="Address of the service", help="Such as https://kaima.example.org")
@click.option("--api-key", prompt="API key", hide_input=True, help="Asked for if left out.")
@with_session
def login(session: Session, url: str, api_key: str) -> None:
    """Keep address and API key in the profile, and pin the service's signing key."""
    profile = Profile(url=url.rstrip("/"), api_key=api_key)
    with profile.client() as client:
        me = client.me()
        pin_instance(client)
    path = profile.save()
    click.echo(f"Kept in {path}. You act as {me.user_id} ({', '.join(me.roles)}).")
    del session


@click.command()
@with_client
def whoami(session: Session, client: KaimaClient) -> None:
    """Show who the API key acts for."""
    session.show(client.me())


@click.group()
def operator() -> None:
    """Make tenants, users and API keys."""


@operator.command()
@click.option("--tenant", default="Operators", show_default=True, help="Name of its tenant.")
@click.option("--name", default="operator", show_default=True, help="Name of the account.")
@local.state_option
@with_session
def init(session: Session, tenant: str, name: str, state: str) -> None:
    """Make the first operator account, at the machine's own command line."""
    try:
        created = local.create_first_operator(state, tenant_name=tenant, user_name=name)
    except Conflict as error:
        raise Conflict(
            f"Making an operator was refused: the tenant {tenant!r} exists, so its operator was "
            "made before. With that operator's API key: kaima operator key USER_ID. If the key is "
            "lost, make another operator: kaima operator init --tenant NAME"
        ) from error
    session.show(created)
    if not session.as_json:
        click.echo("This API key is shown once. Keep it, then run: kaima login")


@operator.command()
@click.argument("name")
@with_client
def tenant(session: Session, client: KaimaClient, name: str) -> None:
    """Create a tenant: a hospital, or another organisation."""
    session.show(client.create_tenant(name))


@operator.command()
@click.argument("name")
@click.option("--tenant", "tenant_id", required=True, help="Id of the tenant.")
@click.option("--role", "roles", type=ROLES, multiple=True, required=True)
@with_client
def user(
    session: Session, client: KaimaClient, name: str, tenant_id: str, roles: tuple[str, ...]
) -> None:
    """Create a user and their roles."""
    session.show(client.create_user(name, roles=roles, tenant_id=tenant_id))


@operator.command()
@click.argument("user_id")
@click.option("--scope", "scopes", multiple=True, help="Nothing: all that the roles may do.")
@click.option("--expires-in-days", type=click.IntRange(1, 3650))
@with_client
def key(
    session: Session,
    client: KaimaClient,
    user_id: str,
    scopes: tuple[str, ...],
    expires_in_days: int | None,
) -> None:
    """Create an API key for a user; its token is shown this once."""
    session.show(client.create_api_key(user_id, scopes=scopes, expires_in_days=expires_in_days))


@operator.command("revoke-key")
@click.argument("key_id")
@with_client
def revoke_key(session: Session, client: KaimaClient, key_id: str) -> None:
    """Revoke an API key, and every session that was opened with it."""
    client.revoke_api_key(key_id)
    click.echo(f"The API key {key_id} is revoked.")
    del session


def pin_instance(client: KaimaClient) -> str:
    """Pin the service's signing key at first use, saying so; return its fingerprint."""
    instance = client.instance()
    if pin(client.url, instance.fingerprint):
        click.echo(
            f"First use of {client.url}: its signing key {instance.fingerprint} is now pinned. "
            "Compare it with what its operator tells you by another way.",
            err=True,
        )
    return instance.fingerprint
