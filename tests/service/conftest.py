"""An application on real components, on each database."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.wiring import Application
from tests.components import ObjectStoreServer
from tests.factories import Walk, application_for, remove_buckets, settings_for


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database; an empty URL means a SQLite file in the state folder."""
    if request.param == "sqlite":
        yield ""
        return
    with fresh_postgres(request.getfixturevalue("postgres_url")) as url:
        yield url


class fresh_postgres:  # noqa: N801 - used as a function
    """A database of its own on a running PostgreSQL."""

    def __init__(self, server_url: str) -> None:
        """Remember the server."""
        self._server = sa.make_url(server_url)
        self._name = f"t{secrets.token_hex(6)}"

    def __enter__(self) -> str:
        """Create the database."""
        self._execute(f"CREATE DATABASE {self._name}")
        return self._server.set(database=self._name).render_as_string(hide_password=False)

    def __exit__(self, *_: object) -> None:
        """Drop the database."""
        self._execute(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        engine = sa.create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()


@pytest.fixture
def application(
    tmp_path: Path, object_store: ObjectStoreServer, database_url: str
) -> Iterator[Application]:
    """Yield an application on SQLite, then on PostgreSQL."""
    app = application_for(settings_for(tmp_path, object_store, database_url=database_url))
    yield app
    app.close()
    remove_buckets(app)


@pytest.fixture
def sqlite_application(tmp_path: Path, object_store: ObjectStoreServer) -> Iterator[Application]:
    """Yield an application on SQLite only, for what does not depend on the database."""
    app = application_for(settings_for(tmp_path, object_store))
    yield app
    app.close()
    remove_buckets(app)


@pytest.fixture
def walk(application: Application) -> Walk:
    """Return a tenant with its people."""
    return Walk(application)


@pytest.fixture
def sqlite_walk(sqlite_application: Application) -> Walk:
    """Return a tenant with its people, on SQLite."""
    return Walk(sqlite_application)
