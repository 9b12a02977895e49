"""A whole service for tests of workers: real object store, real database, real child processes."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from service.config import Settings
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.jobs import Job, JobKind
from service.operations import accounts, datasets, jobs
from service.wiring import Application, build, migrate
from tests.components import ObjectStoreServer
from workers import lifecycle


@dataclass
class RecordingDispatcher:
    """Keeps what would be sent to the broker."""

    sent: list[tuple[JobKind, str]] = field(default_factory=list)

    def send(self, kind: JobKind, job_id: str) -> bool:
        """Keep one message."""
        self.sent.append((kind, job_id))
        return True


@dataclass
class Service:
    """A service without a broker: `work()` runs what is queued, one job after the other."""

    application: Application
    dispatcher: RecordingDispatcher
    owner: Actor
    auditors: tuple[Actor, Actor]

    def work(self, *, until: JobKind | None = None) -> None:
        """Run queued jobs; stop behind the first of kind `until`."""
        while self.dispatcher.sent:
            kind, job_id = self.dispatcher.sent.pop(0)
            lifecycle.run_job(self.application, job_id, stopping=threading.Event())
            if kind is until:
                return

    def job(self, job_id: str) -> Job:
        """Return a job as the database has it now."""
        with self.application.uow(read_only=True) as uow:
            job = jobs.load_job(uow, job_id)
            uow.session.expunge_all()
            return job

    def jobs_of(self, kind: JobKind) -> list[Job]:
        """Return all jobs of a kind, oldest first."""
        with self.application.uow(read_only=True) as uow:
            found = jobs.list_jobs(uow, self.owner, kind=kind, limit=100).items
            uow.session.expunge_all()
            return sorted(found, key=lambda job: job.id)

    def upload(
        self, path: Path, schema: DatasetSchema, *, epsilon: str = "10", delta: str = "0.001"
    ) -> Job:
        """Create a dataset, upload a file, and return its INGEST job."""
        with self.application.uow() as uow:
            dataset = datasets.create_dataset(
                uow,
                self.owner,
                name=f"knees-{secrets.token_hex(4)}",
                purpose="a test",
                schema=schema,
                budget_epsilon=Decimal(epsilon),
                budget_delta=Decimal(delta),
            )
        with self.application.uow() as uow:
            version = datasets.start_upload(
                uow,
                self.owner,
                dataset_id=dataset.id,
                suffix=path.suffix,
                size_bytes=path.stat().st_size,
            )
        with self.application.uow() as uow:
            return datasets.put_upload(
                uow, self.owner, version_id=version.id, chunks=[path.read_bytes()]
            )

    def train(self, version_id: str, **changes: Any) -> Job:
        """Request a training."""
        canaries = changes.pop("canaries", 0)
        request: dict[str, Any] = {
            "generator": "statistics",
            "config": {},
            "target": PrivacyTarget(epsilon=2.0, delta=1e-5),
            "tier": "registered",
            "samples": 60,
        }
        whole = request | changes
        # As the API does: what takes seconds is remembered before the transaction that writes.
        with self.application.uow(read_only=True) as uow:
            jobs.plan_training(uow, self.owner, version_id=version_id, **whole)
        with self.application.uow() as uow:
            return jobs.request_training(
                uow, self.owner, version_id=version_id, canaries=canaries, **whole
            )


def environment(folder: Path, store: ObjectStoreServer, **more: str) -> dict[str, str]:
    """Return the variables of a service whose state is in `folder`."""
    return {
        "KAIMA_STATE": str(folder),
        "S3_ENDPOINT_URL": store.endpoint_url,
        "S3_ACCESS_KEY": store.access_key,
        "S3_SECRET_KEY": store.secret_key,
        "S3_BUCKET_PREFIX": f"t{secrets.token_hex(4)}",
        "OMP_NUM_THREADS": "1",
        "DATABASE_URL": "",
        **more,
    }


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which job processes inherit, and put them back."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def running_service(
    folder: Path, store: ObjectStoreServer, *, has_broker: bool = False, **more: str
) -> Iterator[Service]:
    """Prepare a database and buckets; yield the service. With a broker, messages go there."""
    with variables(environment(folder, store, **more)):
        settings = Settings.from_environment()
        migrate(settings)
        dispatcher = RecordingDispatcher()
        application = build(settings, dispatcher=None if has_broker else dispatcher)
        try:
            yield _with_people(application, dispatcher)
        finally:
            application.close()


def _with_people(application: Application, dispatcher: RecordingDispatcher) -> Service:
    def user(tenant_id: str, name: str, role: str) -> Actor:
        with application.uow() as uow:
            made = accounts.create_user(
                uow, BOOTSTRAP, tenant_id=tenant_id, name=name, roles=[role]
            )
            uow.session.flush()
            return accounts.load_actor(uow, user_id=made.id)

    with application.uow() as uow:
        tenant = accounts.create_tenant(uow, BOOTSTRAP, name=f"hospital-{secrets.token_hex(4)}")
    return Service(
        application=application,
        dispatcher=dispatcher,
        owner=user(tenant.id, "owner", "data_owner"),
        auditors=(
            user(tenant.id, "first auditor", "auditor"),
            user(tenant.id, "second auditor", "auditor"),
        ),
    )


def phantom_schema(persons: int, *, pixels: int = 32) -> DatasetSchema:
    """Return the declaration of a phantom upload."""
    return DatasetSchema(
        unit=UnitOfPrivacy.PERSON,
        declared_count=persons,
        height=pixels,
        width=pixels,
        label="kl_grade",
        labels=("0", "1", "2", "3", "4"),
    )


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for a condition.  Raises: AssertionError naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"within {seconds} s: {what}"
        time.sleep(0.05)
