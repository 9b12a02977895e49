"""`kaima operator invite|users|roles|…` and `kaima account …`: who may sign in, and where."""

import click

from service.client import KaimaClient
from service.commands.accounts import ROLES, operator
from service.commands.console import Session, with_client

_ONCE = "The link is good once and shown only now. Hand it over by a way that reaches nobody else."


@operator.command()
@click.argument("name")
@click.option("--tenant", "tenant_id", required=True, help="Id of the tenant.")
@click.option("--role", "roles", type=ROLES, multiple=True, required=True)
@click.option("--sign-in-name", required=True, help="An e-mail address, for example.")
@with_client
def invite(
    session: Session,
    client: KaimaClient,
    *,
    name: str,
    tenant_id: str,
    roles: tuple[str, ...],
    sign_in_name: str,
) -> None:
    """Create a user and the link with which they choose their own password."""
    session.show(client.invite(name, roles=roles, tenant_id=tenant_id, sign_in_name=sign_in_name))
    click.echo(_ONCE, err=True)


@operator.command("invite-again")
@click.argument("user_id")
@click.option("--sign-in-name", help="For a user who had API keys only.")
@with_client
def invite_again(
    session: Session, client: KaimaClient, user_id: str, sign_in_name: str | None
) -> None:
    """Make a link for a user who has no password yet, or lost it."""
    session.show(client.invite_again(user_id, sign_in_name=sign_in_name))
    click.echo(_ONCE, err=True)


@operator.command("reset-factors")
@click.argument("user_id")
@with_client
def reset_factors(session: Session, client: KaimaClient, user_id: str) -> None:
    """Ask to remove a user's second factors; another operator confirms it, or it waits."""
    session.show(client.request_factor_reset(user_id))


@operator.command("finish-reset")
@click.argument("user_id")
@click.option("--sign-in-name", help="For a user who had API keys only.")
@with_client
def finish_reset(
    session: Session, client: KaimaClient, user_id: str, sign_in_name: str | None
) -> None:
    """Confirm the removal of second factors, or do it after its time; make a link."""
    session.show(client.finish_factor_reset(user_id, sign_in_name=sign_in_name))
    click.echo(_ONCE, err=True)


@operator.command("cancel-reset")
@click.argument("user_id")
@with_client
def cancel_reset(session: Session, client: KaimaClient, user_id: str) -> None:
    """Keep a user's second factors after all."""
    client.cancel_factor_reset(user_id)
    click.echo("The second factors stay.")
    del session


@operator.command("users")
@with_client
def list_users(session: Session, client: KaimaClient) -> None:
    """List the users of every tenant."""
    session.show_table(client.users(), "id", "name", "roles", "tenant_id")


@operator.command("show-user")
@click.argument("user_id")
@with_client
def show_user(session: Session, client: KaimaClient, user_id: str) -> None:
    """Show a user and how they sign in."""
    session.show(client.user(user_id))


@operator.command("roles")
@click.argument("user_id")
@click.option("--role", "roles", type=ROLES, multiple=True, required=True)
@with_client
def change_roles(
    session: Session, client: KaimaClient, user_id: str, roles: tuple[str, ...]
) -> None:
    """Give a user other roles; their sessions end."""
    session.show(client.change_roles(user_id, roles))


@operator.command("disable")
@click.argument("user_id")
@with_client
def disable(session: Session, client: KaimaClient, user_id: str) -> None:
    """Stop a user's sessions and API keys at once."""
    session.show(client.disable_user(user_id))


@operator.command("enable")
@click.argument("user_id")
@with_client
def enable(session: Session, client: KaimaClient, user_id: str) -> None:
    """Let a disabled user in again."""
    session.show(client.enable_user(user_id))


@operator.command("link")
@click.argument("user_id")
@click.option("--issuer", required=True)
@click.option("--subject", required=True, help="The issuer's `sub`, never an e-mail address.")
@with_client
def link(session: Session, client: KaimaClient, user_id: str, issuer: str, subject: str) -> None:
    """Let a user sign in with an account elsewhere (OpenID Connect)."""
    session.show(client.link_identity(user_id, issuer=issuer, subject=subject))


@operator.command("unlink")
@click.argument("identity_id")
@with_client
def unlink(session: Session, client: KaimaClient, identity_id: str) -> None:
    """Take the link to an account elsewhere away."""
    client.unlink_identity(identity_id)
    click.echo(f"The link {identity_id} is taken away.")
    del session


@click.group()
def account() -> None:
    """Look at your own sessions and keys, and end them."""


@account.command("show")
@with_client
def show_account(session: Session, client: KaimaClient) -> None:
    """Show where you are signed in, and your API keys."""
    session.show(client.own_account())


@account.command("sign-out")
@click.argument("session_id")
@with_client
def sign_out(session: Session, client: KaimaClient, session_id: str) -> None:
    """Sign a browser of yours out."""
    client.end_session(session_id)
    click.echo(f"The session {session_id} has ended.")
    del session


@account.command("keep-factors")
@with_client
def keep_factors(session: Session, client: KaimaClient) -> None:
    """Cancel an operator's request to remove your second factors."""
    client.cancel_factor_reset(client.me().user_id)
    click.echo("Your second factors stay.")
    del session


@account.command("revoke-key")
@click.argument("key_id")
@with_client
def revoke_own_key(session: Session, client: KaimaClient, key_id: str) -> None:
    """Revoke an API key of your own."""
    client.revoke_own_key(key_id)
    click.echo(f"The API key {key_id} is revoked.")
    del session
