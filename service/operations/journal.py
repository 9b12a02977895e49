"""Read, verify and replay the journal. Replay is an operator's act and is journalled itself."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import Cohort, StoredReservation
from service.domain.errors import Conflict
from service.domain.jobs import Job
from service.domain.trail import LedgerEvent, TrailEvent
from service.operations import blinding, budgets, journal_heads, membership
from service.store import journal, journal_proof, tables
from service.store.journal import Row
from service.store.unit_of_work import UnitOfWork

WITHHELD = "(digest withheld)"
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SHOWN_DIGESTS = frozenset({"commitment", "commitments", "bundle"})


@dataclass(frozen=True)
class ReplayReport:
    """What a replay restored."""

    restored_rows: int
    reattached_rows: int
    reopened_cohorts: list[str]
    closed_reservations: list[str]


def verify(
    uow: UnitOfWork,
    *,
    with_anchors: bool = True,
    heads: Iterable[journal_proof.KnownHead] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return one sentence per problem of the journal; none means that the chain is whole.

    `heads` were exported before and kept elsewhere; those in object storage count as well.
    """
    found = journal_proof.verify(
        uow.session,
        uow.objects if with_anchors else None,
        heads=heads,
        key=journal_heads.signing_key(uow).public_key(),
        progress=progress,
    )
    return [problem.sentence for problem in found]


def list_rows(
    uow: UnitOfWork, actor: Actor, *, after: int = 0, limit: int = 100
) -> list[dict[str, Any]]:
    """Return rows behind position `after`, oldest first, each with its digest; operators only.

    Digests inside a body are withheld: an unsalted digest of a private document lets whoever holds
    it test guesses, and operators look after the instances of other people's data. An operator who
    is an auditor or a data owner as well does not see the votes that are still blind to them.
    """
    permissions.check_may_read_journal(actor)
    shown = tables.journal.c.seq.not_in(blinding.hidden_positions(uow, actor))
    rows = journal.read_rows(uow.session, after=after, limit=min(max(limit, 1), 1000), only=[shown])
    return [
        {**row.document, "body": without_digests(row.document["body"]), "digest": row.digest}
        for row in rows
    ]


def without_digests(value: Any, *, name: str = "") -> Any:
    """Return a row's body with every digest withheld that is not salted or public already."""
    if isinstance(value, dict):
        return {key: without_digests(item, name=key) for key, item in value.items()}
    if isinstance(value, list):
        return [without_digests(item, name=name) for item in value]
    if isinstance(value, str) and name not in _SHOWN_DIGESTS:
        return _DIGEST.sub(WITHHELD, value)
    return value


def position(uow: UnitOfWork) -> journal.Position:
    """Return the chain's length and the digest of its last row."""
    return journal.position(uow.session)


def replay(uow: UnitOfWork, actor: Actor) -> ReplayReport:
    """Bring an older database up to the anchors: restore rows, then the ledger they tell.

    Trail rows that were written since the restore are appended again behind the restored ones.
    Who belongs to a cohort is restored as well. Datasets and their bytes are not: those made since
    the backup have to be uploaded again, joining the budget of their cohort.
    Raises: Conflict if the database holds ledger rows that the anchors contradict.
    """
    permissions.check_may_read_journal(actor)
    anchored = journal_proof.anchored_rows(uow.objects)
    common = journal_proof.common_length(uow.session, anchored)
    missing = [row for seq, row in sorted(anchored.items()) if seq > common]
    if not missing:
        uow.without_trail("there was nothing to replay")
        return ReplayReport(0, 0, [], [])
    divergent = list(journal.read_rows(uow.session, after=common))
    if any(row.kind == "ledger" for row in divergent):
        raise Conflict(
            f"The replay was refused: after row {common} this database holds ledger rows that the "
            "anchors contradict, so two services have spent the same budget. Stop both and "
            "restore the newer database."
        )
    _check_continuous(uow, missing, common)
    journal.cut(uow.session, keep=common)
    journal.insert_rows(uow.session, missing)
    journal.set_head(uow.session, missing[-1], anchored_seq=missing[-1].seq)
    reopened = [cohort for row in missing if (cohort := _apply(uow, row.document))]
    closed = _close_orphans(uow)
    for row in divergent:
        uow.trail(actor, TrailEvent.JOURNAL_REATTACH, row.subject, row=row.text)
    uow.trail(
        actor, TrailEvent.JOURNAL_REPLAY, "journal", first=missing[0].seq, last=missing[-1].seq
    )
    return ReplayReport(len(missing), len(divergent), reopened, closed)


def _check_continuous(uow: UnitOfWork, missing: list[Row], common: int) -> None:
    previous = journal.digest_at(uow.session, common)
    for expected, row in enumerate(missing, start=common + 1):
        if row.seq != expected or row.document["previous"] != previous:
            raise Conflict(
                f"The replay was refused: the anchors lack row {expected} or contradict it. "
                "Object storage was changed; restore it from its own backup."
            )
        previous = row.digest


def _apply(uow: UnitOfWork, document: dict[str, Any]) -> str | None:
    """Re-apply one row to the ledger's projection; return the cohort that it opens, if any."""
    if document["kind"] != "ledger":
        return None
    body = document["body"]
    subject, details = body["subject"], body["details"]
    event = LedgerEvent(body["event"])
    if event is LedgerEvent.OPEN:
        return _open(uow, subject, details)
    if event is LedgerEvent.RESERVE:
        _reserve(uow, subject, details)
        return None
    if event in {LedgerEvent.JOIN, LedgerEvent.WITHDRAW}:
        membership.replay(uow, event, subject, details)
        return None
    stored = budgets.load_reservation(uow, subject, lock=True)
    stored.charged = list(details["charged"])
    if event is LedgerEvent.CLOSE:
        stored.epsilon, stored.delta = Decimal(details["epsilon"]), Decimal(details["delta"])
        stored.is_open = False
    uow.session.flush()
    return None


def _open(uow: UnitOfWork, cohort_id: str, details: dict[str, Any]) -> str | None:
    if uow.get(Cohort, cohort_id) is not None:
        return None
    uow.session.add(
        Cohort(
            cohort_id,
            details["tenant"],
            Decimal(details["epsilon"]),
            Decimal(details["delta"]),
            details["rule"],
            datetime.fromisoformat(details["created_at"]),
            details["reference_rate"],
        )
    )
    uow.session.flush()
    return cohort_id


def _reserve(uow: UnitOfWork, job_id: str, details: dict[str, Any]) -> None:
    if uow.get(StoredReservation, job_id) is not None:
        return
    epsilon = Decimal(details["epsilon"])
    uow.session.add(
        StoredReservation(
            job_id=job_id,
            cohort_id=details["cohort"],
            mechanisms=details["mechanisms"],
            charged=[0] * len(details["mechanisms"]),
            epsilon_reserved=epsilon,
            epsilon=epsilon,
            delta=Decimal(details["delta"]),
            is_open=True,
            revision=1,
            created_at=datetime.fromisoformat(details["created_at"]),
        )
    )
    uow.session.flush()


def _close_orphans(uow: UnitOfWork) -> list[str]:
    """Close open reservations whose job row is lost: nobody else ever would.

    What was charged is known exactly, because charges are anchored before they take effect, and a
    worker that still runs such a job can charge no more.
    """
    statement = sa.select(StoredReservation).where(tables.reservations.c.is_open.is_(True))
    orphans = [
        stored.job_id
        for stored in uow.session.execute(statement).scalars()
        if uow.get(Job, stored.job_id) is None
    ]
    for job_id in orphans:
        budgets.close(uow, job_id)
    return orphans
