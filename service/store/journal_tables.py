"""The table of the Merkle tree over the journal's rows."""

import sqlalchemy as sa

from service.store.tables import metadata

# Complete subtrees above the leaves; a leaf is the journal's own digest, so it is not kept twice.
journal_nodes = sa.Table(
    "journal_nodes",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
