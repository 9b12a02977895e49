"""The ledger on a real database: nobody overspends, nothing is charged twice or without a lease."""

import multiprocessing
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from privacy.errors import ReservationExceeded
from privacy.mechanisms import PrivacyTarget
from service.config import Settings
from service.domain.errors import BudgetRefused, Conflict, LeaseLost
from service.domain.jobs import JobKind
from service.operations import datasets, jobs
from service.wiring import Application, build
from tests.databases import fresh_database
from tests.factories import RecordingDispatcher, Walk, copied_clock

PARALLEL = 16
ALMOST_ALL = PrivacyTarget(epsilon=2.9, delta=9e-6)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database of each kind: what is tested here depends on it."""
    with fresh_database(request.param, request) as url:
        yield url


def later(application: Application, seconds: float) -> Application:
    """Return the application as it is `seconds` from now."""
    now = application.parts.clock
    return copied_clock(application, lambda: now() + timedelta(seconds=seconds))


def outcomes_of_threads(walk: Walk, version: Any) -> list[str]:
    """Ask for the last of the budget from many threads at once."""
    outcomes: list[str] = []
    barrier = threading.Barrier(PARALLEL)

    def ask() -> None:
        barrier.wait()
        try:
            walk.training(version, target=ALMOST_ALL)
        except (BudgetRefused, Conflict) as error:
            outcomes.append(error.slug)
        else:
            outcomes.append("won")

    threads = [threading.Thread(target=ask) for _ in range(PARALLEL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def ask_in_a_process(settings: Settings, actor: Any, version_id: str, answers: Any) -> None:
    """Ask for the last of the budget; the body of one process."""
    application = build(settings, dispatcher=RecordingDispatcher())
    try:
        with application.uow() as uow:
            jobs.request_training(
                uow,
                actor,
                version_id=version_id,
                generator="statistics",
                config={},
                target=ALMOST_ALL,
            )
    except BudgetRefused as error:
        answers.put(error.slug)
    else:
        answers.put("won")


def test_exactly_one_of_many_threads_gets_the_last_of_the_budget(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    outcomes = outcomes_of_threads(walk, version)
    assert sorted(outcomes) == ["budget-refused"] * (PARALLEL - 1) + ["won"]


@pytest.mark.slow
def test_exactly_one_of_many_processes_gets_the_last_of_the_budget(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    settings = walk.application.settings
    processes = [
        context.Process(target=ask_in_a_process, args=(settings, walk.owner, version.id, answers))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    outcomes = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(outcomes) == ["budget-refused"] * 3 + ["won"]


def test_a_refused_request_leaves_neither_job_nor_reservation(walk: Walk) -> None:
    dataset = walk.dataset()
    version = walk.version(dataset)
    walk.training(version, target=ALMOST_ALL)
    with pytest.raises(BudgetRefused, match=r"remains"):
        walk.training(version, target=ALMOST_ALL)
    with walk.application.uow(read_only=True) as uow:
        page = jobs.list_jobs(uow, walk.owner, kind=JobKind.TRAIN)
        budget = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id)
    assert len(page.items) == len(budget.entries) == 1


def test_concurrent_charges_never_pass_the_reservation(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()), generator="network")
    token = walk.claim(job)
    charged: list[int] = []

    def charge() -> None:
        for _ in range(4):
            try:
                walk.charge(job, token, 2)
            except (ReservationExceeded, Conflict):
                continue
            charged.append(2)

    threads = [threading.Thread(target=charge) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with walk.application.uow(read_only=True) as uow:
        stored = jobs.load_reservation(uow, job.id)
    assert stored.charged == [sum(charged)]
    assert sum(charged) <= 40


def test_more_steps_than_reserved_are_refused(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()), generator="network")
    token = walk.claim(job)
    walk.charge(job, token, 40)
    with pytest.raises(ReservationExceeded, match="40 were reserved"):
        walk.charge(job, token, 1)


def test_a_worker_whose_lease_ran_out_can_write_nothing(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()), generator="network")
    token = walk.claim(job, lease_seconds=10)
    walk.charge(job, token, 5)
    late = later(walk.application, 11)
    writes = {
        "charge": lambda uow: jobs.charge_steps(uow, job.id, token=token, index=0, steps=1),
        "heartbeat": lambda uow: jobs.heartbeat(uow, job.id, token=token, lease_seconds=10),
        "succeed": lambda uow: jobs.succeed_job(uow, job.id, token=token, result={}),
        "fail": lambda uow: jobs.fail_job(uow, job.id, token=token, problem={}),
        "cancel": lambda uow: jobs.cancel_finished(uow, job.id, token=token),
        "requeue": lambda uow: jobs.requeue_job(uow, job.id, token=token),
    }
    for write in writes.values():
        with pytest.raises(LeaseLost), late.uow() as uow:
            write(uow)
    with walk.application.uow(read_only=True) as uow:
        assert jobs.load_reservation(uow, job.id).charged == [5]


def test_after_a_second_claim_the_first_worker_is_fenced_off_and_charges_go_on(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()), generator="network")
    first = walk.claim(job, lease_seconds=10)
    walk.charge(job, first, 15)
    now = walk.application
    walk.application = later(now, 11)
    with walk.application.uow() as uow:
        assert jobs.reap(uow).requeued == 1
    second = walk.claim(job)
    walk.charge(job, second, 25)
    walk.application = now
    with pytest.raises(LeaseLost):
        walk.charge(job, first, 1)
    with walk.application.uow(read_only=True) as uow:
        assert jobs.load_reservation(uow, job.id).charged == [40]
        assert jobs.load_job(uow, job.id).attempt == 2


@pytest.mark.parametrize("ending", ["succeed", "fail", "cancel"])
def test_every_ending_refunds_the_steps_that_were_not_charged(walk: Walk, ending: str) -> None:
    dataset = walk.dataset()
    job = walk.training(walk.version(dataset), generator="network")
    token = walk.claim(job)
    walk.charge(job, token, 5)
    with walk.application.uow() as uow:
        if ending == "succeed":
            jobs.succeed_job(uow, job.id, token=token, result={"digest": "1"})
        elif ending == "fail":
            jobs.fail_job(uow, job.id, token=token, problem={"type": "x", "detail": "y"})
        else:
            jobs.cancel_finished(uow, job.id, token=token)
    with walk.application.uow(read_only=True) as uow:
        budget = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id)
    assert budget.epsilon.reserved == 0
    assert 0 < budget.epsilon.spent < Decimal(1)
    assert budget.entries[0].epsilon < budget.entries[0].epsilon_reserved


def test_a_job_that_charged_nothing_costs_nothing(walk: Walk) -> None:
    dataset = walk.dataset()
    job = walk.training(walk.version(dataset))
    with walk.application.uow() as uow:
        jobs.cancel_job(uow, walk.owner, job_id=job.id)
    with walk.application.uow(read_only=True) as uow:
        budget = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id)
    assert (budget.epsilon.spent, budget.epsilon.remaining) == (0, 3)


def test_costs_survive_the_database_to_the_last_digit(walk: Walk, tmp_path: Path) -> None:
    del tmp_path
    dataset = walk.dataset(epsilon="2.123456", delta="0.000001234")
    with walk.application.uow(read_only=True) as uow:
        budget = datasets.get_budget(uow, walk.owner, dataset_id=dataset.id)
    assert budget.epsilon.budget == Decimal("2.123456")
    assert budget.delta.budget == Decimal("0.000001234")
