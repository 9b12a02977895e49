"""The account of a cohort: reserve, charge, close, and what is left. Every change is a journal row.

The row of the cohort is the lock: whoever reserves holds it, so two requests for the last of a
budget are decided one after the other. Costs are never stored as the truth: the mechanisms are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from privacy import ledger
from privacy.errors import BudgetExceeded
from privacy.mechanisms import Mechanism, mechanisms_from_json, mechanisms_to_json
from service.domain.datasets import Cohort, StoredReservation
from service.domain.errors import BudgetRefused, NotFound
from service.domain.jobs import AUDITS, Job
from service.domain.trail import LedgerEvent
from service.store import tables
from service.store.journal import check_not_behind
from service.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class Amounts:
    """One of the two numbers of a budget, in exact decimals rounded up."""

    budget: Decimal
    reserved: Decimal
    spent: Decimal
    remaining: Decimal


@dataclass(frozen=True)
class BudgetEntry:
    """What one job holds, or cost. `epsilon` is its cost once closed."""

    job_id: str
    dataset_id: str | None
    state: str
    generator: str | None
    epsilon_reserved: Decimal
    epsilon: Decimal
    delta: Decimal
    mechanisms: list[dict[str, Any]]
    charged: list[int]
    is_open: bool
    created_at: datetime
    epsilon_taken: Decimal = Decimal(0)
    """What the steps that were charged so far have cost; the rest of `epsilon` may still return."""


@dataclass(frozen=True)
class BudgetView:
    """A cohort's account, for its data owners and auditors."""

    cohort_id: str
    rule: str
    epsilon: Amounts
    delta: Amounts
    entries: list[BudgetEntry]
    candidates_trained: int
    audits_attempted: int


def pure_budget(cohort: Cohort) -> ledger.Budget:
    """Return the cohort's budget as the trust kernel knows it."""
    return ledger.Budget(
        cohort.budget_epsilon, cohort.budget_delta, ledger.CompositionRule(cohort.rule)
    )


def pure_reservation(stored: StoredReservation) -> ledger.Reservation:
    """Return a stored reservation as the trust kernel knows it."""
    return ledger.Reservation(
        job_id=stored.job_id,
        mechanisms=mechanisms_from_json(stored.mechanisms),
        epsilon=stored.epsilon,
        delta=stored.delta,
        charged=tuple(stored.charged),
        open=stored.is_open,
    )


def open_account(uow: UnitOfWork, cohort: Cohort) -> None:
    """Journal a new budget, so that a replay can restore it.  Raises: JournalBehind."""
    check_not_behind(uow.session, uow.objects)
    uow.ledger(
        LedgerEvent.OPEN,
        cohort.id,
        tenant=cohort.tenant_id,
        epsilon=format(cohort.budget_epsilon, "f"),
        delta=format(cohort.budget_delta, "f"),
        rule=cohort.rule,
        reference_rate=cohort.reference_rate,
        created_at=cohort.created_at.isoformat(),
    )


def load_reservations(uow: UnitOfWork, cohort_id: str) -> list[StoredReservation]:
    """Return every reservation ever made in a cohort, oldest first."""
    statement = (
        sa.select(StoredReservation)
        .where(tables.reservations.c.cohort_id == cohort_id)
        .order_by(tables.reservations.c.created_at, tables.reservations.c.job_id)
    )
    return list(uow.session.execute(statement).scalars())


def reserve(
    uow: UnitOfWork,
    cohort: Cohort,
    *,
    job: Job,
    mechanisms: Sequence[Mechanism],
    delta: float,
) -> StoredReservation:
    """Reserve a job's mechanisms in a cohort whose row the caller has locked.

    Raises: BudgetRefused with what remains; JournalBehind.
    """
    check_not_behind(uow.session, uow.objects)
    held = [pure_reservation(stored) for stored in load_reservations(uow, cohort.id)]
    try:
        made = ledger.reserve(
            pure_budget(cohort), held, job_id=job.id, mechanisms=mechanisms, delta=delta
        )
    except BudgetExceeded as error:
        epsilon, left_delta = ledger.remaining(pure_budget(cohort), held)
        raise BudgetRefused(
            str(error), remaining_epsilon=str(epsilon), remaining_delta=str(left_delta)
        ) from error
    stored = StoredReservation(
        job_id=job.id,
        cohort_id=cohort.id,
        mechanisms=mechanisms_to_json(made.mechanisms),
        charged=list(made.charged),
        epsilon_reserved=made.epsilon,
        epsilon=made.epsilon,
        delta=made.delta,
        is_open=True,
        revision=1,
        created_at=uow.now(),
    )
    uow.session.add(stored)
    uow.ledger(
        LedgerEvent.RESERVE,
        job.id,
        cohort=cohort.id,
        mechanisms=stored.mechanisms,
        epsilon=format(made.epsilon, "f"),
        delta=format(made.delta, "f"),
        created_at=stored.created_at.isoformat(),
    )
    return stored


def load_reservation(uow: UnitOfWork, job_id: str, *, lock: bool = False) -> StoredReservation:
    """Return a job's reservation.  Raises: NotFound."""
    stored = uow.get(StoredReservation, job_id, lock=lock)
    if stored is None:
        raise NotFound(f"Job {job_id} holds no reservation.")
    return stored


def charge(uow: UnitOfWork, job_id: str, *, index: int, steps: int) -> StoredReservation:
    """Charge steps; the reservation's revision is compared when the change is written.

    Raises: privacy.errors.ReservationExceeded, InvalidParameter; JournalBehind.
    """
    check_not_behind(uow.session, uow.objects)
    stored = load_reservation(uow, job_id, lock=True)
    after = ledger.charge(pure_reservation(stored), index, steps)
    stored.charged = list(after.charged)
    uow.ledger(
        LedgerEvent.CHARGE,
        job_id,
        cohort=stored.cohort_id,
        index=index,
        steps=steps,
        mechanism=stored.mechanisms[index],
        charged=stored.charged,
    )
    return stored


def close(uow: UnitOfWork, job_id: str) -> StoredReservation | None:
    """Close a job's reservation at the cost of what was charged; the rest is refunded.

    Jobs without a reservation, or with a closed one, are left alone.  Raises: JournalBehind.
    """
    stored = uow.get(StoredReservation, job_id, lock=True)
    if stored is None or not stored.is_open:
        return stored
    check_not_behind(uow.session, uow.objects)
    closed = ledger.close(pure_reservation(stored))
    stored.epsilon, stored.delta, stored.is_open = closed.epsilon, closed.delta, False
    uow.ledger(
        LedgerEvent.CLOSE,
        job_id,
        cohort=stored.cohort_id,
        mechanisms=stored.mechanisms,
        charged=stored.charged,
        epsilon=format(closed.epsilon, "f"),
        delta=format(closed.delta, "f"),
    )
    return stored


def spent(uow: UnitOfWork, cohort: Cohort) -> tuple[Decimal, Decimal]:
    """Return the (epsilon, delta) of every step ever charged in a cohort."""
    held = [pure_reservation(stored) for stored in load_reservations(uow, cohort.id)]
    return ledger.spent(pure_budget(cohort), held)


def count_candidates(uow: UnitOfWork, cohort_id: str) -> int:
    """Return how many training jobs of a cohort charged at least one step."""
    return sum(any(stored.charged) for stored in load_reservations(uow, cohort_id))


def count_audits(uow: UnitOfWork, cohort_id: str) -> int:
    """Return how many audits were requested over all datasets of a cohort."""
    statement = (
        sa.select(sa.func.count())
        .select_from(tables.jobs.join(tables.datasets))
        .where(tables.datasets.c.cohort_id == cohort_id, tables.jobs.c.kind.in_(AUDITS))
    )
    return int(uow.session.execute(statement).scalar_one())


def view(uow: UnitOfWork, cohort: Cohort) -> BudgetView:
    """Return a cohort's account with one entry per job."""
    stored = load_reservations(uow, cohort.id)
    held = [pure_reservation(item) for item in stored]
    budget = pure_budget(cohort)
    reserved, used = ledger.reserved(budget, held), ledger.spent(budget, held)
    left = ledger.remaining(budget, held)
    wanted = sa.select(Job).where(tables.jobs.c.id.in_([item.job_id for item in stored]))
    jobs = {job.id: job for job in uow.session.execute(wanted).scalars()}
    return BudgetView(
        cohort_id=cohort.id,
        rule=cohort.rule,
        epsilon=Amounts(budget.epsilon, reserved[0], used[0], left[0]),
        delta=Amounts(budget.delta, reserved[1], used[1], left[1]),
        entries=[
            _entry(item, jobs.get(item.job_id), taken=ledger.spent(budget, [held_one])[0])
            for item, held_one in zip(stored, held, strict=True)
        ],
        candidates_trained=sum(any(item.charged) for item in stored),
        audits_attempted=count_audits(uow, cohort.id),
    )


def epsilon_amounts(uow: UnitOfWork, cohort: Cohort) -> Amounts:
    """Return what a list shows of a cohort's account; no job is looked at."""
    held = [pure_reservation(item) for item in load_reservations(uow, cohort.id)]
    budget = pure_budget(cohort)
    reserved, used = ledger.reserved(budget, held), ledger.spent(budget, held)
    return Amounts(budget.epsilon, reserved[0], used[0], ledger.remaining(budget, held)[0])


def _entry(stored: StoredReservation, job: Job | None, *, taken: Decimal) -> BudgetEntry:
    return BudgetEntry(
        job_id=stored.job_id,
        dataset_id=job.dataset_id if job else None,
        state=job.state.value if job else "lost",
        generator=job.payload.get("generator") if job else None,
        epsilon_reserved=stored.epsilon_reserved,
        epsilon=stored.epsilon,
        delta=stored.delta,
        mechanisms=stored.mechanisms,
        charged=stored.charged,
        is_open=stored.is_open,
        created_at=stored.created_at,
        epsilon_taken=taken,
    )
