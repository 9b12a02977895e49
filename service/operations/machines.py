"""What operators see of the machines: workers, queues, jobs that wait or failed, storage, deadlines.

Counts, sizes, identifiers, kinds and reasons; never a record, a report or a candidate. Reasons are
sentences of the service itself; what only a worker's log holds stays there.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.errors import IllegalTransition, NotFound
from service.domain.jobs import TERMINAL, Job, JobKind, JobState
from service.domain.trail import TrailEvent
from service.operations import journal
from service.operations.queueing import queue_job
from service.store import sign_in_tables as sign_in
from service.store import tables
from service.store.objects import Bucket
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

MOST_OBJECTS = 200_000
"""How many objects of a bucket are looked at when storage is measured."""

REPEATABLE = frozenset({JobKind.SAMPLE})
"""Kinds that spend nothing, decide nothing and count as no attempt: an operator may repeat them."""

_jobs = tables.jobs
_IDENTIFIER = re.compile(r"[a-z]{3}_[0-9a-f]{28}")


@dataclass(frozen=True)
class QueueView:
    """How much work there is, by kind."""

    waiting: dict[str, int]
    running: list[Job]
    oldest_waiting: datetime | None
    stuck: int


@dataclass
class BucketView:
    """What one bucket holds."""

    name: str
    objects: int = 0
    size: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    unreferenced: int = 0
    unreferenced_size: int = 0
    is_whole: bool = True


@dataclass(frozen=True)
class Deadline:
    """Something that will be erased, or end, and when."""

    what: str
    subject: str
    at: datetime | None
    rule: str


@dataclass(frozen=True)
class JournalCheck:
    """What walking the journal found."""

    length: int
    head: str
    anchored: int
    problems: list[str]


def view_queues(uow: UnitOfWork, actor: Actor) -> QueueView:
    """Return waiting and running jobs; operators only."""
    permissions.check_may_administer(actor)
    counted = (
        sa.select(_jobs.c.kind, sa.func.count(), sa.func.min(_jobs.c.created_at))
        .where(_jobs.c.state == JobState.QUEUED)
        .group_by(_jobs.c.kind)
    )
    waiting = list(uow.session.execute(counted).all())
    running = (
        sa.select(Job).where(_jobs.c.state == JobState.RUNNING).order_by(_jobs.c.id).limit(100)
    )
    jobs = list(uow.session.execute(running).scalars())
    return QueueView(
        waiting={row[0].value: row[1] for row in waiting},
        running=jobs,
        oldest_waiting=min((row[2] for row in waiting), default=None),
        stuck=sum(1 for job in jobs if job.lease_until and job.lease_until <= uow.now()),
    )


def list_failed_jobs(
    uow: UnitOfWork, actor: Actor, *, cursor: str | None = None, limit: int = 50
) -> Page[Job]:
    """Return jobs that failed, of every tenant, newest first; operators only."""
    permissions.check_may_administer(actor)
    statement = sa.select(Job).where(_jobs.c.state == JobState.FAILED)
    return fetch_page(uow.session, statement, id_column=_jobs.c.id, cursor=cursor, limit=limit)


def why_not_repeat(uow: UnitOfWork, job: Job) -> str | None:
    """Return why an operator may not have a failed job done again, or None."""
    if job.state is not JobState.FAILED:
        return f"The job is {job.state.value}; only a failed one can be repeated."
    if job.kind is JobKind.TRAIN:
        return "Training spends budget: only its data owner may request it again."
    if job.kind is JobKind.AUDIT:
        return "Each audit counts as one more attempt: its data owner decides about another one."
    if job.kind not in REPEATABLE:
        return "The one who asked for it may ask again; an operator cannot decide that for them."
    again = sa.select(_jobs.c.id).where(
        _jobs.c.parent_id == job.parent_id,
        _jobs.c.kind == job.kind,
        _jobs.c.id > job.id,
        _jobs.c.parent_id.is_not(None),
    )
    if uow.session.execute(again.limit(1)).first():
        return "It was repeated already."
    return None


def repeat_job(uow: UnitOfWork, actor: Actor, *, job_id: str) -> Job:
    """Queue a failed job again, as a new one with the same request.

    Raises: NotFound; IllegalTransition with the reason of `why_not_repeat`.
    """
    permissions.check_may_administer(actor)
    job = uow.get(Job, job_id, lock=True)
    if job is None:
        raise NotFound(f"No job {job_id!r} was found. Check the identifier.")
    reason = why_not_repeat(uow, job)
    if reason is not None:
        raise IllegalTransition(f"Repeating job {job_id} was refused. {reason}")
    return queue_job(
        uow,
        actor,
        kind=job.kind,
        tenant_id=job.tenant_id,
        dataset_id=job.dataset_id,
        payload=dict(job.payload),
        requested_by=job.requested_by,
        version_id=job.version_id,
        release_id=job.release_id,
        parent_id=job.parent_id,
    )


def view_storage(uow: UnitOfWork, actor: Actor) -> list[BucketView]:
    """Count objects and bytes of each bucket, and those that nothing refers to; operators only.

    Lists whole buckets, so it is done when asked for and not with each page.
    """
    permissions.check_may_administer(actor)
    known = _known_owners(uow)
    return [_measure(uow, bucket, known) for bucket in Bucket]


def list_deadlines(uow: UnitOfWork, actor: Actor) -> list[Deadline]:
    """Return what will be erased or end by itself, the next first; operators only."""
    permissions.check_may_administer(actor)
    found = [*_upload_deadlines(uow), *_invitation_deadlines(uow), *_key_deadlines(uow)]
    return sorted(found, key=lambda one: (one.at is None, one.at))


def rules_of_retention(uow: UnitOfWork) -> list[tuple[str, str]]:
    """Return what is kept for how long, as the settings say."""
    settings = uow.settings
    return [
        ("Raw uploads", "erased as soon as they are ingested; the trail says when"),
        (
            "Uploads that were never finished",
            f"erased {settings.upload_expiry_seconds // 86_400} days after they began",
        ),
        ("Checkpoints of trainings", "erased when the training ends"),
        ("Versions with a withdrawn person", "erased when the version without them is ready"),
        ("Bundles that were suspended or revoked", "moved to quarantine, kept for the inquiry"),
        (
            "Journal objects",
            f"locked for {settings.journal_retention_days} days where the store can",
        ),
        ("Answers to repeated requests", f"kept {settings.idempotency_seconds // 3600} hours"),
        (
            "Sessions",
            (
                f"end after {settings.session_idle_seconds // 60} idle minutes, "
                f"or {settings.session_seconds // 3600} hours in any case"
            ),
        ),
    ]


def check_journal(uow: UnitOfWork, actor: Actor) -> JournalCheck:
    """Walk the whole journal and compare it with object storage; the trail says who did."""
    permissions.check_may_read_journal(actor)
    problems = journal.verify(uow)
    position = journal.position(uow)
    anchored = uow.session.execute(sa.select(tables.journal_head.c.anchored_seq)).scalar() or 0
    uow.trail(actor, TrailEvent.JOURNAL_VERIFY, "journal", length=position.seq, whole=not problems)
    return JournalCheck(position.seq, position.digest, anchored, problems)


def _known_owners(uow: UnitOfWork) -> set[str]:
    """Return every identifier that an object may belong to."""
    wanted = (
        tables.jobs.c.id,
        tables.dataset_versions.c.id,
        tables.datasets.c.id,
        tables.releases.c.id,
        tables.tenants.c.id,
    )
    return {
        str(found)
        for column in wanted
        for found in uow.session.execute(sa.select(column)).scalars()
    }


def _measure(uow: UnitOfWork, bucket: Bucket, known: set[str]) -> BucketView:
    view = BucketView(uow.objects.bucket(bucket))
    sizes: Counter[str] = Counter()
    for info in uow.objects.list_objects(bucket):
        if view.objects >= MOST_OBJECTS:
            view.is_whole = False
            break
        view.objects += 1
        view.size += info.size
        sizes[info.key.partition("/")[0]] += info.size
        if bucket is not Bucket.JOURNAL and not _is_referenced(info.key, known):
            view.unreferenced += 1
            view.unreferenced_size += info.size
    view.by_kind = dict(sizes.most_common(6))
    return view


def _is_referenced(key: str, known: set[str]) -> bool:
    """Tell whether the innermost identifier in a key is of something that exists."""
    found: list[str] = _IDENTIFIER.findall(key)
    return not found or found[-1] in known


def _upload_deadlines(uow: UnitOfWork) -> list[Deadline]:
    versions = tables.dataset_versions
    statement = sa.select(versions.c.id, versions.c.created_at).where(
        versions.c.state == "uploading"
    )
    after = timedelta(seconds=uow.settings.upload_expiry_seconds)
    return [
        Deadline("unfinished upload", row[0], row[1] + after, "KAIMA_UPLOAD_EXPIRY_SECONDS")
        for row in uow.session.execute(statement.limit(500)).all()
    ]


def _invitation_deadlines(uow: UnitOfWork) -> list[Deadline]:
    table = sign_in.invitations
    statement = sa.select(table.c.user_id, table.c.expires_at).where(
        table.c.used_at.is_(None), table.c.revoked_at.is_(None), table.c.expires_at > uow.now()
    )
    return [
        Deadline("invitation", row[0], row[1], "72 hours")
        for row in uow.session.execute(statement.limit(500)).all()
    ]


def _key_deadlines(uow: UnitOfWork) -> list[Deadline]:
    table = tables.api_keys
    statement = sa.select(table.c.id, table.c.expires_at).where(
        table.c.revoked_at.is_(None), table.c.expires_at > uow.now()
    )
    return [
        Deadline("API key", row[0], row[1], "chosen when it was made")
        for row in uow.session.execute(statement.order_by(table.c.expires_at).limit(500)).all()
    ]


def jobs_by_state(uow: UnitOfWork, actor: Actor) -> dict[str, Any]:
    """Return how many jobs are in each state; operators only."""
    permissions.check_may_administer(actor)
    counted = sa.select(_jobs.c.state, sa.func.count()).group_by(_jobs.c.state)
    found: dict[str, int] = defaultdict(int)
    for state, count in uow.session.execute(counted).all():
        found[state.value] = count
    found["open"] = sum(n for state, n in found.items() if JobState(state) not in TERMINAL)
    return dict(found)
