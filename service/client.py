"""A typed HTTP client: one method per step of the walkthrough. The `kaima` command is built on it.

It needs neither a web framework nor a database. Refusals are raised as `ProblemError`, whose text
is the sentence that the service wrote for people.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from privacy.manifests import DatasetSchema
from privacy.table_schema import TableSchema
from service import resources as r
from service.access_client import AccessCalls
from service.connection import Connection, ProblemError
from service.domain.declarations import ReleaseDeclaration
from service.editing_client import EditCalls
from service.journal_client import JournalCalls
from service.people_client import PeopleCalls
from service.policy_client import PolicyCalls
from service.review_client import ReviewCalls
from service.study_client import StudyCalls
from service.transfers import ByteProgress, Source, download_to, put_parts

__all__ = ["JobFailed", "JobProgress", "KaimaClient", "ProblemError"]

JobProgress = Callable[[r.Job], None]


class JobFailed(Exception):
    """A job that was waited for ended without success; the text says why."""

    def __init__(self, job: r.Job) -> None:
        problem = job.problem or {}
        reason = problem.get("detail") or problem.get("sentence") or "no reason was recorded"
        super().__init__(f"The {job.kind} job {job.id} ended {job.status}: {reason}")
        self.job = job


class KaimaClient(
    JournalCalls, AccessCalls, StudyCalls, PolicyCalls, ReviewCalls, PeopleCalls, EditCalls
):
    """A connection to one Kaima service, acting for one API key."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._connection = Connection(
            self.url, api_key, timeout_seconds=timeout_seconds, transport=transport
        )
        # Presigned URLs carry their own authority: the API key is never sent to object storage.
        self._storage = httpx.Client(timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.http.close()
        self._storage.close()

    # Accounts -----------------------------------------------------------------------------------

    def instance(self) -> r.Instance:
        """Return who signs the releases of this service."""
        return self._connection.get(r.Instance, "/v1/instance")

    def me(self) -> r.Me:
        """Return who the API key acts for."""
        return self._connection.get(r.Me, "/v1/me")

    def create_tenant(self, name: str) -> r.Tenant:
        """Create a tenant (operator)."""
        return self._connection.post(r.Tenant, "/v1/tenants", r.NewTenant(name=name))

    def create_user(self, name: str, *, roles: Sequence[str], tenant_id: str) -> r.User:
        """Create a user (operator)."""
        body = r.NewUser.model_validate(
            {"name": name, "roles": list(roles), "tenant_id": tenant_id}
        )
        return self._connection.post(r.User, "/v1/users", body)

    def create_api_key(
        self, user_id: str, *, scopes: Sequence[str] = (), expires_in_days: int | None = None
    ) -> r.ApiKey:
        """Create an API key for a user (operator); its token is shown this once."""
        body = r.NewApiKey(user_id=user_id, scopes=list(scopes), expires_in_days=expires_in_days)
        return self._connection.post(r.ApiKey, "/v1/api-keys", body)

    def revoke_api_key(self, key_id: str) -> None:
        """Revoke an API key (operator)."""
        self._connection.send("DELETE", f"/v1/api-keys/{key_id}")

    # Datasets -----------------------------------------------------------------------------------

    def create_dataset(
        self,
        name: str,
        *,
        purpose: str,
        declared: DatasetSchema | TableSchema,
        epsilon: float | None = None,
        delta: float | None = None,
        rule: str = "basic",
        join_dataset_id: str | None = None,
    ) -> r.Dataset:
        """Create a dataset and its budget, or join the budget of another dataset."""
        body = r.NewDataset.model_validate(
            {
                "name": name,
                "purpose": purpose,
                "declared": declared,
                "epsilon": epsilon,
                "delta": delta,
                "rule": rule,
                "join_dataset_id": join_dataset_id,
            }
        )
        return self._connection.post(r.Dataset, "/v1/datasets", body)

    def datasets(self) -> Iterator[r.Dataset]:
        """Yield the datasets that the actor may see, newest first."""
        return self._connection.pages(r.DatasetPage, "/v1/datasets")

    def dataset(self, dataset_id: str) -> r.Dataset:
        """Return a dataset with its versions."""
        return self._connection.get(r.Dataset, f"/v1/datasets/{dataset_id}")

    def version(self, version_id: str) -> r.Version:
        """Return one version of a dataset."""
        return self._connection.get(r.Version, f"/v1/versions/{version_id}")

    def budget(self, dataset_id: str) -> r.Budget:
        """Return what is reserved, spent and left of a dataset's budget."""
        return self._connection.get(r.Budget, f"/v1/datasets/{dataset_id}/budget")

    def start_upload(self, dataset_id: str, wanted: r.NewUpload) -> r.Upload:
        """Make a version whose parts come next."""
        return self._connection.post(r.Upload, f"/v1/datasets/{dataset_id}/versions", wanted)

    def upload(
        self,
        dataset_id: str,
        path: Path,
        *,
        progress: ByteProgress | None = None,
        through_service: bool = False,
    ) -> r.Job:
        """Upload a .zip, .npz, .csv, .parquet or a folder as a new version; return its INGEST job.

        The parts go straight to object storage; where that cannot be reached from here, or with
        `through_service`, the bytes are streamed through the service instead.
        """
        source = Source(path)
        wanted = r.NewUpload.model_validate(
            {"suffix": source.suffix, "size_bytes": source.size_bytes}
        )
        upload = self.start_upload(dataset_id, wanted)
        version_id = upload.version.id
        if through_service or not self._storage_answers(version_id):
            return self._connection.put_blocks(
                r.Job,
                f"/v1/versions/{version_id}/content",
                source.watched_blocks(progress),
                size_bytes=source.size_bytes,
            )
        parts = put_parts(
            self._storage,
            source,
            part_size_bytes=upload.part_size_bytes,
            fresh_url=lambda number: self._part_url(version_id, number),
            progress=progress,
        )
        body = r.CompletedUpload(
            parts=[r.Part(part_number=number, etag=etag) for number, etag in parts]
        )
        return self._connection.post(r.Job, f"/v1/versions/{version_id}/complete", body)

    def withdraw_person(self, dataset_id: str, patient_id: str) -> r.Job:
        """Take a person out of a dataset; return the ERASE job."""
        body = r.NewWithdrawal(patient_id=patient_id)
        return self._connection.post(r.Job, f"/v1/datasets/{dataset_id}/withdrawals", body)

    # Training -----------------------------------------------------------------------------------

    def generators(self) -> dict[str, Any]:
        """Return every generator with its documentation, the JSON Schema of its config, defaults."""
        answer: dict[str, Any] = self._connection.send("GET", "/v1/generators").json()
        return answer

    def plan_training(  # noqa: PLR0913 - everything that may be asked for
        self,
        version_id: str,
        *,
        generator: str,
        epsilon: float,
        delta: float | None = None,
        preset: str | None = None,
        config: Mapping[str, Any] | None = None,
        tier: str = "registered",
        samples: int = 8000,
        estimate: bool = True,
    ) -> r.TrainingPlan:
        """Return what a training run would reserve, or why it would be refused.

        With `estimate`, a dry run finds out time and memory: `wait` for the job that the answer's
        `estimate` names, then ask again.
        """
        body = r.NewTrainingPlan.model_validate(
            {
                "generator": generator,
                "preset": preset,
                "config": dict(config or {}),
                "target": {"epsilon": epsilon, "delta": delta},
                "tier": tier,
                "samples": samples,
                "estimate": estimate,
            }
        )
        path = f"/v1/versions/{version_id}/training-plans"
        return self._connection.post(r.TrainingPlan, path, body)

    def request_training(  # noqa: PLR0913 - everything that may be asked for
        self,
        version_id: str,
        *,
        generator: str,
        epsilon: float,
        delta: float | None = None,
        preset: str | None = None,
        config: Mapping[str, Any] | None = None,
        tier: str = "registered",
        samples: int = 8000,
        canaries: int = 0,
        idempotency_key: str | None = None,
    ) -> r.Job:
        """Reserve the budget for a training run and queue it; return its TRAIN job.

        With `canaries`, the run is an audit twin: charged alike, and never released.
        """
        body = r.NewJob.model_validate(
            {
                "version_id": version_id,
                "generator": generator,
                "preset": preset,
                "config": dict(config or {}),
                "target": {"epsilon": epsilon, "delta": delta},
                "tier": tier,
                "samples": samples,
                "canaries": canaries,
            }
        )
        return self._connection.post(
            r.Job, "/v1/jobs", body, idempotency_key=idempotency_key or _new_key()
        )

    def jobs(self, *, dataset_id: str | None = None) -> Iterator[r.Job]:
        """Yield jobs, newest first."""
        return self._connection.pages(r.JobPage, "/v1/jobs", dataset_id=dataset_id)

    def job(self, job_id: str) -> r.Job:
        """Return a job."""
        return self._connection.get(r.Job, f"/v1/jobs/{job_id}")

    def cancel_job(self, job_id: str) -> r.Job:
        """Ask a job to stop; it is `cancelling` until its worker has stopped."""
        return self._connection.post(r.Job, f"/v1/jobs/{job_id}/cancel")

    def wait(
        self,
        job_id: str,
        *,
        progress: JobProgress | None = None,
        poll_seconds: float = 1.0,
        timeout_seconds: float | None = None,
        check: bool = True,
    ) -> r.Job:
        """Wait until a job has finished, calling `progress` at each look.

        Raises: JobFailed if it did not succeed (unless `check` is false), TimeoutError.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            job = self.job(job_id)
            if progress is not None:
                progress(job)
            if job.finished:
                if check and job.state != "succeeded":
                    raise JobFailed(job)
                return job
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Job {job_id} is still {job.status} ({job.stage}).")
            time.sleep(poll_seconds)

    def wait_for_audit(
        self,
        training_job_id: str,
        *,
        progress: JobProgress | None = None,
        poll_seconds: float = 1.0,
        timeout_seconds: float | None = None,
    ) -> r.Job:
        """Wait for a training run, then its sampling, then its audit; return the AUDIT job.

        `timeout_seconds` bounds each of the three. Raises: JobFailed, TimeoutError.
        """
        job_id = training_job_id
        while True:
            job = self.wait(
                job_id,
                progress=progress,
                poll_seconds=poll_seconds,
                timeout_seconds=timeout_seconds,
            )
            if job.kind == "audit":
                return job
            job_id = self._wait_for_child(job, poll_seconds).id

    def sample_grid(self, job_id: str) -> bytes:
        """Return the newest grid of synthetic images of a running job, as PNG."""
        return self._connection.send("GET", f"/v1/jobs/{job_id}/samples.png").content

    def report(self, audit_job_id: str) -> dict[str, Any]:
        """Return an audit report."""
        answer: dict[str, Any] = self._connection.send(
            "GET", f"/v1/reports/{audit_job_id}.json"
        ).json()
        return answer

    def report_html(self, audit_job_id: str) -> str:
        """Return an audit report as one self-contained HTML page. It holds real images."""
        return self._connection.send("GET", f"/v1/reports/{audit_job_id}.html").text

    # Releases -----------------------------------------------------------------------------------

    def create_release(
        self,
        dataset_id: str,
        *,
        audit_job_id: str,
        name: str,
        version: str = "1.0.0",
        terms: str,
        declared: ReleaseDeclaration | None = None,
        idempotency_key: str | None = None,
    ) -> r.Release:
        """Draft a release of one audited set of samples."""
        body = r.NewRelease(
            dataset_id=dataset_id,
            audit_job_id=audit_job_id,
            name=name,
            version=version,
            terms=terms,
            declared=declared or ReleaseDeclaration(),
        )
        return self._connection.post(
            r.Release, "/v1/releases", body, idempotency_key=idempotency_key or _new_key()
        )

    def releases(self, *, mine: bool = False) -> Iterator[r.Release]:
        """Yield the catalogue, or with `mine` every release of the actor's tenant, newest first."""
        return self._connection.pages(r.ReleasePage, "/v1/releases", mine="true" if mine else None)

    def release(self, release_id: str) -> r.Release:
        """Return a release."""
        return self._connection.get(r.Release, f"/v1/releases/{release_id}")

    def submit_release(self, release_id: str, *, revision: int | None = None) -> r.Release:
        """Freeze the evidence and hand the release to the auditors."""
        return self._act(release_id, "submit", revision=revision)

    def review_release(
        self,
        release_id: str,
        *,
        decision: str,
        reason: str,
        conditions: r.Conditions | None = None,
        revision: int | None = None,
    ) -> r.Release:
        """Vote on a release: approve (under conditions, if need be), return or reject (auditor)."""
        asked = {"decision": decision, "reason": reason, "conditions": conditions}
        body = r.NewReview.model_validate(asked)
        return self._act(release_id, "reviews", body, revision=revision)

    def revise_release(
        self,
        release_id: str,
        *,
        audit_job_id: str | None = None,
        terms: str | None = None,
        revision: int | None = None,
    ) -> r.Release:
        """Change a draft or returned release: another candidate, or other terms."""
        body = r.RevisedRelease(audit_job_id=audit_job_id, terms=terms)
        return self._connection.post(
            r.Release,
            f"/v1/releases/{release_id}",
            body,
            etag=self._etag(release_id, revision),
            method="PATCH",
        )

    def publish_release(
        self, release_id: str, *, revision: int | None = None, idempotency_key: str | None = None
    ) -> r.Job:
        """Package and publish an approved release; return the PACKAGE job."""
        return self._connection.post(
            r.Job,
            f"/v1/releases/{release_id}/publish",
            idempotency_key=idempotency_key or _new_key(),
            etag=self._etag(release_id, revision),
        )

    def suspend_release(
        self, release_id: str, *, reason: str, revision: int | None = None
    ) -> r.Release:
        """Take a published release away for now; leaves a tombstone."""
        return self._act(release_id, "suspend", r.Reason(reason=reason), revision=revision)

    def reinstate_release(
        self, release_id: str, *, reason: str, revision: int | None = None
    ) -> r.Release:
        """Bring a suspended release back."""
        return self._act(release_id, "reinstate", r.Reason(reason=reason), revision=revision)

    def revoke_release(
        self, release_id: str, *, reason: str, revision: int | None = None
    ) -> r.Release:
        """Take a published release away for good; leaves a tombstone."""
        return self._act(release_id, "revoke", r.Reason(reason=reason), revision=revision)

    def withdraw_release(
        self, release_id: str, *, reason: str, revision: int | None = None
    ) -> r.Release:
        """Take a release back before it is published."""
        return self._act(release_id, "withdraw", r.Reason(reason=reason), revision=revision)

    def reaudit_releases(
        self,
        release_ids: Sequence[str] = (),
        *,
        depth: Literal["quick", "full"] = "quick",
        idempotency_key: str | None = None,
    ) -> r.Reaudits:
        """Have releases audited again; without ids, all that are published or suspended."""
        return self._connection.post(
            r.Reaudits,
            "/v1/releases/re-audits",
            r.NewReaudits(release_ids=list(release_ids), depth=depth),
            idempotency_key=idempotency_key or _new_key(),
        )

    def downloaders(self, release_id: str) -> list[r.Downloader]:
        """Return everybody to whom a link to the bundle was handed out, the last one first."""
        return self._connection.get(r.Downloaders, f"/v1/releases/{release_id}/downloaders").items

    def accept_terms(self, release_id: str) -> r.Acceptance:
        """Accept the terms of a release (collaborator)."""
        return self._connection.post(r.Acceptance, f"/v1/releases/{release_id}/acceptances")

    def create_download(self, release_id: str) -> r.Download:
        """Return a short-lived URL of a release's bundle (collaborator, terms accepted)."""
        return self._connection.post(r.Download, f"/v1/releases/{release_id}/downloads")

    def download(
        self, release_id: str, folder: Path, *, progress: ByteProgress | None = None
    ) -> Path:
        """Download a release's bundle into `folder`, resuming an earlier try; return its path."""
        first = self.create_download(release_id)
        urls = iter([first.url])
        folder.mkdir(parents=True, exist_ok=True)
        return download_to(
            folder / Path(first.file_name).name,
            http=self._storage,
            fresh_url=lambda: next(urls, None) or self.create_download(release_id).url,
            size_bytes=first.size_bytes,
            sha256=first.sha256,
            progress=progress,
        )

    def trail(self, release_id: str) -> Iterator[r.TrailEvent]:
        """Yield what happened to a release, oldest first."""
        return self._connection.pages(r.TrailPage, f"/v1/releases/{release_id}/trail")

    # Inside -------------------------------------------------------------------------------------

    def _act(
        self,
        release_id: str,
        action: str,
        body: r.Body | None = None,
        *,
        revision: int | None = None,
    ) -> r.Release:
        return self._connection.post(
            r.Release,
            f"/v1/releases/{release_id}/{action}",
            body,
            etag=self._etag(release_id, revision),
        )

    def _etag(self, release_id: str, revision: int | None) -> str:
        """Return the ETag of the revision that was read; without one, of the current revision."""
        if revision is None:
            revision = self.release(release_id).revision
        return f'"{revision}"'

    def _wait_for_child(self, job: r.Job, poll_seconds: float) -> r.Job:
        # The next job is queued in the transaction that ends this one; the loop only covers a
        # reader that looks at a replica.
        for _ in range(30):
            for other in self.jobs(dataset_id=job.dataset_id):
                if other.parent_id == job.id:
                    return other
            time.sleep(poll_seconds)
        raise TimeoutError(f"No job followed job {job.id}; ask the operator to look at the trail.")

    def _storage_answers(self, version_id: str) -> bool:
        """Say whether object storage can be reached from here at all."""
        url = self._part_url(version_id, 1)
        try:
            self._storage.request("OPTIONS", httpx.URL(url).copy_with(query=None, path="/"))
        except httpx.TransportError:
            return False
        return True

    def _part_url(self, version_id: str, number: int) -> str:
        body = r.PartNumbers(part_numbers=[number])
        found = self._connection.post(r.PartUrls, f"/v1/versions/{version_id}/parts", body)
        return found.urls[0].url


def _new_key() -> str:
    return secrets.token_urlsafe(24)
