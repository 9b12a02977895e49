"""An application on real components, on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.wiring import Application
from tests.components import ObjectStoreServer
from tests.databases import fresh_database
from tests.factories import Walk, running_application


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database. Modules where the database matters override it to run on both."""
    with fresh_database(request.param, request) as url:
        yield url


@pytest.fixture
def application(
    tmp_path: Path, object_store: ObjectStoreServer, database_url: str
) -> Iterator[Application]:
    """Yield an application on SQLite, then on PostgreSQL."""
    with running_application(tmp_path, object_store, database_url=database_url) as app:
        yield app


@pytest.fixture
def sqlite_application(tmp_path: Path, object_store: ObjectStoreServer) -> Iterator[Application]:
    """Yield an application on SQLite only, for what does not depend on the database."""
    with running_application(tmp_path, object_store) as app:
        yield app


@pytest.fixture
def walk(application: Application) -> Walk:
    """Return a tenant with its people."""
    return Walk(application)


@pytest.fixture
def sqlite_walk(sqlite_application: Application) -> Walk:
    """Return a tenant with its people, on SQLite."""
    return Walk(sqlite_application)
