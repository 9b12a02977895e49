"""The walkthrough itself: each step over HTTP, by the actor who may take it.

`Record` gathers the documents that the service answered with; `summary` reads only those.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service import resources as r
from service.client import KaimaClient
from service.domain.access_fields import PURPOSE
from service.walkthrough.actors import Actors
from service.walkthrough.declaration import Declaration
from service.walkthrough.display import Display

PASSED = ("PASS-PROVEN", "PASS-EMPIRICAL")
POLL_SECONDS = 0.5
TERMS = (
    "For research and teaching. Make no attempt to find out who any person behind the training "
    "data is. Cite the release and its certificate."
)
USE = "Teaching, and trying methods of analysis before they meet the real records."
"""What the collaborator says that they want the release for."""
_JOB_TITLES = {
    "ingest": "Worker: checking and ingesting",
    "train": "Worker: training the generator",
    "sample": "Worker: drawing the synthetic set",
    "audit": "Worker: attacking the synthetic set",
    "package": "Worker: packaging and signing",
}


class NotReleasable(RuntimeError):
    """The evidence does not allow a release; the text says which verdict stands in the way."""


@dataclass(frozen=True)
class Request:
    """What the data owner asks for."""

    upload: Path
    declaration: Declaration
    epsilon: float
    delta: float
    tier: str
    generator: str
    config: dict[str, Any]
    samples: int
    name: str = "Radiographs"

    @property
    def holds_rows(self) -> bool:
        """Say whether the records are rows of a table, with or without an image each."""
        return self.declaration.schema.modality != "image"

    @property
    def holds_images(self) -> bool:
        """Say whether the records are images, with or without a row each."""
        return self.declaration.schema.modality != "table"


@dataclass
class Record:
    """The documents of one walkthrough, as far as it came."""

    dataset: r.Dataset | None = None
    ingest: r.Job | None = None
    version: r.Version | None = None
    reserved: r.Budget | None = None
    train: r.Job | None = None
    sample: r.Job | None = None
    audit: r.Job | None = None
    report: dict[str, Any] = field(default_factory=dict)
    release: r.Release | None = None
    budget: r.Budget | None = None
    bundle: Path | None = None


@dataclass
class Walkthrough:
    """Takes the steps in order and keeps what came back in `record`."""

    actors: Actors
    request: Request
    display: Display
    out: Path
    record: Record = field(default_factory=Record)

    def upload(self) -> None:
        """Data owner: declare a dataset and its budget, upload a version; a worker ingests it."""
        owner, request = self.actors.owner, self.request
        self.record.dataset = owner.create_dataset(
            request.name,
            purpose="Walkthrough: share a synthetic set in place of the real records.",
            declared=request.declaration.schema,
            epsilon=request.epsilon,
            delta=request.delta,
        )
        with self.display.step("upload", "Data owner: uploading") as advance:
            job = owner.upload(self.record.dataset.id, request.upload, progress=advance)
        with self.display.jobs(_JOB_TITLES) as look:
            self.record.ingest = owner.wait(job.id, progress=look, poll_seconds=POLL_SECONDS)
        if job.version_id is not None:
            self.record.version = owner.version(job.version_id)

    def train(self) -> None:
        """Data owner: reserve and train; workers draw the samples and audit them."""
        owner, request, version = self.actors.owner, self.request, self.record.version
        if version is None:
            raise RuntimeError("The ingest job names no version; see its result.")
        job = owner.request_training(
            version.id,
            generator=request.generator,
            config=request.config,
            epsilon=request.epsilon,
            delta=request.delta,
            tier=request.tier,
            samples=request.samples,
        )
        self.record.train = job
        self.record.reserved = self.record.budget = owner.budget(version.dataset_id)
        try:
            with self.display.jobs(_JOB_TITLES) as look:
                audit = owner.wait_for_audit(job.id, progress=look, poll_seconds=POLL_SECONDS)
        finally:  # a failed run has its price, too
            self.record.train = owner.job(job.id)
            self.record.budget = owner.budget(version.dataset_id)
        self.record.audit = audit
        if audit.parent_id is not None:
            self.record.sample = owner.job(audit.parent_id)
        self.record.report = owner.report(audit.id)
        self._keep_report(owner, audit.id)

    def check_verdict(self) -> str:
        """Return the verdict. Raises: NotReleasable where the policy forbids an approval."""
        verdict = str(self.record.report.get("verdict", "INVALID"))
        enclave = verdict == "INCONCLUSIVE" and self.request.tier == "enclave"
        if verdict not in PASSED and not enclave:
            raise NotReleasable(
                f"The audit's verdict is {verdict} in the {self.request.tier} tier, so no auditor "
                "may approve this candidate. The report says which gates stand in the way."
            )
        return verdict

    def review(self) -> None:
        """Data owner: submit. Two auditors: read the evidence and vote, blind to each other."""
        dataset, audit = self.record.dataset, self.record.audit
        if dataset is None or audit is None:
            raise RuntimeError("There is no audited candidate to review.")
        with self.display.step("review", "Owner submits, two auditors review"):
            release = self.actors.owner.create_release(
                dataset.id, audit_job_id=audit.id, name=self.release_name(), terms=TERMS
            )
            self.record.release = self.actors.owner.submit_release(release.id)
            for auditor in self.actors.auditors:
                verdict = str(auditor.report(audit.id)["verdict"])
                auditor.review_release(
                    release.id, decision="approve", reason=reason_for(verdict, self.request.tier)
                )
            self.record.release = self.actors.owner.release(release.id)

    def publish(self) -> None:
        """Data owner: publish; a worker packages and signs."""
        release = self._release()
        job = self.actors.owner.publish_release(release.id)
        with self.display.jobs(_JOB_TITLES) as look:
            self.actors.owner.wait(job.id, progress=look, poll_seconds=POLL_SECONDS)
        self.record.release = self.actors.owner.release(release.id)
        if self.record.dataset is not None:
            self.record.budget = self.actors.owner.budget(self.record.dataset.id)

    def download(self) -> Path:
        """Collaborator: find the release, ask for it if need be, accept its terms, download it."""
        collaborator = self.actors.collaborator
        with self.display.step("download", "Collaborator: downloading") as advance:
            wanted = self._release().id
            if wanted not in {release.id for release in collaborator.releases()}:
                raise RuntimeError(f"The release {wanted} is not in the collaborator's list.")
            self.ask_for_access(wanted)
            collaborator.accept_terms(wanted)
            self.record.bundle = collaborator.download(wanted, self.out, progress=advance)
        return self.record.bundle

    def ask_for_access(self, release_id: str) -> None:
        """Collaborator: say what for, where the tier is given on request. Data owner: grant it."""
        collaborator = self.actors.collaborator
        if collaborator.access_policy(release_id).mode != "by_request":
            return
        asked = collaborator.request_access(release_id, answers={PURPOSE.name: USE})
        self.actors.owner.approve_access(asked.id, reason="A use that the terms are made for.")

    def _release(self) -> r.Release:
        if self.record.release is None:
            raise RuntimeError("There is no release yet.")
        return self.record.release

    def release_name(self) -> str:
        """Return the name that the release of this walkthrough gets."""
        words = re.sub(r"[^a-z0-9]+", "-", self.request.declaration.target.lower()).strip("-")
        return f"synthetic-{words or 'set'}"[:60]

    def _keep_report(self, owner: KaimaClient, audit_id: str) -> None:
        """Keep the report for its owner only: its numbers were measured on real images."""
        page = self.out / "report.html"
        page.touch(mode=0o600)
        page.write_text(owner.report_html(audit_id), encoding="utf-8")


def reason_for(verdict: str, tier: str) -> str:
    """Return what an auditor of a walkthrough writes beside an approval."""
    if verdict in PASSED:
        return f"The verdict is {verdict}: every required gate holds in the {tier} tier."
    return (
        f"The verdict is {verdict}: the evidence is too small to bound every risk. No gate failed, "
        "the self-tests passed, epsilon is within the enclave tier, and the set stays inside an "
        "enclave, so the remaining uncertainty is acceptable for this use."
    )
