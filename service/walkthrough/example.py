"""Fill a demo that is kept: datasets, jobs and releases in every state, for somebody to click through.

Everything goes through HTTP by the actors who may take each step, on the evidence of the walkthrough
itself and of a small second candidate. A step that is refused is told and left out: which releases
can be made depends on the verdict that the audit has reached.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from service import resources as r
from service.client import JobFailed, ProblemError
from service.domain.access_fields import FieldKind, RequestField
from service.walkthrough.actors import Actors
from service.walkthrough.display import Display
from service.walkthrough.example_studies import make_edits, make_studies
from service.walkthrough.steps import TERMS, Walkthrough, reason_for

PILOT_PERSONS = 120
_OF_IMAGES = ("reader studies", "edits of the release", "a refused and an unfinished upload")
"""Steps that rows of a table cannot take, with images or without."""

_POLL_SECONDS = 0.3
_WAIT_SECONDS = 900.0
_QUESTIONS = (
    RequestField(name="project", label="What will you use it for?", kind=FieldKind.TEXT),
    RequestField(name="ethics", label="Number of the ethics approval"),
)
_ANSWERS: dict[str, str | bool] = {
    "project": "Teaching residents to grade knees, in one course of twelve weeks.",
    "ethics": "2026-117",
}


@dataclass
class _Filler:
    """The people, what the walkthrough made, and where scratch files go."""

    actors: Actors
    walk: Walkthrough
    display: Display
    scratch: Path

    def fill(self) -> None:
        """Take every step; one that fails is told and left out."""
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            # First: a study that closes later would void the votes on releases that wait.
            ("reader studies", lambda: make_studies(self.actors, self.walk)),
            ("edits of the release", lambda: make_edits(self.actors, self.walk)),
            ("releases on their way", self._releases_on_their_way),
            ("a suspended release", self._suspended),
            ("a revoked release", self._revoked),
            ("a release on request", self._on_request),
            ("a dataset without an upload", self._declared_only),
            ("a refused and an unfinished upload", self._uploads),
            ("a pilot with a cancelled training and a rejected release", self._pilot),
        )
        for name, step in steps:
            if name in _OF_IMAGES and self.walk.request.holds_rows:
                continue
            try:
                step()
            except (ProblemError, JobFailed, TimeoutError, httpx.HTTPError) as error:
                self.display.say(f"  Left out: {name}. {error}")

    def _releases_on_their_way(self) -> None:
        self._proposed("draft")
        returned = self._submitted("returned")
        first, second = self.actors.auditors
        first.review_release(
            returned.id,
            decision="return",
            reason="State in the terms for how long copies may be kept.",
        )
        second.review_release(
            returned.id, decision="return", reason="The name does not say that it is a first set."
        )
        waiting = self._submitted("waiting")
        first.review_release(
            waiting.id, decision="return", reason="One vote, hidden until the other is cast."
        )

    def _suspended(self) -> None:
        release = self._published("suspended")
        reason = "A reader noticed a label that looks wrong; it is being checked."
        self.actors.owner.suspend_release(release.id, reason=reason)

    def _revoked(self) -> None:
        release = self._published("revoked")
        self.walk.ask_for_access(release.id)
        self.actors.collaborator.accept_terms(release.id)
        self.actors.collaborator.create_download(release.id)
        reason = "A better set replaces it. Delete your copies."
        self.actors.owner.revoke_release(release.id, reason=reason)

    def _on_request(self) -> None:
        """Publish a release that must be asked for; one question is open, one was granted."""
        release = self._published("on-request")
        owner, operator = self.actors.owner, self.actors.operator
        owner.set_access_policy(release.id, mode="by_request", fields=_QUESTIONS)
        asked = self.actors.collaborator.request_access(release.id, answers=_ANSWERS)
        owner.approve_access(asked.id, reason="Known group, teaching only.")
        tenant = operator.create_tenant("Reading Room University")
        with self.actors.new_person("Second collaborator", "collaborator", tenant.id) as second:
            second.request_access(release.id, answers=_ANSWERS)

    def _declared_only(self) -> None:
        self.actors.owner.create_dataset(
            "Hand radiographs",
            purpose="Declared ahead of the export; nothing is uploaded yet.",
            declared=DatasetSchema(
                unit=UnitOfPrivacy.RECORD,
                declared_count=4000,
                height=96,
                width=96,
                label="bone_age_group",
                labels=("child", "teenager", "adult"),
            ),
            epsilon=8,
            delta=1e-6,
        )

    def _uploads(self) -> None:
        """Refuse an archive that leads out of itself; leave another upload unfinished."""
        dataset = self.walk.record.dataset
        if dataset is None:
            return
        owner = self.actors.owner
        path = self.scratch / "leads-out.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../outside.png", b"not an image")
            archive.writestr("table.csv", "file,patient_id,kl_grade\n../outside.png,P1,0\n")
        job = owner.upload(dataset.id, path)
        owner.wait(job.id, poll_seconds=_POLL_SECONDS, check=False, timeout_seconds=_WAIT_SECONDS)
        path.unlink()
        owner.start_upload(dataset.id, r.NewUpload(suffix=".zip", size_bytes=48_000_000))

    def _pilot(self) -> None:
        """Take a small dataset through a training that is cancelled and one that is rejected."""
        path = self.scratch / "pilot.zip"
        command = [sys.executable, "-m", "training.phantoms", "--seed", "7"]
        command += ["--persons", str(PILOT_PERSONS), "--pixels", "32", "--out", str(path)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own module
        owner = self.actors.owner
        dataset = owner.create_dataset(
            "Pilot knees",
            purpose="A first small export, to learn how to share at all.",
            declared=DatasetSchema(
                unit=UnitOfPrivacy.RECORD,  # phantoms of any seed carry the same patient ids
                declared_count=2 * PILOT_PERSONS,
                height=32,
                width=32,
                label="kl_grade",
                labels=("0", "1", "2", "3", "4"),
            ),
            epsilon=6,
            delta=1e-5,
        )
        upload = owner.upload(dataset.id, path)
        path.unlink()
        owner.wait(upload.id, poll_seconds=_POLL_SECONDS, timeout_seconds=_WAIT_SECONDS)
        version = str(upload.version_id)
        asked: dict[str, Any] = {
            "generator": "statistics",
            "config": {},
            "tier": "enclave",
            "samples": 200,
        }
        wanted = owner.request_training(version, epsilon=2.0, **asked)
        changed = owner.request_training(version, epsilon=1.0, **asked)
        owner.cancel_job(changed.id)
        audit = owner.wait_for_audit(
            wanted.id, poll_seconds=_POLL_SECONDS, timeout_seconds=_WAIT_SECONDS
        )
        release = owner.create_release(
            dataset.id, audit_job_id=audit.id, name="pilot-rejected", terms=TERMS
        )
        owner.submit_release(release.id)
        for auditor in self.actors.auditors:
            auditor.report(audit.id)
            auditor.review_release(
                release.id,
                decision="reject",
                reason="Too few persons to tell anything. Train on the whole export instead.",
            )

    def _proposed(self, name: str) -> r.Release:
        dataset, audit = self.walk.record.dataset, self.walk.record.audit
        if dataset is None or audit is None:
            raise TimeoutError("The walkthrough reached no audited candidate.")
        return self.actors.owner.create_release(
            dataset.id, audit_job_id=audit.id, name=f"{self._base()}-{name}", terms=TERMS
        )

    def _base(self) -> str:
        return self.walk.release_name()[:40]

    def _submitted(self, name: str) -> r.Release:
        return self.actors.owner.submit_release(self._proposed(name).id)

    def _published(self, name: str) -> r.Release:
        release, owner = self._submitted(name), self.actors.owner
        verdict = str(self.walk.record.report.get("verdict", "INVALID"))
        for auditor in self.actors.auditors:
            reason = reason_for(verdict, self.walk.request.tier)
            auditor.review_release(release.id, decision="approve", reason=reason)
        job = owner.publish_release(release.id)
        owner.wait(job.id, poll_seconds=_POLL_SECONDS, timeout_seconds=_WAIT_SECONDS)
        return owner.release(release.id)


def fill_example(actors: Actors, walk: Walkthrough, display: Display, *, scratch: Path) -> None:
    """Fill the instance that a walkthrough has just passed through."""
    with display.step("fill", "Filling the example for each role"):
        _Filler(actors, walk, display, scratch).fill()


def signing_in(actors: Actors, url: str) -> Iterator[str]:
    """Yield the lines that tell somebody how to click through as each role."""
    yield f"Sign in at {url}/sign-in?with=key with the key of whom you want to be:"
    for who, key in actors.keys.items():
        yield f"  {who:<20} {key}"
    for what, link in actors.links.items():
        yield f"{what}: {link}"
