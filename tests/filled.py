"""An instance with something on every page, made in seconds through the real operations.

Workers are played by `tests.factories.Walk`; the documents that they would store are invented
(`tests.audit_documents`). Nothing was measured, and no picture shows anybody.
"""

import contextlib
import dataclasses
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from privacy.manifests import DatasetSchema
from service.config import Settings
from service.domain.access import AccessMode
from service.domain.access_fields import RequestField
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.jobs import Job
from service.domain.releases import Release, ReleaseState
from service.editing_resources import NewEdit
from service.embedded import pick_port, stop_process, wait_for_http
from service.operations import (
    access,
    access_policies,
    accounts,
    agreements,
    datasets,
    editing,
    editing_models,
    jobs,
    study_results,
    webhooks,
)
from service.store.objects import Bucket
from service.wiring import Application
from tests.audit_documents import store_documents
from tests.components import seaweed_server, valkey_server
from tests.factories import Walk, application_for, settings_for
from tests.studies import joined, opened, phantom_picture, read_all

ROOT = Path(__file__).resolve().parent.parent
KNEES = DatasetSchema(
    declared_count=2500, height=64, width=64, label="kl_grade", labels=("0", "1", "2", "3", "4")
)
CERTIFICATE: dict[str, Any] = {
    "epsilon": 0.998,
    "delta": 1e-6,
    "cohort_epsilon": 3.99,
    "cohort_delta": 4e-6,
    "unit": "person",
    "candidates_trained": 4,
    "image_count": 8000,
    "generator": "statistics",
    "labels": dict.fromkeys(KNEES.labels, 1600),
    "declared": KNEES.model_dump(mode="json"),
}
QUESTIONS = [
    RequestField(name="project", label="What will you use it for?"),
    RequestField(name="country", label="Where?", kind="country"),
]
REPORT = {
    "source_format": "images+csv",
    "records": 4980,
    "persons": 2490,
    "labels": {"0": 1990, "1": 1010, "2": 1100, "3": 640, "4": 240},
    "duplicates": {"images": 2, "persons": 2, "images_repeated_within_person": 3},
    "dropped": ["file name", "patient_id"],
    "ignored_columns": ["side"],
}
REFUSED = {
    "type": "input-refused",
    "detail": "../outside.png was refused: a file leads out of the archive: ../outside.png; "
    "allowed: names below the archive's root. Zip the folder again without such names.",
    "file": "../outside.png",
    "value": "../outside.png",
    "limit": "names below the archive's root",
    "remedy": "Zip the folder again without such names.",
}
PROGRESS = {
    "stage": "training",
    "step": 84,
    "total": 200,
    "eta_seconds": 412.0,
    "metrics": {"phantom_loss": 0.31},
    "stages": [
        {"stage": "fetching", "seconds": 3.0, "attempt": 1},
        {"stage": "warm-up", "seconds": 48.0, "attempt": 1},
        {"stage": "training", "seconds": None, "attempt": 1},
    ],
    "curves": {
        "warm_up_loss": [[n, round(0.9 / (1 + n / 60), 4)] for n in range(0, 800, 20)],
        "phantom_loss": [[n, round(0.3 + 0.2 / (1 + n / 20), 4)] for n in range(0, 90, 6)],
    },
}


class Filler(Walk):
    """A tenant whose versions are about different persons each, with whole documents."""

    def version(self, dataset: Dataset, *, persons: Iterable[str] = ()) -> DatasetVersion:
        """Upload and ingest a version."""
        return super().version(dataset, persons=tuple(persons) or (secrets.token_hex(8),))

    def audited(self, version: DatasetVersion, **options: Any) -> Job:
        """Train, sample and audit, and store what a worker stores."""
        audit = super().audited(version, **options)
        store_documents(self.application, audit)
        with self.application.uow(read_only=True) as uow:
            found = uow.get(Job, audit.id)
        assert found is not None
        return found

    def release(self, state: ReleaseState = ReleaseState.DRAFT, **options: Any) -> Release:
        """Return a release in `state`, with a whole certificate once it has one."""
        made = super().release(state, **options)
        self._note(Release, made.id, self._certify)
        return self.current(made)

    def fill(self) -> None:
        """Make a dataset with releases in every state, jobs in every state, uploads of every kind."""
        joined(self, opened(self))
        self._close_a_study()
        self.dataset("Hands, declared ahead of the export", epsilon="8")
        knees = self.dataset("Knees, two visits", epsilon="30", delta="0.00003", schema=KNEES)
        version = self.version(knees)
        self._note(DatasetVersion, version.id, lambda one: setattr(one, "ingest_report", REPORT))
        made = {
            state: self.release(state, audit=self.audited(version))
            for state in (
                ReleaseState.PUBLISHED,
                ReleaseState.SUSPENDED,
                ReleaseState.REVOKED,
                ReleaseState.RETURNED,
                ReleaseState.REJECTED,
                ReleaseState.SUBMITTED,
                ReleaseState.UNDER_REVIEW,
                ReleaseState.APPROVED,
                ReleaseState.DRAFT,
            )
        }
        self.downloaded(made[ReleaseState.PUBLISHED])
        self._edit(made[ReleaseState.PUBLISHED])
        self._stress(made[ReleaseState.PUBLISHED])
        self._lend(self.release(ReleaseState.PUBLISHED, audit=self.audited(version)))
        self._ask_for(self.release(ReleaseState.PUBLISHED, audit=self.audited(version)))
        self._hear()
        self._run(version)
        cancelled = self.training(version)
        with self.application.uow() as uow:
            jobs.cancel_job(uow, self.owner, job_id=cancelled.id)
        self.training(version)
        self._refuse_upload(knees)
        with self.application.uow() as uow:
            datasets.start_upload(
                uow, self.owner, dataset_id=knees.id, suffix=".zip", size_bytes=48_000_000
            )

    def _hear(self) -> None:
        """Have a webhook, with a message that nobody sends here."""
        with self.application.uow() as uow:
            made = webhooks.create_webhook(
                uow,
                self.owner,
                url="https://receiver.example.org/kaima",
                kinds=["release.published", "access.requested"],
            )
        with self.application.uow() as uow:
            webhooks.send_test(uow, self.owner, webhook_id=made.endpoint.id)

    def _edit(self, release: Release) -> None:
        """Ask for edits of a release, as somebody who may download it."""
        asked = NewEdit(vary="joint_space", held=["exposure"], knees=True)
        with self.application.uow() as uow:
            editing.request_edit(
                uow, self.collaborator, release_id=release.id, asked=asked.model_dump(mode="json")
            )

    def _stress(self, release: Release) -> None:
        """Have a classifier tested; what the worker stores is invented."""
        with self.application.uow() as uow:
            model = editing_models.put_model(
                uow, self.collaborator, release_id=release.id, chunks=[b"a model"]
            )
            asked = NewEdit(form="stress_test", vary="exposure", model=model, images=4, steps=3)
            job = editing_models.request(
                uow, self.collaborator, release_id=release.id, asked=asked.model_dump(mode="json")
            )
        files = {
            editing.SHEET: phantom_picture(1),
            editing_models.STRESS_REPORT: b"<!doctype html><h1>Where answers change</h1>",
            editing_models.STRESS_NUMBERS: b"{}",
        }
        token = self.claim(job)
        for name, body in files.items():
            key = f"candidate/{job.id}/1/{name}"
            self.application.objects.put_bytes(Bucket.WORK, key, body=body)
        result: dict[str, Any] = {name: f"candidate/{job.id}/1/{name}" for name in files}
        result |= {
            "images": 12,
            "met": 1.0,
            "values": [0.4, 0.5, 0.6],
            "attributes": ["exposure", "contrast"],
            "mean_measured": [[0.4, 0.15], [0.5, 0.15], [0.6, 0.15]],
            "model_sha256": "5" * 64,
            "changed_their_answer": {"share": 0.25, "ci_low": 0.0, "ci_high": 0.75},
        }
        self.succeed(job, token, result)

    def _close_a_study(self) -> None:
        """Have two readers answer everything, and close their study."""
        study = opened(self)
        for name in ("Reader A", "Reader B"):
            read_all(self, joined(self, study, name), confidence=lambda number: 1 + number % 6)
        with self.application.uow() as uow:
            study_results.close_study(uow, self.owner, study_id=study.id)

    def _lend(self, release: Release) -> None:
        """Give a release on request only, under an agreement."""
        with self.application.uow() as uow:
            made = agreements.create_agreement(
                uow, self.owner, name="Use of data", text="Do not identify anybody."
            )
            agreement_id = made.agreement.id
        with self.application.uow() as uow:
            access_policies.set_access_policy(
                uow,
                self.owner,
                release_id=release.id,
                mode=AccessMode.BY_REQUEST,
                fields=QUESTIONS,
                agreement_id=agreement_id,
                grant_days=365,
            )

    def _ask_for(self, release: Release) -> None:
        with self.application.uow() as uow:
            access_policies.set_access_policy(
                uow,
                self.owner,
                release_id=release.id,
                mode=AccessMode.BY_REQUEST,
                fields=QUESTIONS,
                agreement_id=None,
                grant_days=365,
            )
        with self.application.uow() as uow:
            access.request_access(
                uow,
                self.collaborator,
                release_id=release.id,
                answers={"project": "A course of twelve weeks.", "country": "DE"},
            )

    def _run(self, version: DatasetVersion) -> None:
        """Have a training run, with everything that its page shows."""
        job = self.training(version)
        token = self.claim(job, lease_seconds=3600)
        self.charge(job, token)
        with self.application.uow() as uow:
            jobs.heartbeat(uow, job.id, token=token, lease_seconds=3600, progress=dict(PROGRESS))

    def _refuse_upload(self, dataset: Dataset) -> None:
        job = self.uploaded(dataset)
        token = self.claim(job)
        with self.application.uow() as uow:
            datasets.refuse_ingest(uow, job.id, token=token, problem=REFUSED)
        with self.application.uow() as uow:
            jobs.fail_job(uow, job.id, token=token, problem=REFUSED)

    def _certify(self, release: Release) -> None:
        if release.certificate:
            release.certificate = CERTIFICATE

    def _note(self, kind: type[Any], key: str, change: Any) -> None:
        with self.application.uow() as uow:
            uow.without_trail("what a worker writes")
            change(uow.get(kind, key))


def keys_of(walk: Walk) -> dict[str, str]:
    """Make an API key for one person of each role."""
    people = {
        "Data owner": walk.owner,
        "First auditor": walk.auditors[2],  # whose votes are still open
        "Collaborator": walk.collaborator,
        "operator": walk.operator,
    }
    return {who: _key(walk.application, actor) for who, actor in people.items()}


@contextlib.contextmanager
def filled_instance() -> Iterator[tuple[str, dict[str, str], Walk]]:
    """Run a filled instance on components of its own; yield its address, everybody's key, the walk."""
    with (
        tempfile.TemporaryDirectory(prefix="kaima-filled-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        store = stack.enter_context(seaweed_server(folder / "seaweed"))
        broker = stack.enter_context(valkey_server(folder / "valkey"))
        state = folder / "state"
        state.mkdir()
        settings = settings_for(state, store, redis_url=broker)
        settings = dataclasses.replace(settings, catalogue_file=None)  # the real generators
        application = application_for(settings)
        stack.callback(application.close)
        walk = Filler(application)
        walk.fill()
        yield stack.enter_context(running_web(settings, folder / "web.log")), keys_of(walk), walk


@contextlib.contextmanager
def running_web(settings: Settings, log: Path) -> Iterator[str]:
    """Run the app under gunicorn; yield its address. A traceback in its log is a failure."""
    port = pick_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "KAIMA_STATE": str(settings.state),
        "REDIS_URL": settings.redis_url,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_ACCESS_KEY": settings.s3_access_key,
        "S3_SECRET_KEY": settings.s3_secret_key,
        "S3_BUCKET_PREFIX": settings.s3_bucket_prefix,
        "KAIMA_PART_BYTES": str(settings.part_bytes),
        "KAIMA_PUBLIC_URL": url,
    }
    if settings.catalogue_file is not None:
        environment["KAIMA_CATALOGUE_FILE"] = str(settings.catalogue_file)
    if settings.database_url:
        environment["DATABASE_URL"] = settings.database_url
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "8"]
    command += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "service.app:create_app()"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        wait_for_http(f"{url}/healthz", process=process, timeout_seconds=120)
        yield url
    finally:
        stop_process(process, grace_seconds=5)
    text = log.read_text(encoding="utf-8")
    if "Traceback" in text:
        raise RuntimeError(f"The web app logged a traceback: {text[-3000:]}")


def _key(application: Application, actor: Actor) -> str:
    with application.uow() as uow:
        _, token = accounts.create_api_key(uow, BOOTSTRAP, user_id=actor.user_id)
    return token
