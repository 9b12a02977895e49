"""The Merkle tree over the journal's rows, kept as they are appended: nothing is ever rehashed.

Leaf number seq - 1 is the digest of row seq. Every complete subtree above it is one row of
`journal_nodes`, written in the transaction that completes it: one on average for each row of the
journal. So appending, the root at any size, and every proof read O(log n) rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.domain import merkle
from service.domain.merkle import Frontier, Node, Range
from service.store import tables
from service.store.journal_tables import journal_nodes

_nodes = journal_nodes
_rows = tables.journal


def leaf_of(digest: str) -> bytes:
    """Return the leaf's hash of the row with this digest."""
    return merkle.leaf_hash(bytes.fromhex(digest))


def extend(session: Session, *, size: int, digests: Sequence[str]) -> None:
    """Add rows' digests to a tree of `size` leaves, inside the caller's transaction."""
    frontier = frontier_at(session, size)
    made = [value for digest in digests for value in node_values(frontier, digest)]
    if made:
        session.execute(sa.insert(_nodes), made)


def node_values(frontier: Frontier, digest: str) -> list[dict[str, Any]]:
    """Add one row's digest; return the values of the nodes above it that it completes."""
    return [
        {"level": level, "position": position, "digest": found}
        for (level, position), found in frontier.add(leaf_of(digest))
        if level
    ]


def frontier_at(session: Session, size: int) -> Frontier:
    """Return the right edge of the tree over the first `size` rows."""
    nodes = merkle.cover(0, size)
    found = hashes(session, nodes)
    return Frontier(size, [found[node] for node in nodes])


def root_at(session: Session, size: int) -> bytes:
    """Return the root over the first `size` rows."""
    return frontier_at(session, size).root()


def inclusion_path(session: Session, seq: int, *, size: int) -> list[bytes]:
    """Return what leads from row `seq` to the root over the first `size` rows, leaf first."""
    return _roots(session, merkle.inclusion_ranges(seq - 1, size))


def consistency_path(session: Session, old: int, *, new: int) -> list[bytes]:
    """Return what shows that the first `old` of the first `new` rows are the same."""
    return _roots(session, merkle.consistency_ranges(old, new))


def hashes(session: Session, nodes: Iterable[Node]) -> dict[Node, bytes]:
    """Return the hashes of complete subtrees.  Raises: KeyError for one that is not stored."""
    wanted = set(nodes)
    leaves = [position + 1 for level, position in wanted if level == 0]
    inner = [node for node in wanted if node[0]]
    found: dict[Node, bytes] = {}
    if leaves:
        statement = sa.select(_rows.c.seq, _rows.c.digest).where(_rows.c.seq.in_(leaves))
        found |= {(0, row.seq - 1): leaf_of(row.digest) for row in session.execute(statement)}
    if inner:
        # One range for each node: both databases look each up by the primary key.
        one_of = sa.or_(
            *(
                sa.and_(_nodes.c.level == level, _nodes.c.position == position)
                for level, position in inner
            )
        )
        for row in session.execute(sa.select(_nodes).where(one_of)):
            found[row.level, row.position] = bytes(row.digest)
    missing = wanted - found.keys()
    if missing:
        level, position = min(missing)
        raise KeyError(f"the journal's tree lacks node {position} of level {level}")
    return found


def truncate(session: Session, *, keep: int) -> None:
    """Forget every subtree that reaches beyond the first `keep` rows."""
    highest = session.execute(sa.select(sa.func.max(_nodes.c.level))).scalar() or 0
    for level in range(1, highest + 1):
        beyond = sa.and_(_nodes.c.level == level, _nodes.c.position >= keep >> level)
        session.execute(sa.delete(_nodes).where(beyond))


def _roots(session: Session, ranges: Sequence[Range]) -> list[bytes]:
    covers = [merkle.cover(first, end) for first, end in ranges]
    found = hashes(session, (node for nodes in covers for node in nodes))
    return [merkle.fold([found[node] for node in nodes]) for nodes in covers]
