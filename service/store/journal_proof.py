"""Verify the journal against itself, its tree, its anchors and signed heads; find what replay needs.

One pass over the rows, 32 bytes of memory for each. Replay restores rows, not everything that they
speak of: `service.operations.journal` re-applies the ledger's rows to the reservations.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.orm import Session

from privacy import signing
from service.domain import journal_heads
from service.domain.journal_heads import ProofRefused
from service.domain.merkle import Frontier
from service.store import journal, journal_tree, tables
from service.store.journal import GENESIS, Row
from service.store.journal_tables import journal_nodes
from service.store.objects import Bucket, ObjectMissing, ObjectStore

HEADS = "heads/"
_BYTES = 32


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the journal. `seq` is the first row concerned."""

    seq: int
    sentence: str


@dataclass(frozen=True)
class KnownHead:
    """A head that somebody kept: where it was found, and what it says."""

    place: str
    size: int
    root: str
    document: dict[str, object] = field(repr=False)


@dataclass
class _Walk:
    """What one pass over the rows found."""

    problems: list[Problem] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    last: int = 0
    nodes: int = 0

    def digest(self, seq: int) -> str | None:
        """Return the digest of a row, or None for one that is not there."""
        found = self.digests[(seq - 1) * _BYTES : seq * _BYTES]
        return found.hex() if any(found) else None

    def note(self, row: Row) -> None:
        """Remember a row's digest at its place."""
        end = row.seq * _BYTES
        if end > len(self.digests):
            self.digests.extend(bytes(end - len(self.digests)))
        self.digests[end - _BYTES : end] = bytes.fromhex(row.digest)


def verify(
    session: Session,
    objects: ObjectStore | None,
    *,
    heads: Iterable[KnownHead] = (),
    key: Ed25519PublicKey | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Return every problem: changed, missing, reordered or truncated rows, and forks.

    `heads` were exported before; those in object storage are added. Without `objects` and heads,
    truncation of the tail and a chain rewritten from some row on cannot be seen. With `key`, the
    heads that it signed must bear its signature.
    """
    head = journal.position(session)
    known = list(heads)
    problems = [] if key is None else [found for kept in known for found in _signed(kept, key)]
    if objects is not None:
        stored, found = stored_heads(objects)
        known += stored
        problems += found
        problems += [] if key is None else [bad for kept in stored for bad in _signed(kept, key)]
    walk = _check_chain(session, known, total=head.seq, progress=progress)
    problems += walk.problems
    if head.seq != walk.last or head.digest != (walk.digest(walk.last) or GENESIS):
        problems.append(
            Problem(
                walk.last, f"The head names row {head.seq}, but the chain ends at row {walk.last}."
            )
        )
    if objects is not None:
        problems += _check_anchors(session, objects, walk)
    return problems


def stored_heads(objects: ObjectStore) -> tuple[list[KnownHead], list[Problem]]:
    """Return the signed heads in object storage, and a problem for each that cannot be read."""
    found, problems = [], []
    for key in objects.list_keys(Bucket.JOURNAL, HEADS):
        try:
            found.append(read_head(objects.get_bytes(Bucket.JOURNAL, key), place=key))
        except (ObjectMissing, ProofRefused):
            sentence = f"The signed head {key} is missing or damaged: object storage was changed."
            problems.append(Problem(_seq_of(key.removeprefix(HEADS)), sentence))
    return found, problems


def read_head(content: bytes, *, place: str) -> KnownHead:
    """Return a head from its bytes; a proof's newest head counts.  Raises: ProofRefused."""
    document = journal_heads.read_document(content)
    document = document.get("head") or document.get("new") or document
    try:
        return KnownHead(place, int(document["size"]), str(document["root"]), document)
    except (KeyError, TypeError, ValueError) as error:
        raise ProofRefused("The head was refused: it names no size and root.") from error


def anchored_rows(objects: ObjectStore, *, after: int = 0) -> dict[int, Row]:
    """Return every anchored row behind position `after`.

    Raises: ValueError where two anchors contradict each other, or one contradicts itself.
    """
    found: dict[int, Row] = {}
    for key in objects.list_keys(Bucket.JOURNAL, journal.PREFIX, after=_key_after(after)):
        for row in journal.read_anchor(objects, key):
            if hashlib.sha256(row.text.encode()).hexdigest() != row.digest:
                raise ValueError(f"anchor {key} holds row {row.seq} with a wrong digest")
            if row.seq in found and found[row.seq].digest != row.digest:
                raise ValueError(f"anchors contradict each other about row {row.seq}")
            found[row.seq] = row
    return {seq: row for seq, row in found.items() if seq > after}


def common_length(session: Session, anchored: dict[int, Row]) -> int:
    """Return up to which row the database agrees with the anchored rows that it has."""
    statement = sa.select(tables.journal.c.seq, tables.journal.c.digest).where(
        tables.journal.c.seq.in_(list(anchored))
    )
    have = {found.seq: found.digest for found in session.execute(statement)}
    different = [seq for seq, row in anchored.items() if seq in have and have[seq] != row.digest]
    missing = [seq for seq in anchored if seq not in have]
    return min([*different, *missing], default=journal.position(session).seq + 1) - 1


def _signed(head: KnownHead, key: Ed25519PublicKey) -> list[Problem]:
    """Name a head that claims this key and does not bear its signature.

    One of an older key is not refused: its root counts all the same.
    """
    if head.document.get("key_id") != signing.fingerprint(key):
        return []
    try:
        journal_heads.check(dict(head.document), key=key)
    except ProofRefused as error:
        return [Problem(head.size, f"{head.place}: {error}")]
    return []


def _check_chain(
    session: Session,
    heads: Iterable[KnownHead],
    *,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> _Walk:
    walk, frontier, previous = _Walk(), Frontier(), GENESIS
    wanted: dict[int, list[KnownHead]] = {}
    for head in heads:
        wanted.setdefault(head.size, []).append(head)
    for row in journal.read_rows(session):
        walk.problems += _check_row(row, previous=previous, expected=walk.last + 1)
        walk.note(row)
        walk.nodes += sum(1 for _ in frontier.add(journal_tree.leaf_of(row.digest))) - 1
        previous, walk.last = row.digest, row.seq
        if frontier.size in wanted:
            walk.problems += _check_heads(wanted.pop(frontier.size), frontier.root().hex())
        if progress is not None and (row.seq % journal.BATCH == 0 or row.seq == total):
            progress(row.seq, total)
    for head in (kept for heads_of_size in wanted.values() for kept in heads_of_size if kept.size):
        sentence = (
            f"The signed head {head.place} names {head.size} rows, but the database has "
            f"{frontier.size}: the journal was truncated."
        )
        walk.problems.append(Problem(frontier.size + 1, sentence))
    walk.problems += _check_tree(session, frontier, walk)
    return walk


def _check_row(row: Row, *, previous: str, expected: int) -> list[Problem]:
    problems = []
    if row.seq != expected:
        problems.append(
            Problem(expected, f"Row {expected} is missing: row {row.seq} follows instead.")
        )
    if hashlib.sha256(row.text.encode()).hexdigest() != row.digest:
        return [*problems, Problem(row.seq, f"Row {row.seq} was changed after it was written.")]
    document = json.loads(row.text)
    if document["previous"] != previous:
        problems.append(Problem(row.seq, f"Row {row.seq} does not follow the row before it."))
    told = (document["seq"], document["kind"], document["subject"])
    filters = journal.filter_values(document)
    if told != (row.seq, row.kind, row.subject) or row.filters not in (None, filters):
        problems.append(Problem(row.seq, f"Row {row.seq} was moved or relabelled."))
    return problems


def _check_heads(heads: Iterable[KnownHead], root: str) -> list[Problem]:
    return [
        Problem(
            head.size,
            f"The signed head {head.place} names another root over the first {head.size} rows: "
            "the journal was forked or rewritten.",
        )
        for head in heads
        if head.root != root
    ]


def _check_tree(session: Session, frontier: Frontier, walk: _Walk) -> list[Problem]:
    """Compare the stored tree with the rows: its root, and how many nodes it has.

    Any node that a proof uses is an ancestor or a sibling under the root, which the proof's reader
    checks; so a wrong one can only make a proof fail, never make it lie.
    """
    stored = session.execute(sa.select(sa.func.count()).select_from(journal_nodes)).scalar_one()
    try:
        is_same = journal_tree.root_at(session, frontier.size) == frontier.root()
    except KeyError:
        is_same = False
    if is_same and stored == walk.nodes:
        return []
    return [
        Problem(
            walk.last,
            "The tree over the journal does not fit its rows: proofs made from it would fail. "
            "Run: kaima journal rebuild",
        )
    ]


def _check_anchors(session: Session, objects: ObjectStore, walk: _Walk) -> list[Problem]:
    problems: list[Problem] = []
    is_anchored = bytearray(journal.anchored_seq(session) + 1)  # before the LIST: it may grow
    differing: dict[int, str] = {}
    for key in objects.list_keys(Bucket.JOURNAL, journal.PREFIX):
        try:
            seq, short = journal.parse_anchor_key(key)
            rows = journal.read_anchor(objects, key)
        except (ObjectMissing, ValueError, KeyError, TypeError):
            sentence = f"The anchor {key} is missing or damaged: object storage was changed."
            problems.append(Problem(_seq_of(key), sentence))
            continue
        have = walk.digest(seq)
        if have is None:
            sentence = f"Row {seq} is anchored in object storage, but the database ends before it."
            problems.append(Problem(seq, sentence))
        elif not have.startswith(short):
            sentence = f"Row {seq} differs from its anchor: the chain was forked or rewritten."
            problems.append(Problem(seq, sentence))
        for row in rows:
            if row.seq < len(is_anchored):
                is_anchored[row.seq] = 1
            problems += _compare(row, walk.digest(row.seq), differing)
    return problems + _check_complete(is_anchored)


def _compare(row: Row, have: str | None, differing: dict[int, str]) -> list[Problem]:
    """Compare an anchored row with the database and with the other anchors that hold it."""
    if have == row.digest:
        return []
    if differing.setdefault(row.seq, row.digest) != row.digest:
        return [Problem(row.seq, f"Two anchors disagree about row {row.seq}.")]
    if have is None:
        return []  # the anchor's own problem says that the database ends before it
    return [Problem(row.seq, f"Row {row.seq} differs from its anchored copy.")]


def _check_complete(is_anchored: bytearray) -> list[Problem]:
    """Name the first row that was anchored and is in no anchor any more."""
    lost = is_anchored.find(0, 1)
    if lost < 0:
        return []
    return [
        Problem(
            lost,
            f"Row {lost} was anchored, and object storage holds no anchor with it: one was "
            "deleted. Restore the journal's bucket from its backup.",
        )
    ]


def _seq_of(key: str) -> int:
    digits = key.removeprefix(journal.PREFIX).partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


def _key_after(seq: int) -> str:
    return f"{journal.PREFIX}{seq:016d}~"  # "~" sorts behind every key of that position
