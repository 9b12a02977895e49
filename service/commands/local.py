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


_COMPONENTS = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL")


def open_application(state: str) -> "Application":
    """Return the application of the instance in `state`, as its own processes see it.

    Raises: click.UsageError where nothing was ever served; nothing is made there.
    """
    from service.config import Settings
    from service.wiring import build

    os.umask(0o077)  # SQLite may write files beside its database
    return build(Settings.from_environment(_environment_of(Path(state))))


def _environment_of(folder: Path) -> dict[str, str]:
    from service.stack import Stack

    given = {name: value for name, value in os.environ.items() if value}
    if all(name in given for name in _COMPONENTS):
        return {**given, "KAIMA_STATE": str(folder)}  # no embedded component, so no folder of one
    trace = "ports.json" if "DATABASE_URL" in given else "kaima.sqlite3"
    if not (folder / trace).exists():
        raise click.UsageError(
            f"No instance was found in {folder.resolve()}: `kaima serve` never ran there. Name the "
            f"right folder with --state, or start one first: kaima serve --state {folder}"
        )
    return Stack.open(folder).environment()


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
