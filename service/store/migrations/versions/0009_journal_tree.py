"""Keep the Merkle tree over the journal, and what the trail is filtered by in columns of its own.

The rows that are there already are read once, and each gets its place in the tree.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BATCH = 10_000
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_INDEXES = {
    "ix_journal_subject_seq": ["subject", "seq"],
    "ix_journal_event_seq": ["event", "seq"],
    "ix_journal_actor_seq": ["actor", "seq"],
    "ix_journal_at": ["at"],
}


def upgrade() -> None:
    """Create the tree's table and the columns, and fill both."""
    op.create_table(
        "journal_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", _SEQ, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name=op.f("pk_journal_nodes")),
        sqlite_with_rowid=False,
    )
    op.add_column("journal", sa.Column("event", sa.String(64), nullable=False, server_default=""))
    op.add_column("journal", sa.Column("actor", sa.String(64)))
    op.add_column("journal", sa.Column("at", sa.DateTime(timezone=True)))
    op.add_column(
        "journal_head",
        sa.Column("signed_seq", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("journal_head", sa.Column("signed_at", sa.DateTime(timezone=True)))
    _fill()
    op.drop_index(op.f("ix_journal_subject"), table_name="journal")
    for name, columns in _INDEXES.items():
        op.create_index(op.f(name), "journal", columns)


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.drop_index(op.f(name), table_name="journal")
    op.create_index(op.f("ix_journal_subject"), "journal", ["subject"])
    for column in ("signed_at", "signed_seq"):
        op.drop_column("journal_head", column)
    for column in ("at", "actor", "event"):
        op.drop_column("journal", column)
    op.drop_table("journal_nodes")


def _fill() -> None:
    connection = op.get_bind()
    journal = sa.table(
        "journal",
        *(sa.column(name) for name in ("seq", "row", "digest", "event", "actor")),
        sa.column("at", sa.DateTime(timezone=True)),
    )
    nodes = sa.table("journal_nodes", *(sa.column(n) for n in ("level", "position", "digest")))
    update = (
        sa.update(journal)
        .where(journal.c.seq == sa.bindparam("row_seq"))
        .values({name: sa.bindparam(f"new_{name}") for name in ("event", "actor", "at")})
    )
    edge: list[bytes] = []
    after = 0
    while True:
        statement = sa.select(journal.c.seq, journal.c.row, journal.c.digest)
        statement = statement.where(journal.c.seq > after).order_by(journal.c.seq).limit(_BATCH)
        found = connection.execute(statement).all()
        if not found:
            return
        connection.execute(update, [_filters(row.seq, json.loads(row.row)) for row in found])
        made = [node for row in found for node in _nodes(edge, row.seq - 1, row.digest)]
        if made:
            connection.execute(sa.insert(nodes), made)
        after = found[-1].seq


def _filters(seq: int, document: dict[str, Any]) -> dict[str, Any]:
    body = document["body"]
    return {
        "row_seq": seq,
        "new_event": str(body.get("event", ""))[:64],
        "new_actor": body.get("actor"),
        "new_at": datetime.fromisoformat(document["at"]),
    }


def _nodes(edge: list[bytes], size: int, digest: str) -> Iterator[dict[str, Any]]:
    """Yield the complete subtrees that leaf number `size` ends; `edge` holds those open so far."""
    level, found = 0, hashlib.sha256(b"\x00" + bytes.fromhex(digest)).digest()
    while size >> level & 1:
        found = hashlib.sha256(b"\x01" + edge.pop() + found).digest()
        level += 1
        yield {"level": level, "position": size >> level, "digest": found}
    edge.append(found)
