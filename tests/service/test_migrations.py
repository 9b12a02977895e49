"""Migrations run up and down on both databases, and make exactly the declared tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.store import schema, tables
from service.store.engine import connect
from tests.databases import fresh_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database of each kind: what is tested here depends on it."""
    with fresh_database(request.param, request) as url:
        yield url


def engine_for(database_url: str, folder: Path) -> sa.Engine:
    """Return an engine on an empty database."""
    return connect(database_url or f"sqlite+pysqlite:///{folder / 'empty.sqlite3'}")


def names(engine: sa.Engine) -> set[str]:
    """Return the names of the tables that exist."""
    return set(sa.inspect(engine).get_table_names())


def test_the_migrations_make_the_declared_tables(database_url: str, tmp_path: Path) -> None:
    engine = engine_for(database_url, tmp_path)
    schema.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        differences = compare_metadata(context, tables.metadata)
    engine.dispose()
    assert differences == []


def test_down_removes_everything_and_up_works_again(database_url: str, tmp_path: Path) -> None:
    engine = engine_for(database_url, tmp_path)
    schema.upgrade(engine)
    schema.downgrade(engine, "base")
    assert names(engine) <= {"alembic_version"}
    schema.upgrade(engine)
    schema.upgrade(engine)
    assert set(tables.metadata.tables) <= names(engine)
    with engine.connect() as connection:
        head = connection.execute(sa.select(tables.journal_head)).one()
    engine.dispose()
    assert (head.seq, head.digest) == (0, "0" * 64)


def test_older_cohorts_keep_the_reference_rate_of_their_first_dataset(
    database_url: str, tmp_path: Path
) -> None:
    engine = engine_for(database_url, tmp_path)
    schema.upgrade(engine, "0002")
    cohort = {"budget_epsilon": Decimal(1), "budget_delta": Decimal("0.00001"), "rule": "basic"}
    at = {"created_at": datetime(2026, 1, 1, tzinfo=UTC)}
    rate = tables.cohorts.c.reference_rate.name
    columns = [column for column in tables.cohorts.c if column.name != rate]
    older = sa.table("cohorts", *(sa.column(column.name, column.type) for column in columns))
    dataset = {"name": "n", "purpose": "p", "declared": {"declared_count": 4000}, "created_by": "u"}
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.tenants).values(id="ten", name="one", **at))
        connection.execute(sa.insert(older).values(id="coh", tenant_id="ten", **cohort, **at))
        owner = {"id": "dst", "tenant_id": "ten", "cohort_id": "coh"}
        connection.execute(sa.insert(tables.datasets).values(**owner, **dataset, **at))
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(tables.cohorts.c.reference_rate)).scalar() == 0.125
    schema.downgrade(engine, "0002")
    schema.upgrade(engine)
    engine.dispose()


def test_sqlite_waits_for_writers_and_keeps_foreign_keys(tmp_path: Path) -> None:
    engine = engine_for("", tmp_path)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    engine.dispose()
