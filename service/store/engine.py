"""Connect to SQLite or PostgreSQL, so that both behave alike where it matters."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

BUSY_SECONDS = 30
"""How long a writer waits for another one on SQLite."""


def connect(url: str) -> sa.Engine:
    """Return an engine. On SQLite: WAL, foreign keys, and writers that queue at BEGIN.

    BEGIN IMMEDIATE takes the one write lock before anything is read, so a read that leads to a
    write can never be stale; with the default, two such readers deadlock and one fails at COMMIT.
    """
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=27)
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None  # or the driver would send BEGIN itself
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a charge that was confirmed survives power loss
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
