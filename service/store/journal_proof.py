"""Verify the journal against itself and its anchors, and replay anchors into an older database.

Replay restores rows, not everything that they speak of: `service.operations.journal` re-applies
the ledger's rows to the reservations.
"""

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.store import journal, tables
from service.store.journal import GENESIS, Row
from service.store.objects import Bucket, ObjectMissing, ObjectStore


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the journal. `seq` is the first row concerned."""

    seq: int
    sentence: str


def verify(session: Session, objects: ObjectStore | None) -> list[Problem]:
    """Return every problem: changed, missing, reordered or truncated rows, and forks.

    Without `objects`, truncation of the tail and a chain rewritten from some row on cannot be
    seen.
    """
    problems, digests = _check_chain(session)
    head = journal.position(session)
    last = max(digests, default=0)
    if head.seq != last or head.digest != digests.get(last, GENESIS):
        problems.append(
            Problem(last, f"The head names row {head.seq}, but the chain ends at row {last}.")
        )
    if objects is not None:
        problems += _check_anchors(session, objects, digests)
    return problems


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


def _check_chain(session: Session) -> tuple[list[Problem], dict[int, str]]:
    problems: list[Problem] = []
    digests: dict[int, str] = {}
    previous, expected = GENESIS, 1
    for row in journal.read_rows(session):
        problems += _check_row(row, previous=previous, expected=expected)
        digests[row.seq] = row.digest
        previous, expected = row.digest, row.seq + 1
    return problems, digests


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
    if told != (row.seq, row.kind, row.subject):
        problems.append(Problem(row.seq, f"Row {row.seq} was moved or relabelled."))
    return problems


def _check_anchors(
    session: Session, objects: ObjectStore, digests: dict[int, str]
) -> list[Problem]:
    problems: list[Problem] = []
    anchored: dict[int, str] = {}
    last = journal.anchored_seq(session)  # before the LIST: the service may go on anchoring
    for key in objects.list_keys(Bucket.JOURNAL, journal.PREFIX):
        try:
            seq, short = journal.parse_anchor_key(key)
            rows = journal.read_anchor(objects, key)
        except (ObjectMissing, ValueError, KeyError, TypeError):
            sentence = f"The anchor {key} is missing or damaged: object storage was changed."
            problems.append(Problem(_seq_of(key), sentence))
            continue
        if seq not in digests:
            sentence = f"Row {seq} is anchored in object storage, but the database ends before it."
            problems.append(Problem(seq, sentence))
        elif not digests[seq].startswith(short):
            sentence = f"Row {seq} differs from its anchor: the chain was forked or rewritten."
            problems.append(Problem(seq, sentence))
        for row in rows:
            if anchored.setdefault(row.seq, row.digest) != row.digest:
                problems.append(Problem(row.seq, f"Two anchors disagree about row {row.seq}."))
            elif row.seq in digests and digests[row.seq] != row.digest:
                problems.append(Problem(row.seq, f"Row {row.seq} differs from its anchored copy."))
    return problems + _check_complete(anchored, last=last)


def _check_complete(anchored: Container[int], *, last: int) -> list[Problem]:
    """Name the first row that was anchored and is in no anchor any more."""
    lost = next((seq for seq in range(1, last + 1) if seq not in anchored), None)
    if lost is None:
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
