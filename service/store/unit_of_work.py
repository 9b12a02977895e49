"""One transaction: load, change, record trail, commit, then anchor the journal, then dispatch.

Use it as a context manager; leaving it without an exception commits. An operation whose effect
must be durable before it returns (a charge) calls `commit()` itself. A unit of work that changed
something without recording who did it refuses to commit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.exc import StaleDataError

from privacy.policy import Policy
from service.config import Settings
from service.domain.accounts import Actor
from service.domain.errors import Conflict
from service.domain.jobs import Job, JobKind
from service.domain.trail import LedgerEvent, TrailEvent
from service.store import journal
from service.store.keys import Keys
from service.store.objects import ObjectStore
from service.store.sealing import seal

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


class SendsJobs(Protocol):
    """What a unit of work needs of a dispatcher."""

    def send(self, kind: JobKind, job_id: str) -> bool:
        """Send a hint that a job waits."""


@dataclass(frozen=True)
class Parts:
    """What every unit of work of a process shares."""

    settings: Settings
    objects: ObjectStore
    dispatcher: SendsJobs
    keys: Keys
    policy: Policy
    catalogue: dict[str, Any]
    clock: Callable[[], datetime] = utc_now


class WatchedSession(Session):
    """A session that remembers in `info` whether anything was changed since the last commit."""


@event.listens_for(WatchedSession, "after_flush")
def _note_flush(session: Session, _context: object) -> None:
    if session.new or session.dirty or session.deleted:
        session.info["changed"] = True


@event.listens_for(WatchedSession, "do_orm_execute")
def _note_statement(state: ORMExecuteState) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        state.session.info["changed"] = True


class UnitOfWork:
    """One transaction of one actor, and what its operations may use."""

    def __init__(self, session: WatchedSession, parts: Parts, *, read_only: bool = False) -> None:
        self.session = session
        self.parts = parts
        self._read_only = read_only
        self._entries: list[journal.Entry] = []
        self._to_send: list[tuple[JobKind, str]] = []
        self._needs_trail = True

    @property
    def settings(self) -> Settings:
        """Return the limits in force."""
        return self.parts.settings

    @property
    def objects(self) -> ObjectStore:
        """Return the object store."""
        return self.parts.objects

    @property
    def keys(self) -> Keys:
        """Return the derivations of the master key."""
        return self.parts.keys

    @property
    def policy(self) -> Policy:
        """Return the audit policy in force."""
        return self.parts.policy

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return self.parts.clock()

    def get(self, kind: type[T], key: object, *, lock: bool = False) -> T | None:
        """Load one entity; with `lock`, keep its row locked until the commit and read it fresh."""
        if lock:
            return self.session.get(kind, key, with_for_update=True, populate_existing=True)
        return self.session.get(kind, key)

    def trail(self, actor: Actor, action: TrailEvent, subject: str, **details: object) -> None:
        """Record who did what to which thing; part of this transaction.

        Digests of private documents among the details are sealed (`service.store.sealing`).
        """
        salt = self.keys.commitment_salt(f"journal/{subject}")
        body = {
            "event": action.value,
            "actor": actor.user_id,
            "tenant": actor.tenant_id,
            "subject": subject,
            "details": seal(details, salt=salt),
        }
        self._entries.append(journal.Entry("trail", subject, body))

    def ledger(self, action: LedgerEvent, subject: str, **details: object) -> None:
        """Record a change of a budget's account; part of this transaction, anchored after it."""
        body = {"event": action.value, "subject": subject, "details": details}
        self._entries.append(journal.Entry("ledger", subject, body))

    def without_trail(self, reason: str) -> None:
        """Allow this transaction to commit without a trail event, for a reason worth writing."""
        del reason
        self._needs_trail = False

    def enqueue(self, job: Job) -> None:
        """Add a job, or put it back; its message is sent after the commit."""
        job.enqueued_at = self.now()
        self.session.add(job)
        self._to_send.append((job.kind, job.id))

    def execute_update(self, statement: sa.Update | sa.Insert | sa.Delete) -> int:
        """Run one Core statement; return how many rows it changed."""
        result = self.session.execute(statement)
        return int(getattr(result, "rowcount", 0))

    def commit(self) -> None:
        """Commit; then anchor ledger rows; then send messages.

        Raises: Conflict if another write came first; RuntimeError for a change without a trail.
        """
        anchored = any(entry.kind == "ledger" for entry in self._entries)
        try:
            self.session.flush()
            self._check_trail()
            if self._entries:
                journal.append(self.session, self._entries, at=self.now())
            self.session.commit()
        except (StaleDataError, IntegrityError) as error:
            self.rollback()
            raise Conflict(
                "The change was refused: another write came first. Read it again and retry."
            ) from error
        except BaseException:
            self.rollback()
            raise
        self._entries.clear()
        to_send, self._to_send = self._to_send, []
        try:
            if anchored:
                journal.anchor(self.session, self.objects, settings=self.settings)
        finally:
            self.session.info["changed"] = False
            self._needs_trail = True
            for kind, job_id in to_send:  # the job is committed, whatever the store says
                self.parts.dispatcher.send(kind, job_id)

    def rollback(self) -> None:
        """Drop every change."""
        self.session.rollback()
        self._entries.clear()
        self._to_send.clear()
        self._needs_trail = True
        self.session.info["changed"] = False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit, or drop every change after an exception."""
        try:
            if kind is None and not self._read_only:
                self.commit()
            else:
                if kind is None:
                    self._check_trail()
                self.session.expunge_all()  # or the rollback would empty what was read
                self.rollback()
        finally:
            self.session.close()

    def _check_trail(self) -> None:
        if not self.session.info.get("changed"):
            return
        if self._read_only:
            raise RuntimeError("a read-only unit of work changed something")
        if self._needs_trail and not self._entries:
            raise RuntimeError("a change without a trail event was refused; call uow.trail(...)")


def rows(session: Session, statement: sa.Select[Any]) -> Sequence[Any]:
    """Return all entities that a statement selects."""
    return session.execute(statement).scalars().all()
