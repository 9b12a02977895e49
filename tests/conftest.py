"""Fixtures that every test may use: real servers, one set per test process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components import ObjectStoreServer, postgres_server, seaweed_server, valkey_server


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module in one process, so that its fixtures are set up once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the redis:// URL of a real Valkey."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    """Yield endpoint and keys of a real S3 server (SeaweedFS)."""
    with seaweed_server(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the SQLAlchemy URL of a real PostgreSQL."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def repository() -> Path:
    """Return the root of the source tree."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """Give each test the umask that it would have alone: some commands narrow their process's."""
    before = os.umask(0o022)
    yield
    os.umask(before)
