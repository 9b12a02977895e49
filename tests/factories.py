"""Reach a state by walking the real operations: accounts, dataset, version, job, release.

`Walk` plays every actor, and the worker as well: it claims jobs and ends them with documents of the
right shape, so that everything up to a download is reached without training anything.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetManifest, DatasetSchema
from privacy.mechanisms import PrivacyTarget
from privacy.table_schema import TableSchema
from service.config import Settings
from service.domain.access import AccessMode
from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.jobs import Job, JobKind
from service.domain.releases import Decision, Release, ReleaseState
from service.domain.reviews import Conditions
from service.operations import access, accounts, datasets, downloads, jobs, releases, withholding
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork, utc_now
from service.wiring import Application, build, migrate
from tests.components import ObjectStoreServer

SCHEMA = DatasetSchema(declared_count=1000, height=8, width=8, label="grade", labels=("0", "1"))
TABLE = TableSchema.model_validate(
    {
        "declared_count": 1000,
        "person": "patient_id",
        "columns": [
            {"name": "age", "kind": "integer", "unit": "years", "edges": [40, 60, 80]},
            {"name": "grade", "kind": "ordinal", "levels": ["0", "1"], "role": "target"},
            {"name": "time", "kind": "number", "edges": [0, 1, 5], "missing": True},
        ],
        "constraints": [
            {"name": "no time", "when": {"grade": ["0"]}, "then": {"time": ["missing"]}}
        ],
    }
)
JOINT = TableSchema.model_validate(
    TABLE.model_dump(mode="json") | {"images": {"height": 8, "width": 8, "condition_on": ["grade"]}}
)
TARGET = PrivacyTarget(epsilon=1.0, delta=1e-6)
CATALOGUE = {
    "generators": {
        "statistics": {
            "title": "One Gaussian release",
            "documentation": "A generator for tests of the service.",
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"components": {"type": "integer", "minimum": 1, "maximum": 64}},
                "required": ["components"],
            },
            "defaults": {"components": 8},
            "stages": [{"kind": "gaussian", "stage": "statistics", "noise_ratio": 1.0}],
            "suits_from": 0,
        },
        "network": {
            "title": "A little DP-SGD",
            "documentation": "A generator for tests of the service.",
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"steps": {"type": "integer"}, "batch": {"type": "integer"}},
            },
            "defaults": {"steps": 40, "batch": 64},
            "stages": [
                {
                    "kind": "poisson_subsampled_gaussian",
                    "stage": "train",
                    "steps": "steps",
                    "expected_batch_size": "batch",
                }
            ],
            "presets": {
                "quick": {
                    "summary": "A few steps.",
                    "settings": {"steps": 10, "batch": {"share": 0.25, "least": 8, "most": 512}},
                }
            },
            "suits_from": 15000,
        },
        "counts": {
            "title": "Noised counts of a table",
            "documentation": "A generator for tests of the service.",
            "modality": "table",
            "schema": {"type": "object", "additionalProperties": False, "properties": {}},
            "defaults": {},
            "stages": [{"kind": "gaussian", "stage": "counts", "noise_ratio": 1.0}],
            "suits_from": 0,
        },
        "cases": {
            "title": "Noised counts of a table, and an average of its images",
            "documentation": "A generator for tests of the service.",
            "modality": "joint",
            "schema": {"type": "object", "additionalProperties": False, "properties": {}},
            "defaults": {},
            "stages": [
                {"kind": "gaussian", "stage": "counts", "noise_ratio": 1.5},
                {"kind": "gaussian", "stage": "average", "noise_ratio": 1.5},
            ],
            "suits_from": 0,
        },
    },
    "audits": {},
}


@dataclass
class RecordingDispatcher:
    """Keeps what would have been sent to the broker."""

    sent: list[tuple[JobKind, str]] = field(default_factory=list)

    def send(self, kind: JobKind, job_id: str) -> bool:
        """Remember one message."""
        self.sent.append((kind, job_id))
        return True


def settings_for(
    folder: Path, store: ObjectStoreServer, *, database_url: str = "", **options: Any
) -> Settings:
    """Return settings with a state folder, a database and buckets of their own."""
    catalogue = folder / "catalogue.json"
    catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
    return Settings(
        state=folder,
        database_url=database_url,
        s3_endpoint_url=store.endpoint_url,
        s3_access_key=store.access_key,
        s3_secret_key=store.secret_key,
        s3_bucket_prefix=f"t{secrets.token_hex(6)}",
        catalogue_file=catalogue,
        part_bytes=5 * 1024 * 1024,
        # Locked anchors could not be deleted with their buckets when a test ends.
        **{"journal_retention_days": 0, **options},
    )


def application_for(settings: Settings) -> Application:
    """Migrate, and build an application that records messages instead of sending them."""
    migrate(settings)
    return build(settings, dispatcher=RecordingDispatcher())


def copied_clock(application: Application, clock: Any) -> Application:
    """Return the same application at another time."""
    return replace(application, parts=replace(application.parts, clock=clock))


def person_digests(
    application: Application, tenant_id: str, persons: Iterable[str]
) -> NDArray[np.uint8]:
    """Return digests as the ingest makes them, shape (persons, 32)."""
    made = [application.keys.person_digest(tenant_id, name.encode()) for name in persons]
    return np.frombuffer(b"".join(made), dtype=np.uint8).reshape(-1, 32)


def content_digests(persons: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return keyed digests of two images per person, shape (2 * persons, 32)."""
    made = [
        hashlib.sha256(bytes([side]) + person.tobytes()).digest()
        for person in persons
        for side in (0, 1)
    ]
    return np.frombuffer(b"".join(made), dtype=np.uint8).reshape(-1, 32)


class Walk:
    """One tenant with its people, walking through the service."""

    def __init__(self, application: Application) -> None:
        """Create a tenant, a data owner, two auditors, a collaborator and an operator."""
        self.application = application
        with application.uow() as uow:
            name = f"Hospital {secrets.token_hex(4)}"
            self.tenant_id = accounts.create_tenant(uow, BOOTSTRAP, name=name).id
            uow.session.flush()
            self.owner = self._user(uow, "owner", Role.DATA_OWNER)
            self.auditors = [self._user(uow, f"auditor {n}", Role.AUDITOR) for n in (1, 2, 3)]
            self.collaborator = self._user(uow, "collaborator", Role.COLLABORATOR)
            self.operator = self._user(uow, "operator", Role.OPERATOR)

    def dataset(
        self,
        name: str = "",
        *,
        epsilon: str | None = "3",
        delta: str | None = "0.00001",
        schema: DatasetSchema | TableSchema = SCHEMA,
        join_dataset_id: str | None = None,
        rule: str = "basic",
    ) -> Dataset:
        """Create a dataset with a budget, or one that joins another."""
        with self.application.uow() as uow:
            return datasets.create_dataset(
                uow,
                self.owner,
                name=name or f"knees {secrets.token_hex(4)}",
                purpose="tests",
                schema=schema,
                budget_epsilon=None if join_dataset_id else Decimal(str(epsilon)),
                budget_delta=None if join_dataset_id else Decimal(str(delta)),
                rule=rule,
                join_dataset_id=join_dataset_id,
            )

    def uploaded(self, dataset: Dataset, *, body: bytes = b"PK raw upload") -> Job:
        """Upload a version by a plain body; return its INGEST job."""
        suffix = ".csv" if dataset.modality == "table" else ".zip"
        with self.application.uow() as uow:
            version = datasets.start_upload(
                uow, self.owner, dataset_id=dataset.id, suffix=suffix, size_bytes=len(body)
            )
        with self.application.uow() as uow:
            return datasets.put_upload(uow, self.owner, version_id=version.id, chunks=[body])

    def version(self, dataset: Dataset, *, persons: Iterable[str] = ("p1", "p2")) -> DatasetVersion:
        """Upload and ingest a version with these persons."""
        job = self.uploaded(dataset)
        token = self.claim(job)
        digests = person_digests(self.application, self.tenant_id, persons)
        with self.application.uow() as uow:
            version = datasets.load_version(uow, str(job.version_id))
            manifest = self.manifest(dataset, version.number, len(digests))
            self.application.objects.put_bytes(
                Bucket.WORK, version.prefix + "images.npy", body=b"pixels"
            )
            version = datasets.finish_ingest(
                uow,
                job.id,
                token=token,
                manifest=manifest,
                person_digests=digests,
                content_digests=content_digests(digests),
            )
        self.succeed(job, token, {"digest": manifest.digest()})
        return version

    def manifest(self, dataset: Dataset, number: int, persons: int) -> DatasetManifest:
        """Return a manifest of the right shape."""
        return DatasetManifest(
            dataset_id=dataset.id,
            version_number=number,
            declared=dataset.schema,
            source_format="zip of png",
            record_count=2 * persons,
            person_count=persons,
            duplicated_person_count=0,
            dropped=("file name", "patient_id"),
            blobs={"images.npy": "0" * 64},
        )

    def training(
        self, version: DatasetVersion, *, target: PrivacyTarget = TARGET, **options: Any
    ) -> Job:
        """Request a training."""
        options = {"generator": "statistics", "config": {}, "tier": "registered", **options}
        with self.application.uow() as uow:
            return jobs.request_training(
                uow, self.owner, version_id=version.id, target=target, **options
            )

    def claim(self, job: Job, *, token: str = "", lease_seconds: float = 60) -> str:
        """Claim a job as a worker; return the token."""
        token = token or secrets.token_hex(8)
        with self.application.uow() as uow:
            claimed = jobs.claim_job(uow, job.id, token=token, lease_seconds=lease_seconds)
        assert claimed is not None
        return token

    def charge(self, job: Job, token: str, steps: int = 1, *, index: int = 0) -> None:
        """Charge steps as a worker."""
        with self.application.uow() as uow:
            jobs.charge_steps(uow, job.id, token=token, index=index, steps=steps)

    def succeed(self, job: Job, token: str, result: dict[str, Any]) -> Job:
        """End a job well."""
        with self.application.uow() as uow:
            return jobs.succeed_job(uow, job.id, token=token, result=result)

    def child_of(self, job: Job) -> Job:
        """Return the job that followed another."""
        with self.application.uow(read_only=True) as uow:
            page = jobs.list_jobs(uow, self.owner, limit=200)
            return next(item for item in page.items if item.parent_id == job.id)

    def audited(
        self, version: DatasetVersion, *, verdict: str = "PASS-EMPIRICAL", **options: Any
    ) -> Job:
        """Train, sample and audit; return the finished AUDIT job."""
        train = self.training(version, **options)
        token = self.claim(train)
        self.charge(train, token)
        self.succeed(train, token, {"generator_manifest": "k", "digest": "1" * 64})
        sample = self.child_of(train)
        self.succeed(sample, self.claim(sample), {"samples_manifest": "k", "digest": "2" * 64})
        audit = self.child_of(sample)
        result = {"report": "k", "digest": "3" * 64, "verdict": verdict}
        return self.succeed(audit, self.claim(audit), result)

    def release(
        self,
        state: ReleaseState = ReleaseState.DRAFT,
        *,
        audit: Job | None = None,
        **options: Any,
    ) -> Release:
        """Return a release in `state`, walked there from nothing."""
        audit = audit or self.audited(self.version(self.dataset()), **options)
        with self.application.uow() as uow:
            release = releases.create_release(
                uow,
                self.owner,
                dataset_id=audit.dataset_id,
                audit_job_id=audit.id,
                name=f"knees-{secrets.token_hex(4)}",
                terms="Use for research.",
            )
        for step in _PATHS[state]:
            release = getattr(self, f"_{step}")(release)
        return release

    def submitted(self, release: Release) -> Release:
        """Submit a release."""
        with self.application.uow() as uow:
            return releases.submit_release(
                uow, self.owner, release_id=release.id, if_match=release.etag
            )

    def voted(
        self,
        release: Release,
        auditor: Actor,
        decision: Decision = Decision.APPROVE,
        *,
        reason: str = "Looked at every page.",
        conditions: Conditions | None = None,
    ) -> Release:
        """Cast one vote."""
        with self.application.uow() as uow:
            return releases.review_release(
                uow,
                auditor,
                release_id=release.id,
                decision=decision,
                reason=reason,
                conditions=conditions,
                if_match=self.current(release).etag,
            )

    def current(self, release: Release) -> Release:
        """Return the release as it is now."""
        with self.application.uow(read_only=True) as uow:
            found = uow.get(Release, release.id)
        assert found is not None
        return found

    def withheld(self, release: Release, how: str) -> Release:
        """Suspend, reinstate or revoke a release."""
        with self.application.uow() as uow:
            operation = getattr(releases, f"{how}_release")
            return operation(
                uow,
                self.owner,
                release_id=release.id,
                reason="Asked by the hospital.",
                if_match=self.current(release).etag,
            )

    def downloaded(self, release: Release) -> downloads.DownloadTicket:
        """Accept the terms and get a ticket, as the collaborator; be granted what is lent."""
        with self.application.uow() as uow:
            downloads.accept_terms(uow, self.collaborator, release_id=release.id)
            found = downloads.download_standing(uow, self.collaborator, release_id=release.id)
        if found.mode is AccessMode.BY_REQUEST and found.grant is None:
            with self.application.uow() as uow:
                asked = access.request_access(
                    uow, self.collaborator, release_id=release.id, answers={"purpose": "tests"}
                )
            with self.application.uow() as uow:
                access.approve_access(uow, self.owner, request_id=asked.id)
        with self.application.uow() as uow:
            return downloads.create_download(uow, self.collaborator, release_id=release.id)

    def _submit(self, release: Release) -> Release:
        return self.submitted(release)

    def _vote(self, release: Release) -> Release:
        return self.voted(release, self.auditors[0])

    def _vote_until_tomorrow(self, release: Release) -> Release:
        tomorrow = utc_now().date() + timedelta(days=1)
        conditions = Conditions(expires_on=tomorrow)
        return self.voted(release, self.auditors[0], conditions=conditions)

    def _expire(self, release: Release) -> Release:
        later = copied_clock(self.application, lambda: utc_now() + timedelta(days=2))
        with later.uow() as uow:
            assert withholding.expire_releases(uow) == 1
        return self.current(release)

    def _approve(self, release: Release) -> Release:
        return self.voted(release, self.auditors[1])

    def _return(self, release: Release) -> Release:
        return self.voted(release, self.auditors[1], Decision.RETURN)

    def _reject(self, release: Release) -> Release:
        return self.voted(release, self.auditors[1], Decision.REJECT)

    def _withdraw(self, release: Release) -> Release:
        return self.withheld(release, "withdraw")

    def _suspend(self, release: Release) -> Release:
        return self.withheld(release, "suspend")

    def _revoke(self, release: Release) -> Release:
        return self.withheld(release, "revoke")

    def _publish(self, release: Release) -> Release:
        return self.published(release)

    def published(self, release: Release) -> Release:
        """Publish an approved release, with a bundle that nobody opens."""
        with self.application.uow() as uow:
            job = releases.publish_release(
                uow, self.owner, release_id=release.id, if_match=release.etag
            )
        token = self.claim(job)
        with self.application.uow() as uow:
            facts = releases.publication_facts(uow, job.id, token=token)
        body = secrets.token_bytes(100)
        sha256 = self.application.objects.put_bytes(Bucket.QUARANTINE, facts.bundle_key, body=body)
        with self.application.uow() as uow:
            release = releases.finish_publication(
                uow,
                job.id,
                token=token,
                bundle_key=facts.bundle_key,
                sha256=sha256,
                size=len(body),
                certificate={"epsilon": 1.0},
            )
        self.succeed(job, token, {"bundle_key": facts.bundle_key})
        return release

    def _user(self, uow: UnitOfWork, name: str, role: Role) -> Actor:
        user = accounts.create_user(
            uow, BOOTSTRAP, tenant_id=self.tenant_id, name=name, roles=[role]
        )
        uow.session.flush()
        return accounts.load_actor(uow, user_id=user.id)


_PATHS: dict[ReleaseState, tuple[str, ...]] = {
    ReleaseState.DRAFT: (),
    ReleaseState.SUBMITTED: ("submit",),
    ReleaseState.UNDER_REVIEW: ("submit", "vote"),
    ReleaseState.RETURNED: ("submit", "vote", "return"),
    ReleaseState.APPROVED: ("submit", "vote", "approve"),
    ReleaseState.REJECTED: ("submit", "vote", "reject"),
    ReleaseState.WITHDRAWN: ("withdraw",),
    ReleaseState.PUBLISHED: ("submit", "vote", "approve", "publish"),
    ReleaseState.SUSPENDED: ("submit", "vote", "approve", "publish", "suspend"),
    ReleaseState.REVOKED: ("submit", "vote", "approve", "publish", "revoke"),
    ReleaseState.EXPIRED: ("submit", "vote_until_tomorrow", "approve", "publish", "expire"),
}


def remove_buckets(application: Application) -> None:
    """Delete an application's buckets: every bucket holds volumes, and a server has few of them."""
    client = application.objects._client
    for bucket in Bucket:
        name = application.objects.bucket(bucket)
        pages = client.get_paginator("list_object_versions").paginate(Bucket=name)
        for page in pages:
            for version in page.get("Versions", []) + page.get("DeleteMarkers", []):
                client.delete_object(
                    Bucket=name, Key=version["Key"], VersionId=version["VersionId"]
                )
        client.delete_bucket(Bucket=name)


@contextlib.contextmanager
def running_application(
    folder: Path, object_store: ObjectStoreServer, *, database_url: str = ""
) -> Iterator[Application]:
    """Yield an application on an empty database; close it and remove its buckets afterwards."""
    application = application_for(settings_for(folder, object_store, database_url=database_url))
    try:
        yield application
    finally:
        application.close()
        remove_buckets(application)
