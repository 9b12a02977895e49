"""Append-only, hash-chained rows under ledger and trail, and their anchors in object storage.

Each row is canonical JSON (RFC 8785) that holds its position, time, kind, body and the digest of
the row before it; its digest is the SHA-256 of those bytes. A row's position is given out under
the locked head row, at commit, so there is one chain however many write.

A Merkle tree over the digests grows with the rows (`journal_tree`), so that one row, or that an
older journal begins the present one, can be shown to others by a few hashes.

An *anchor* is an immutable object that holds every row since the previous anchor. It is written
after the commit and before a charge takes effect. So an anchor that the database does not have, or
has otherwise, means that the database is older than what was promised, or was changed.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import rfc8785
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.config import Settings
from service.domain.errors import JournalBehind
from service.store import journal_tree, tables
from service.store.objects import Bucket, ObjectStore

GENESIS = "0" * 64
PREFIX = "journal/"
BATCH = 1000
_log = structlog.get_logger(__name__)
_head = tables.journal_head
_rows = tables.journal


@dataclass(frozen=True)
class Entry:
    """Something to append. `subject` is the id that lists are filtered by."""

    kind: Literal["ledger", "trail"]
    subject: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Position:
    """The chain's length and the digest of its last row."""

    seq: int
    digest: str


@dataclass(frozen=True)
class Row:
    """One row as it is stored: `text` is the canonical JSON that `digest` is taken over.

    `filters` are the columns that repeat some of it, of a row that was read from the database.
    """

    seq: int
    kind: str
    subject: str
    text: str
    digest: str
    filters: dict[str, Any] | None = field(default=None, compare=False)

    @property
    def document(self) -> dict[str, Any]:
        """Return the parsed row: seq, at, kind, subject, body, previous."""
        document: dict[str, Any] = json.loads(self.text)
        return document


def append(session: Session, entries: Sequence[Entry], *, at: datetime) -> Position:
    """Append entries inside the session's transaction; concurrent writers queue at the head."""
    seq, digest, _ = _locked_head(session)
    made = []
    for entry in entries:
        seq += 1
        row = make_row(entry, seq=seq, at=at.isoformat(), previous=digest)
        digest = row.digest
        made.append(row)
    insert_rows(session, made)
    _move_head(session, seq, digest)
    return Position(seq, digest)


def make_row(entry: Entry, *, seq: int, at: str, previous: str) -> Row:
    """Return the row that an entry becomes at position `seq`."""
    text = rfc8785.dumps(
        {
            "seq": seq,
            "at": at,
            "kind": entry.kind,
            "subject": entry.subject,
            "body": entry.body,
            "previous": previous,
        }
    )
    return Row(seq, entry.kind, entry.subject, text.decode(), hashlib.sha256(text).hexdigest())


def insert_rows(session: Session, made: Sequence[Row]) -> None:
    """Insert rows that are already chained, and the nodes of the tree that they complete."""
    if made:
        session.execute(sa.insert(_rows), [row_values(row) for row in made])
        journal_tree.extend(session, size=made[0].seq - 1, digests=[row.digest for row in made])


def row_values(row: Row) -> dict[str, Any]:
    """Return a row's columns: what it is, and what of its text lists are filtered by."""
    return {
        "seq": row.seq,
        "kind": row.kind,
        "subject": row.subject,
        "row": row.text,
        "digest": row.digest,
        **filter_values(row.document),
    }


def filter_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that repeat what a row's text says."""
    body = document["body"]
    return {
        "event": str(body.get("event", ""))[:64],
        "actor": body.get("actor"),
        "at": datetime.fromisoformat(document["at"]),
    }


def cut(session: Session, *, keep: int) -> None:
    """Forget the rows behind `keep`, and what the tree says of them; only a replay does this."""
    session.execute(sa.delete(_rows).where(_rows.c.seq > keep))
    journal_tree.truncate(session, keep=keep)


def position(session: Session) -> Position:
    """Return where the chain ends, without locking it."""
    found = session.execute(sa.select(_head.c.seq, _head.c.digest)).first()
    return Position(0, GENESIS) if found is None else Position(found.seq, found.digest)


def read_rows(
    session: Session,
    *,
    after: int = 0,
    limit: int | None = None,
    subject: str | Collection[str] | None = None,
    only: Sequence[sa.ColumnElement[bool]] = (),
) -> Iterator[Row]:
    """Yield rows behind position `after`, in order: of one subject or of some, if named."""
    statement = sa.select(_rows).where(_rows.c.seq > after, *only)
    if isinstance(subject, str) and limit is not None:
        # As a range, or PostgreSQL would look for a subject of many rows along all positions, and
        # find its first one after half the journal.
        names = _rows.c.subject.between(subject, subject)
        statement = statement.where(names).order_by(_rows.c.subject, _rows.c.seq)
    elif subject is not None:
        wanted = [subject] if isinstance(subject, str) else list(subject)
        statement = statement.where(_rows.c.subject.in_(wanted)).order_by(_rows.c.seq)
    else:
        statement = statement.order_by(_rows.c.seq)
    if limit is not None:
        statement = statement.limit(limit)
    for found in session.execute(statement.execution_options(yield_per=BATCH)):
        yield _row(found)


def read_newest(
    session: Session,
    *,
    before: int | None = None,
    limit: int,
    only: Sequence[sa.ColumnElement[bool]] = (),
) -> list[Row]:
    """Return the last rows before position `before`, newest first."""
    statement = sa.select(_rows).where(*only).order_by(_rows.c.seq.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_rows.c.seq < before)
    return [_row(found) for found in session.execute(statement)]


def read_row(session: Session, seq: int) -> Row | None:
    """Return one row."""
    return next(read_rows(session, after=seq - 1, limit=1, only=[_rows.c.seq == seq]), None)


def _row(found: Any) -> Row:
    filters = {"event": found.event, "actor": found.actor, "at": found.at}
    return Row(found.seq, found.kind, found.subject, found.row, found.digest, filters)


def anchor(session: Session, objects: ObjectStore, *, settings: Settings) -> None:
    """Store every committed row that no anchor holds yet. Called after the commit.

    Two writers may anchor the same rows at once: their objects then overlap and agree.
    Raises: JournalBehind if an anchor exists that this database does not have.
    """
    check_not_behind(session, objects)
    anchored = anchored_seq(session)
    made = list(read_rows(session, after=anchored))
    session.commit()  # nothing is held while the store is written
    if not made:
        return
    objects.put_immutable(
        anchor_key(made[-1]), anchor_body(made), retention_days=settings.journal_retention_days
    )
    last = made[-1].seq
    session.execute(sa.update(_head).where(_head.c.anchored_seq < last).values(anchored_seq=last))
    session.commit()


def check_not_behind(session: Session, objects: ObjectStore) -> None:
    """Refuse when object storage holds an anchor that this database lacks or contradicts.

    The last anchor that this database knows must be there as well: without it, nothing would tell
    this database from an older one. Costs one LIST: only keys from that anchor on are asked for.
    Raises: JournalBehind with the remedy.
    """
    anchored = anchored_seq(session)
    keys = list(objects.list_keys(Bucket.JOURNAL, PREFIX, after=f"{PREFIX}{anchored:016d}"))
    _check_anchored(session, keys, anchored)
    for key in keys:
        seq, short = parse_anchor_key(key)
        # Anchors are written after the commit, so one that is seen here has its rows committed:
        # reading the row now, after the LIST, finds it unless this database is another one.
        found = session.execute(sa.select(_rows.c.digest).where(_rows.c.seq == seq)).scalar()
        if found is None or not found.startswith(short):
            raise JournalBehind(
                f"The request was refused: object storage holds journal row {seq}, which this "
                "database does not have. It is older than what was already promised, a restored "
                "backup perhaps. An operator must run: kaima journal replay",
                remedy="kaima journal replay",
                anchored=seq,
                database=position(session).seq,
            )


def _check_anchored(session: Session, keys: Sequence[str], anchored: int) -> None:
    if anchored == 0:
        return
    row = next(read_rows(session, after=anchored - 1, limit=1), None)
    if row is None or row.seq != anchored or anchor_key(row) not in keys:
        raise JournalBehind(
            f"The request was refused: object storage lacks the anchor of journal row {anchored}, "
            "which was stored there. The journal's bucket was emptied, or it is another one. "
            "An operator must restore it from its backup.",
            remedy="restore the journal's bucket",
            anchored=anchored,
        )


def anchor_key(last: Row) -> str:
    """Return the key of the anchor that ends with this row."""
    return f"{PREFIX}{last.seq:016d}-{last.digest[:16]}.json"


def anchor_body(made: Sequence[Row]) -> bytes:
    """Return an anchor's bytes: the rows' canonical texts and digests."""
    return rfc8785.dumps(
        {
            "first": made[0].seq,
            "last": made[-1].seq,
            "rows": [{"row": row.text, "digest": row.digest} for row in made],
        }
    )


def parse_anchor_key(key: str) -> tuple[int, str]:
    """Return the position and the digest's first 16 digits."""
    seq, _, short = key.removeprefix(PREFIX).removesuffix(".json").partition("-")
    return int(seq), short


def read_anchor(objects: ObjectStore, key: str) -> list[Row]:
    """Return the rows of one anchor, as they were anchored; they are checked by the caller."""
    document = json.loads(objects.get_bytes(Bucket.JOURNAL, key))
    found = []
    for entry in document["rows"]:
        row = json.loads(entry["row"])
        found.append(Row(row["seq"], row["kind"], row["subject"], entry["row"], entry["digest"]))
    return found


def set_head(session: Session, last: Row, *, anchored_seq: int) -> None:
    """Let the chain end at `last`; only a replay does this."""
    _locked_head(session)
    session.execute(
        sa.update(_head).values(seq=last.seq, digest=last.digest, anchored_seq=anchored_seq)
    )


def digest_at(session: Session, seq: int) -> str:
    """Return the digest of the row at `seq`; before the first row there is GENESIS."""
    if seq == 0:
        return GENESIS
    return str(session.execute(sa.select(_rows.c.digest).where(_rows.c.seq == seq)).scalar_one())


def start(session: Session) -> None:
    """Make the head row, once; a second call changes nothing."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(_head).values(id=1, seq=0, digest=GENESIS, anchored_seq=0)
    session.execute(statement.on_conflict_do_nothing())


def _locked_head(session: Session) -> tuple[int, str, int]:
    statement = sa.select(_head.c.seq, _head.c.digest, _head.c.anchored_seq).with_for_update()
    found = session.execute(statement).first()
    if found is None:
        start(session)
        found = session.execute(statement).one()
    return found.seq, found.digest, found.anchored_seq


def _move_head(session: Session, seq: int, digest: str) -> None:
    session.execute(sa.update(_head).values(seq=seq, digest=digest))


def anchored_seq(session: Session) -> int:
    """Return up to which row this database knows that anchors were stored."""
    return session.execute(sa.select(_head.c.anchored_seq)).scalar() or 0
