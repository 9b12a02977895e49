"""Fill an empty instance with thousands of releases and a million trail events, in bulk.

Nothing is walked through the operations, which would take days; but the rows are of the shapes that
the operations write, the journal's chain and its tree are valid, and `kaima journal verify` agrees.
One release is far more popular than the others: pages must not slow down for it.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.service_rows import START, Rows
from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.operations import accounts
from service.store import journal, journal_tree, listings, tables
from service.store.journal import Entry, Row
from service.store.journal_tables import journal_nodes
from service.wiring import Application

BATCH = 10_000


@dataclass(frozen=True)
class Seeded:
    """Who is there, and one thing of each kind to look at."""

    actors: dict[str, Actor]
    things: dict[str, str]
    releases: int
    events: int


def seed(application: Application, *, releases: int, events: int) -> Seeded:
    """Fill an empty database; returns after the last row is committed."""
    actors = _people(application)
    made = Rows(actors, releases)
    with application.engine.begin() as connection:
        for table, rows in made.tables():
            _insert(connection, table, rows)
        listing = [listings.listing_of(_Named(row)) for row in made.releases]
        _insert(connection, tables.metadata.tables["listings"], listing)
    with application.engine.begin() as connection:
        written = _write_journal(connection, made.entries(events))
    with application.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # As an operator's database does by itself (autovacuum), or is told to.
        is_sqlite = application.engine.dialect.name == "sqlite"
        connection.exec_driver_sql("ANALYZE" if is_sqlite else "VACUUM ANALYZE")
    return Seeded(actors, made.things(), releases, written)


def _people(application: Application) -> dict[str, Actor]:
    roles = {
        "data_owner": Role.DATA_OWNER,
        "auditor": Role.AUDITOR,
        "second auditor": Role.AUDITOR,
        "collaborator": Role.COLLABORATOR,
        "operator": Role.OPERATOR,
    }
    with application.uow() as uow:
        tenant = accounts.create_tenant(uow, BOOTSTRAP, name="Seeded hospital")
        uow.session.flush()
        users = {
            name: accounts.create_user(uow, BOOTSTRAP, tenant_id=tenant.id, name=name, roles=[role])
            for name, role in roles.items()
        }
        uow.session.flush()
        return {name: accounts.load_actor(uow, user_id=user.id) for name, user in users.items()}


class _Named:
    """A row whose columns are read as attributes, as an entity's are."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return self._row.get(name)


def _write_journal(connection: sa.Connection, entries: Iterable[Entry]) -> int:
    """Append entries to the chain and the tree, with the indexes made afterwards."""
    session = Session(connection)
    position = journal.position(session)
    frontier = journal_tree.frontier_at(session, position.seq)
    indexes = list(tables.journal.indexes)
    for index in indexes:
        index.drop(connection)
    seq, digest = position.seq, position.digest
    stream = iter(entries)
    while batch := list(itertools.islice(stream, BATCH)):
        rows: list[Row] = []
        for entry in batch:
            seq += 1
            rows.append(_row(entry, seq=seq, previous=digest))
            digest = rows[-1].digest
        nodes = [value for row in rows for value in journal_tree.node_values(frontier, row.digest)]
        _insert(connection, tables.journal, [journal.row_values(row) for row in rows])
        _insert(connection, journal_nodes, nodes)
    for index in indexes:
        index.create(connection)
    connection.execute(sa.update(tables.journal_head).values(seq=seq, digest=digest))
    return seq


def _row(entry: Entry, *, seq: int, previous: str) -> Row:
    """Return a row as `journal.make_row` does, faster: these texts are ASCII without floats."""
    document = {
        "at": (START + timedelta(seconds=seq)).isoformat(),
        "body": entry.body,
        "kind": entry.kind,
        "previous": previous,
        "seq": seq,
        "subject": entry.subject,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return Row(seq, entry.kind, entry.subject, text, hashlib.sha256(text.encode()).hexdigest())


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), BATCH):
        connection.execute(sa.insert(table), rows[start : start + BATCH])
