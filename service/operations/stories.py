"""The story of one release, from upload to download, and who may see which row of the journal.

A story's rows are about the dataset, the version, the runs, the audit and the release. What stands
in the rows decides; nothing is told from memory. Blocks of charged steps are one event, because a
run may have thousands.
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from privacy import ledger
from service.domain import permissions
from service.domain.accounts import Actor, Role
from service.domain.datasets import Cohort, Dataset, DatasetVersion
from service.domain.jobs import Job, JobKind
from service.domain.releases import Release
from service.domain.trail import LedgerEvent, TrailEvent
from service.operations import budgets
from service.operations.blinding import blindfold
from service.store import journal, tables
from service.store.journal import Row
from service.store.unit_of_work import UnitOfWork

PUBLIC_EVENTS = frozenset(
    {
        TrailEvent.RELEASE_PUBLISH.value,
        TrailEvent.RELEASE_SUSPEND.value,
        TrailEvent.RELEASE_EXPIRE.value,
        TrailEvent.RELEASE_REINSTATE.value,
        TrailEvent.RELEASE_EXPIRE.value,
        TrailEvent.RELEASE_REVOKE.value,
    }
)
"""What everybody who sees a release may know of it."""

_INSIDE = frozenset({Role.DATA_OWNER, Role.AUDITOR})
_REPEATED = frozenset({LedgerEvent.CHARGE.value, TrailEvent.STEPS_CHARGE.value})
_OF_A_COHORT = frozenset({LedgerEvent.OPEN.value})
"""Other rows of a cohort name its members in one form or another: nobody reads those here."""

_KINDS: dict[str, type[Any]] = {"job": Job, "ver": DatasetVersion, "dst": Dataset, "coh": Cohort}
_columns = tables.journal.c


@dataclass(frozen=True)
class Spending:
    """What the release's training run cost its cohort."""

    epsilon_before: Decimal
    epsilon_after: Decimal
    delta_after: Decimal
    epsilon: Decimal
    is_open: bool


@dataclass(frozen=True)
class Step:
    """One event of a story: the row's document, its digest, and how many rows it stands for."""

    document: dict[str, Any]
    digest: str
    stands_for: int = 1


@dataclass(frozen=True)
class Story:
    """One page of a release's story. `documents` are the digests that follow from one another.

    `users` are the names of those who acted, `runs` the kinds of the jobs.
    """

    release: Release
    is_insider: bool
    steps: list[Step]
    next_after: int | None
    documents: list[tuple[str, str]] = field(default_factory=list)
    spending: Spending | None = None
    users: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)


def read_story(
    uow: UnitOfWork, actor: Actor, *, release_id: str, after: int = 0, limit: int = 100
) -> Story:
    """Return the story of a release, oldest first; outsiders get its public moves only.

    Raises: NotFound for a release that the actor may not know of.
    """
    release = permissions.check_may_see_release(
        actor, uow.get(Release, release_id), asked=release_id
    )
    if not permissions.is_insider(actor, release):
        rows, onward = visible_rows(uow, actor, release, after=after, limit=limit)
        return Story(release, is_insider=False, steps=_steps(rows), next_after=onward)
    jobs = _jobs(uow, release)
    subjects = [release.id, release.dataset_id, *jobs, *_versions(jobs)]
    only = [_columns.event.not_in(_REPEATED)]
    rows, onward = visible_rows(
        uow, actor, release, subjects=subjects, after=after, limit=limit, only=only
    )
    steps = _steps(rows)
    if after == 0:
        steps += _charges(uow, jobs, end=rows[-1].seq if onward and rows else None)
    steps.sort(key=lambda step: int(step.document["seq"]))
    return Story(
        release,
        is_insider=True,
        steps=steps,
        next_after=onward,
        documents=_documents(release),
        spending=_spending(uow, release, jobs),
        users=_user_names(uow, actor, steps),
        runs={job.id: job.kind.value for job in jobs.values()},
    )


def visible_rows(
    uow: UnitOfWork,
    actor: Actor,
    release: Release,
    *,
    after: int,
    limit: int,
    subjects: Sequence[str] = (),
    only: Sequence[sa.ColumnElement[bool]] = (),
) -> tuple[list[Row], int | None]:
    """Return up to `limit` rows that the actor may see, and behind which one the next page begins.

    They are about the release, or about `subjects`, which only insiders may name. Read in pieces,
    so that a release with many downloads costs no more than the page.
    """
    hidden, shown = blindfold(uow, actor, release), list[Row]()
    if not permissions.is_insider(actor, release):
        rows = _public_rows(uow, release, after=after)
        return rows[:limit], rows[limit - 1].seq if len(rows) > limit else None
    while True:
        about = journal.read_rows(uow.session, after=after, limit=limit + 1, subject=release.id)
        # The others' rows are few. Without a limit, no planner looks for them along all positions.
        others = [name for name in subjects if name != release.id]
        beside = journal.read_rows(uow.session, after=after, subject=others, only=only)
        both = heapq.merge(list(about), list(beside) if others else [], key=lambda row: row.seq)
        found = list(itertools.islice(both, limit + 1))
        for row in found:
            if len(shown) == limit:
                return shown, shown[-1].seq
            if not hidden.hides(row.document["body"]):
                shown.append(row)
        if len(found) <= limit:
            return shown, None
        after = found[-1].seq


def _public_rows(uow: UnitOfWork, release: Release, *, after: int) -> list[Row]:
    """Return what everybody may know of a release: a few rows, whatever its downloads."""
    only = [_columns.event.in_(PUBLIC_EVENTS)]
    return list(journal.read_rows(uow.session, after=after, subject=release.id, only=only))


def may_see_row(uow: UnitOfWork, actor: Actor, row: Row) -> bool:
    """Tell whether the actor may read one row of the journal whole."""
    event = row.document["body"]["event"]
    release = uow.get(Release, row.subject)
    if release is not None:
        if permissions.is_insider(actor, release):
            return not blindfold(uow, actor, release).hides(row.document["body"])
        return permissions.is_visible(actor, release) and event in PUBLIC_EVENTS
    kind = _KINDS.get(row.subject.partition("_")[0])
    if kind is None or not actor.roles & _INSIDE or (kind is Cohort and event not in _OF_A_COHORT):
        return False
    thing = uow.get(kind, row.subject)
    return thing is not None and thing.tenant_id == actor.tenant_id


def _jobs(uow: UnitOfWork, release: Release) -> dict[str, Job]:
    """Return the jobs behind a release, by id: its candidate's, and those about itself."""
    found: dict[str, Job] = {}
    upward: str | None = release.audit_job_id
    while upward is not None and (job := uow.get(Job, upward)) is not None:
        found[job.id], upward = job, job.parent_id
    about = sa.select(Job).where(
        sa.or_(
            tables.jobs.c.release_id == release.id,
            sa.and_(
                tables.jobs.c.version_id.in_(_versions(found)),
                tables.jobs.c.kind == JobKind.INGEST,
            ),
        )
    )
    return found | {job.id: job for job in uow.session.execute(about.limit(50)).scalars()}


def _versions(jobs: dict[str, Job]) -> list[str]:
    return sorted({job.version_id for job in jobs.values() if job.version_id})


def _steps(rows: Sequence[Row]) -> list[Step]:
    return [Step(row.document, row.digest) for row in rows]


def _charges(uow: UnitOfWork, jobs: dict[str, Job], *, end: int | None) -> list[Step]:
    """Return one step for all charged blocks of each run: its last row stands for them."""
    charges = [_columns.subject.in_(list(jobs)), _columns.event == LedgerEvent.CHARGE.value]
    if end is not None:
        charges.append(_columns.seq <= end)
    statement = (
        sa.select(sa.func.max(_columns.seq), sa.func.count())
        .where(*charges)
        .group_by(_columns.subject)
    )
    made = []
    for seq, count in uow.session.execute(statement).all():
        row = journal.read_row(uow.session, seq)
        if row is not None:
            made.append(Step(row.document, row.digest, count))
    return made


def _documents(release: Release) -> list[tuple[str, str]]:
    """Return the documents in the order in which each names those before it."""
    evidence = release.evidence
    names = ("dataset", "commitment", "generator", "samples", "report", "policy", "terms")
    chain = [(name, str(evidence[name])) for name in names if evidence.get(name)]
    return chain + ([("bundle", release.bundle_sha256)] if release.bundle_sha256 else [])


def _spending(uow: UnitOfWork, release: Release, jobs: dict[str, Job]) -> Spending | None:
    dataset = uow.get(Dataset, release.dataset_id)
    cohort = uow.get(Cohort, dataset.cohort_id) if dataset else None
    if cohort is None:
        return None
    held = budgets.load_reservations(uow, cohort.id)
    mine = next((stored for stored in held if stored.job_id in jobs), None)
    if mine is None:
        return None
    budget = budgets.pure_budget(cohort)
    earlier = [budgets.pure_reservation(s) for s in held if s.created_at < mine.created_at]
    before, _ = ledger.spent(budget, earlier)
    after, delta = ledger.spent(budget, [*earlier, budgets.pure_reservation(mine)])
    return Spending(before, after, delta, mine.epsilon, mine.is_open)


def _user_names(uow: UnitOfWork, actor: Actor, steps: Sequence[Step]) -> dict[str, str]:
    """Return the names of the people of the actor's own tenant; others stay identifiers."""
    ids = {str(step.document["body"].get("actor")) for step in steps}
    users = tables.users.c
    statement = sa.select(users.id, users.name).where(
        users.id.in_(ids), users.tenant_id == actor.tenant_id
    )
    return {found.id: found.name for found in uow.session.execute(statement)}
