"""Journal who belongs to a cohort, so that a restored database cannot forget them.

The digests of new members lie in one immutable object beside the journal's anchors; an anchored row
names it by the SHA-256 of its bytes. Counts are in the object, not in the row: a row is read by
operators, and how many persons a dataset has is private.
"""

import hashlib
import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.domain.datasets import Dataset
from service.domain.errors import Conflict
from service.domain.trail import LedgerEvent
from service.store import journal, tables
from service.store.journal import check_not_behind
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork

PREFIX = "members/"
_DIGEST_BYTES, _COUNT_BYTES = 32, 8
_CHUNK, _LARGEST = 500, 1 << 34  # rows; bytes, far above the largest cohort
_persons, _contents = tables.cohort_persons, tables.cohort_contents


def record(
    uow: UnitOfWork, dataset: Dataset, *, persons: list[bytes], contents: list[bytes]
) -> None:
    """Store the digests that joined a cohort, and name them in the ledger's chain.

    The object is written before the row: a row without its object could not be replayed, an object
    without a row is only left over.  Raises: JournalBehind.
    """
    check_not_behind(uow.session, uow.objects)
    body = len(persons).to_bytes(_COUNT_BYTES, "big") + b"".join([*persons, *contents])
    sha256 = hashlib.sha256(body).hexdigest()
    uow.objects.put_immutable(
        f"{PREFIX}{sha256}", body, retention_days=uow.settings.journal_retention_days
    )
    uow.ledger(
        LedgerEvent.JOIN,
        dataset.cohort_id,
        tenant=dataset.tenant_id,
        unit=dataset.schema.unit.value,
        members_sha256=sha256,
    )


def withdraw(uow: UnitOfWork, dataset: Dataset, *, person_digest: bytes) -> None:
    """Mark a person of the cohort as withdrawn, in a way that survives a restore."""
    at = uow.now()
    _mark_withdrawn(uow, dataset.tenant_id, dataset.cohort_id, person_digest, at.isoformat())
    uow.ledger(
        LedgerEvent.WITHDRAW,
        dataset.cohort_id,
        tenant=dataset.tenant_id,
        person=person_digest.hex(),
        at=at.isoformat(),
    )


def unit_of(uow: UnitOfWork, cohort_id: str) -> str | None:
    """Return the unit of privacy that a cohort's members were counted in; None without members."""
    for row in journal.read_rows(uow.session, subject=cohort_id):
        body = row.document["body"]
        if body["event"] == LedgerEvent.JOIN.value:
            return str(body["details"]["unit"])
    return None


def replay(uow: UnitOfWork, event: LedgerEvent, cohort_id: str, details: dict[str, Any]) -> None:
    """Apply a JOIN or WITHDRAW row to a database that was restored from before it.

    Raises: Conflict if a member belongs to another cohort by now; DigestMismatch; ObjectMissing.
    """
    if event is LedgerEvent.WITHDRAW:
        person = bytes.fromhex(details["person"])
        _mark_withdrawn(uow, details["tenant"], cohort_id, person, details["at"])
        return
    sha256 = details["members_sha256"]
    body = uow.objects.get_bytes(
        Bucket.JOURNAL, f"{PREFIX}{sha256}", sha256=sha256, limit_bytes=_LARGEST
    )
    split = _COUNT_BYTES + _DIGEST_BYTES * int.from_bytes(body[:_COUNT_BYTES], "big")
    for table, column, digests in (
        (_persons, "person_digest", body[_COUNT_BYTES:split]),
        (_contents, "content_digest", body[split:]),
    ):
        for chunk in _chunks(digests):
            rows = [
                {"tenant_id": details["tenant"], column: digest, "cohort_id": cohort_id}
                for digest in chunk
            ]
            _restore(uow, table, rows, column=column)


def _restore(uow: UnitOfWork, table: sa.Table, rows: list[dict[str, Any]], *, column: str) -> None:
    tenant_id, cohort_id = rows[0]["tenant_id"], rows[0]["cohort_id"]
    statement = sa.select(table.c[column], table.c.cohort_id).where(
        table.c.tenant_id == tenant_id, table.c[column].in_([row[column] for row in rows])
    )
    known = {bytes(found[0]): found[1] for found in uow.session.execute(statement)}
    if any(owner != cohort_id for owner in known.values()):
        raise Conflict(
            f"The replay was refused: members of cohort {cohort_id} joined another one since the "
            "restore. Stop the service and restore the newer database."
        )
    missing = [row for row in rows if row[column] not in known]
    if missing:
        uow.session.execute(sa.insert(table), missing)


def _mark_withdrawn(
    uow: UnitOfWork, tenant_id: str, cohort_id: str, person_digest: bytes, at: str
) -> None:
    uow.execute_update(
        sa.update(_persons)
        .where(
            _persons.c.tenant_id == tenant_id,
            _persons.c.cohort_id == cohort_id,
            _persons.c.person_digest == person_digest,
            _persons.c.withdrawn_at.is_(None),
        )
        .values(withdrawn_at=datetime.fromisoformat(at))
    )


def _chunks(joined: bytes) -> Iterator[list[bytes]]:
    digests = (
        joined[start : start + _DIGEST_BYTES] for start in range(0, len(joined), _DIGEST_BYTES)
    )
    return iter(lambda: list(itertools.islice(digests, _CHUNK)), [])
