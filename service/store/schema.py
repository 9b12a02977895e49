"""Run the packaged Alembic migrations on an engine."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from service.store import journal_tables, mapping  # noqa: F401 - they add their tables to the metadata

_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = (
    0x6B61696D61  # "kaima"; two services that start at once migrate one after the other
)


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the schema up to `revision`."""
    _run(engine, revision, up=True)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Bring the schema down to `revision`; `base` removes every table."""
    _run(engine, revision, up=False)


def _run(engine: sa.Engine, revision: str, *, up: bool) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
            )
        config.attributes["connection"] = connection
        (command.upgrade if up else command.downgrade)(config, revision)
