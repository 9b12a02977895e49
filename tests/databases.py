"""Empty databases of both kinds."""

import contextlib
import secrets
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))
"""The parameters of a fixture that runs a module on each database, the slow one apart."""


@contextlib.contextmanager
def fresh_database(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of an empty database; an empty URL means SQLite in the state folder."""
    if kind == "sqlite":
        yield ""
        return
    server = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"t{secrets.token_hex(6)}"
    _execute(server, f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: sa.URL, statement: str) -> None:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
