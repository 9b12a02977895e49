"""Kill the training, the worker and the broker; stop them and wake them; restore an old database.

Whatever dies: no step runs that was not charged, nothing is charged twice, no job is lost, and a
job that is resumed stays within its reservation. The broker, the object store and the processes are
real; the steps that a training takes are counted by the test itself, behind the ledger's back.
"""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest

from service.domain.accounts import BOOTSTRAP
from service.domain.errors import JournalBehind
from service.domain.jobs import Job, JobKind, JobState
from service.embedded import pick_port, start_process, valkey_command, wait_for_valkey
from service.operations import jobs, journal
from service.store.journal import Row, check_not_behind, read_rows
from service.store.unit_of_work import UnitOfWork
from tests.workers.service_stack import Service, phantom_schema, running_service, wait_until
from workers import lifecycle

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]

SLOW = Path(__file__).with_name("slow")
LEASE_SECONDS = 8.0
PERSONS = 60
STEPS = 60
START_SECONDS = 120  # a worker imports torch, and the machine may be busy


@dataclass
class Broker:
    """A Valkey on a port of its own, which can be killed and started again."""

    folder: Path
    url: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        port = urlsplit(self.url).port
        assert port is not None
        command = valkey_command(self.folder, port=port)
        self.process = start_process(command, log=self.folder / "valkey.log")
        wait_for_valkey(self.url, process=self.process, timeout_seconds=START_SECONDS)

    def kill(self, *, lose_everything: bool = False) -> None:
        """Kill it hard; with `lose_everything`, its disk as well."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if lose_everything:
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)


@dataclass
class Stack:
    """A service whose broker and workers a test may kill."""

    service: Service
    broker: Broker
    folder: Path
    version_id: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def steps_log(self) -> Path:
        """Return where trainings write the steps that they take."""
        return Path(os.environ["KAIMA_TEST_STEPS_LOG"])

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process of the service."""
        process = start_process(
            [sys.executable, "-m", *command],
            log=self.folder / f"{name}.log",
            environment=os.environ,
        )
        self.processes.append(process)
        return process

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start a Celery worker for one job at a time."""
        options = ("--pool", "threads", "--concurrency", "1", "--queues", "cpu,gpu")
        quiet = ("--without-gossip", "--without-mingle", "--hostname", f"{name}@%h")
        return self.start(name, "celery", "--app", "workers.app", "worker", *options, *quiet)

    def start_reconciler(self, name: str) -> subprocess.Popen[bytes]:
        """Start one of several reconcilers."""
        return self.start(name, "workers.reconcile")

    def stop_everything(self) -> None:
        """Kill what a test started, the children of stopped workers included."""
        for process in self.processes:
            for group in [process.pid, *(child.pid for child in job_processes(process))]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def request(self, **config: int) -> Job:
        """Request a training that walks."""
        return self.service.train(
            self.version_id,
            generator="walking",
            config={"steps": STEPS} | config,
            samples=5,
        )

    def job(self, job: Job) -> Job:
        """Return a job as it is now."""
        return self.service.job(job.id)

    def charged(self, job: Job) -> int:
        """Return how many steps of a training are charged."""
        with self.service.application.uow(read_only=True) as uow:
            return int(jobs.load_reservation(uow, job.id).charged[0])

    def taken(self) -> list[int]:
        """Return the steps that ran, in the order in which they ran."""
        if not self.steps_log.exists():
            return []
        return [int(line.split()[0]) for line in self.steps_log.read_text().splitlines()]

    def wait_for_steps(self, count: int) -> None:
        """Wait until so many steps have run."""
        wait_until(lambda: len(self.taken()) >= count, seconds=START_SECONDS, what=f"{count} steps")

    def wait_for_end(self, job: Job) -> Job:
        """Wait until a job has ended; return it."""
        over = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
        wait_until(
            lambda: self.job(job).state in over, seconds=2 * START_SECONDS, what="the job ends"
        )
        return self.job(job)

    def check_ledger(self, job: Job) -> None:
        """Assert what must hold whatever happened: the ledger covers what ran, once."""
        taken, charged = self.taken(), self.charged(job)
        assert max(Counter(taken).values()) == 1, "a step ran twice"
        assert len(taken) <= charged <= STEPS
        assert set(taken) <= set(range(charged)), "a step ran that was not charged"
        with self.service.application.uow(read_only=True) as uow:
            rows = [row.document["body"] for row in journal_rows(uow, job)]
            charges = [row["details"]["steps"] for row in rows if row["event"] == "charge"]
            assert sum(charges) == charged
            assert journal.verify(uow) == []


def journal_rows(uow: UnitOfWork, job: Job) -> list[Row]:
    """Return the journal's rows about a job."""
    return list(read_rows(uow.session, subject=job.id))


def events(stack: Stack, job: Job, name: str) -> list[dict]:
    """Return the details of a job's trail events of one name."""
    with stack.service.application.uow(read_only=True) as uow:
        bodies = [row.document["body"] for row in journal_rows(uow, job)]
    return [body["details"] for body in bodies if body["event"] == name]


def job_processes(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the job processes of a worker."""
    try:
        children = psutil.Process(worker.pid).children(recursive=True)
        return [child for child in children if "workers.job" in child.cmdline()]
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    found = Broker(folder, f"redis://127.0.0.1:{pick_port()}/0")
    found.start()
    yield found
    found.kill()


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory, object_store, broker) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("faults")
    more = {
        "REDIS_URL": broker.url,
        "KAIMA_LEASE_SECONDS": str(LEASE_SECONDS),
        "KAIMA_RESEND_SECONDS": "2",
        "KAIMA_CATALOGUE_FILE": str(write_catalogue(folder / "catalogue.json")),
        "KAIMA_QUOTA_JOBS": "100",
        "PYTHONPATH": str(SLOW),
    }
    with running_service(folder / "state", object_store, has_broker=True, **more) as service:
        upload = folder / "phantoms.npz"
        write_upload(upload)
        ingest = service.upload(upload, phantom_schema(PERSONS), epsilon="100")
        lifecycle.run_job(service.application, ingest.id, stopping=threading.Event())
        assert service.job(ingest.id).state is JobState.SUCCEEDED
        yield Stack(service, broker, folder, str(ingest.version_id))


@pytest.fixture
def stack(module_stack, tmp_path, monkeypatch) -> Iterator[Stack]:
    monkeypatch.setenv("KAIMA_TEST_STEPS_LOG", str(tmp_path / "steps"))
    module_stack.start_reconciler("reconciler-1")
    module_stack.start_reconciler("reconciler-2")
    yield module_stack
    module_stack.stop_everything()
    cancel_what_is_left(module_stack)


def cancel_what_is_left(stack: Stack) -> None:
    """Let no job of one test run in the next."""
    for kind in JobKind:
        for job in stack.service.jobs_of(kind):
            if job.state is JobState.RUNNING:
                time.sleep(LEASE_SECONDS)
                with stack.service.application.uow() as uow:
                    jobs.reap(uow)
            if stack.job(job).state is JobState.QUEUED:
                with stack.service.application.uow() as uow:
                    jobs.cancel_job(uow, stack.service.owner, job_id=job.id)


def write_catalogue(path: Path) -> Path:
    """Write a catalogue that knows the generator that walks."""
    code = "from workers.catalogue import catalogue_text; print(catalogue_text())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SLOW)},
        capture_output=True,
        text=True,
        check=True,
    )
    path.write_text(done.stdout, encoding="utf-8")
    return path


def write_upload(path: Path) -> None:
    """Write two noisy pictures for each person."""
    rng = np.random.default_rng(0)
    count = 2 * PERSONS
    np.savez(
        path,
        train_images=rng.integers(0, 256, (count, 32, 32)).astype(np.uint8),
        train_labels=(np.arange(count) % 5).astype(np.int64),
        train_patient_ids=np.repeat(np.arange(PERSONS), 2),
    )


def test_a_killed_training_goes_on_within_its_reservation(stack):
    worker = stack.start_worker("w1")
    job = stack.request()
    stack.wait_for_steps(12)
    (child,) = job_processes(worker)
    child.kill()
    ended = stack.wait_for_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert stack.charged(job) == STEPS
    stack.check_ledger(job)


def test_a_training_that_is_killed_at_every_attempt_fails_and_refunds_the_rest(stack):
    worker = stack.start_worker("w1")
    job = stack.request(milliseconds=300)
    for attempt in (1, 2, 3):
        wait_until(
            lambda attempt=attempt: stack.job(job).attempt == attempt and job_processes(worker),
            seconds=START_SECONDS,
            what=f"attempt {attempt}",
        )
        stack.wait_for_steps(3 * attempt)
        job_processes(worker)[0].kill()
        # The next attempt may follow so soon that the state between is never seen.
        wait_until(
            lambda attempt=attempt: (
                stack.job(job).state is not JobState.RUNNING or stack.job(job).attempt > attempt
            ),
            seconds=START_SECONDS,
            what="the killed attempt is over",
        )
    ended = stack.wait_for_end(job)
    assert ended.state is JobState.FAILED
    assert "killed" in ended.problem["detail"]
    assert 0 < stack.charged(job) < STEPS
    stack.check_ledger(job)
    with stack.service.application.uow(read_only=True) as uow:
        reservation = jobs.load_reservation(uow, job.id)
    assert not reservation.is_open
    assert reservation.epsilon < reservation.epsilon_reserved


def test_a_killed_worker_takes_its_training_along_and_another_one_goes_on(stack):
    first = stack.start_worker("w1")
    job = stack.request()
    stack.wait_for_steps(7)
    (child,) = job_processes(first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: not child.is_running(), seconds=60, what="the orphan exits")
    stack.start_worker("w2")
    ended = stack.wait_for_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert stack.charged(job) == STEPS
    stack.check_ledger(job)


def test_losing_the_broker_with_all_its_data_loses_no_job(stack):
    stack.start_worker("w1")
    running = stack.request()
    stack.wait_for_steps(5)
    waiting = stack.request(steps=6)
    stack.broker.kill(lose_everything=True)
    unsent = stack.request(steps=4)
    time.sleep(2)
    stack.broker.start()
    assert stack.wait_for_end(running).attempt == 1
    assert stack.charged(running) == STEPS
    for job, steps in ((waiting, 6), (unsent, 4)):
        assert stack.wait_for_end(job).state is JobState.SUCCEEDED
        assert stack.charged(job) == steps


def test_a_worker_that_wakes_up_after_its_lease_can_write_nothing(stack):
    sleeper = stack.start_worker("w1")
    job = stack.request()
    stack.wait_for_steps(12)
    (child,) = job_processes(sleeper)
    for group in (sleeper.pid, child.pid):
        os.killpg(group, signal.SIGSTOP)
    stack.start_worker("w2")
    wait_until(lambda: stack.job(job).attempt == 2, seconds=START_SECONDS, what="attempt 2")
    stack.wait_for_steps(20)
    for group in (child.pid, sleeper.pid):
        os.killpg(group, signal.SIGCONT)
    wait_until(lambda: not child.is_running(), seconds=60, what="the late child is gone")
    ended = stack.wait_for_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert stack.charged(job) == STEPS
    assert ended.result["generator_manifest"].startswith(f"candidate/{job.id}/2/")
    stack.check_ledger(job)


def test_a_worker_that_is_told_to_stop_hands_its_training_over(stack):
    first = stack.start_worker("w1")
    job = stack.request()
    stack.wait_for_steps(5)
    stack.start_worker("w2")
    first.terminate()
    assert first.wait(60) == 0
    ended = stack.wait_for_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert [event["reason"] for event in events(stack, job, "job:requeue")] == [
        "the worker handed it back"
    ]
    stack.check_ledger(job)


def test_cancelling_is_told_truthfully_and_done(stack):
    worker = stack.start_worker("w1")
    job = stack.request()
    stack.wait_for_steps(5)
    (child,) = job_processes(worker)
    with stack.service.application.uow() as uow:
        asked = jobs.cancel_job(uow, stack.service.owner, job_id=job.id)
        assert asked.status == "cancelling"
    started = time.monotonic()
    seen = set()
    while (now := stack.job(job)).state is JobState.RUNNING:
        seen.add((now.status, child.is_running()))
        assert time.monotonic() - started < 60
        time.sleep(0.05)
    assert (now.state, now.status) == (JobState.CANCELLED, "cancelled")
    assert not child.is_running(), "it was called cancelled while it still ran"
    assert {status for status, _ in seen} <= {"cancelling"}
    taken = len(stack.taken())
    time.sleep(1)
    assert len(stack.taken()) == taken
    stack.check_ledger(job)
    with stack.service.application.uow(read_only=True) as uow:
        reservation = jobs.load_reservation(uow, job.id)
    assert not reservation.is_open
    assert reservation.epsilon < reservation.epsilon_reserved


def test_a_restored_database_refuses_to_train_until_the_journal_is_replayed(stack):
    stack.start_worker("w1")
    job = stack.request()
    stack.wait_for_steps(10)
    backup = stack.folder / "backup.sqlite3"
    copy_database(stack, backup)
    assert stack.wait_for_end(job).state is JobState.SUCCEEDED
    stack.stop_everything()
    cancel_what_is_left(stack)
    restore_database(stack, backup)
    assert stack.charged(job) < STEPS, "the backup is older than the end of the training"

    with stack.service.application.uow() as uow, pytest.raises(JournalBehind, match="replay"):
        check_not_behind(uow.session, uow.objects)
    with pytest.raises(JournalBehind):
        stack.request()
    before = len(stack.taken())
    stack.start_reconciler("reconciler-1")
    stack.start_worker("w2")
    wait_until(lambda: stack.job(job).state is JobState.QUEUED, seconds=30, what="it is queued")
    time.sleep(6)
    assert stack.job(job).state is JobState.QUEUED
    assert len(stack.taken()) == before

    with stack.service.application.uow() as uow:
        journal.replay(uow, BOOTSTRAP)
    assert stack.charged(job) == STEPS
    stack.wait_for_end(job)
    assert len(stack.taken()) == before, "what was charged before is not run again"
    stack.check_ledger(job)
    assert stack.wait_for_end(stack.request(steps=3)).state is JobState.SUCCEEDED


def database_file(stack: Stack) -> Path:
    return stack.service.application.settings.state / "kaima.sqlite3"


def copy_database(stack: Stack, to: Path) -> None:
    """Make a backup while the service runs."""
    with (
        contextlib.closing(sqlite3.connect(database_file(stack))) as source,
        contextlib.closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)


def restore_database(stack: Stack, backup: Path) -> None:
    """Put a backup in the place of the database; nothing may be running."""
    stack.service.application.engine.dispose()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database_file(stack)}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, database_file(stack))
