"""What is done at the machine's own command line, beside the HTTP API: first account, journal.

These need the server's packages; nothing of them is imported before such a command runs.
"""

# ruff: noqa: PLC0415 - the base install lacks what these commands import, so they import it late

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from service.wiring import Application

state_option = click.option(
    "--state",
    default=lambda: os.environ.get("KAIMA_STATE", ".kaima"),
    show_default="$KAIMA_STATE or .kaima",
    help="Folder of the instance.",
)


def open_application(state: str) -> "Application":
    """Return the application of the instance in `state`, as its own processes see it."""
    from service.config import Settings
    from service.stack import Stack
    from service.wiring import build

    environment = Stack.open(Path(state)).environment()
    return build(Settings.from_environment(environment))


def create_first_operator(state: str, *, tenant_name: str, user_name: str) -> dict[str, Any]:
    """Create a tenant, its operator and an API key; return their ids and the key's token."""
    from service.domain.accounts import BOOTSTRAP, Role
    from service.operations import accounts

    application = open_application(state)
    with application.uow() as uow:
        tenant = accounts.create_tenant(uow, BOOTSTRAP, name=tenant_name)
        user = accounts.create_user(
            uow, BOOTSTRAP, tenant_id=tenant.id, name=user_name, roles=[Role.OPERATOR]
        )
        api_key, token = accounts.create_api_key(uow, BOOTSTRAP, user_id=user.id)
        return {
            "tenant_id": tenant.id,
            "user_id": user.id,
            "api_key_id": api_key.id,
            "api_key": token,
        }


def verify_journal(state: str) -> list[str]:
    """Return one sentence per problem of the journal."""
    from service.operations import journal

    with open_application(state).uow(read_only=True) as uow:
        return journal.verify(uow)


def replay_journal(state: str) -> str:
    """Put back what object storage holds and the database lost; return what was done."""
    from service.domain.accounts import BOOTSTRAP
    from service.operations import journal

    with open_application(state).uow() as uow:
        report = journal.replay(uow, BOOTSTRAP)
    return (
        f"{report.restored_rows} rows were restored and {report.reattached_rows} written again; "
        f"cohorts reopened: {', '.join(report.reopened_cohorts) or 'none'}; "
        f"reservations closed: {', '.join(report.closed_reservations) or 'none'}."
    )


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document. It depends on no database, key or bucket of an instance."""
    import tempfile

    from service.app import create_app
    from service.config import Settings
    from service.wiring import build

    with tempfile.TemporaryDirectory() as folder:
        application = build(Settings(state=Path(folder)))
        document: dict[str, Any] = create_app(application).api_doc
    return document
