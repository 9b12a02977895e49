"""The rows of a large instance but for its journal's chain: some ten thousand of each, in memory.

They are of the shapes that the operations write, as far as pages and lists read them.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from privacy.manifests import DatasetSchema
from service.domain.accounts import Actor
from service.domain.datasets import VersionState
from service.domain.jobs import JobKind, JobState
from service.domain.releases import Decision, Location, ReleaseState
from service.store import tables
from service.store.journal import Entry

RELEASES_PER_DATASET = 50
POPULAR_SHARE = 0.1
"""Of all events: downloads of one release."""
START = datetime(2026, 1, 1, tzinfo=UTC)
_SCHEMA = DatasetSchema(
    declared_count=5000, height=64, width=64, label="kl_grade", labels=("0", "1", "2", "3", "4")
)
_STATES = (
    *(ReleaseState.PUBLISHED,) * 12,
    ReleaseState.SUSPENDED,
    ReleaseState.REVOKED,
    ReleaseState.DRAFT,
    ReleaseState.SUBMITTED,
    ReleaseState.UNDER_REVIEW,
    ReleaseState.APPROVED,
    ReleaseState.RETURNED,
    ReleaseState.REJECTED,
)
_PUBLIC = {ReleaseState.PUBLISHED, ReleaseState.SUSPENDED, ReleaseState.REVOKED}
_DECIDED = _PUBLIC | {ReleaseState.APPROVED, ReleaseState.RETURNED, ReleaseState.REJECTED}


class Rows:
    """The rows of every table but the journal, made in memory: some ten thousand of each."""

    def __init__(self, actors: dict[str, Actor], releases: int) -> None:
        self.actors = actors
        self.tenant = actors["data_owner"].tenant_id
        self.owner = actors["data_owner"].user_id
        datasets = -(-releases // RELEASES_PER_DATASET)
        self.datasets = [self._dataset(n) for n in range(datasets)]
        self.releases = [self._release(n) for n in range(releases)]

    def tables(self) -> Iterator[tuple[sa.Table, list[dict[str, Any]]]]:
        """Yield each table with its rows, in an order that foreign keys allow."""
        yield tables.cohorts, [self._cohort(n) for n in range(len(self.datasets))]
        yield tables.datasets, self.datasets
        yield tables.dataset_versions, [self._version(n) for n in range(len(self.datasets))]
        numbers = range(len(self.releases))
        for kind in (JobKind.TRAIN, JobKind.SAMPLE, JobKind.AUDIT):
            yield tables.jobs, [self._job(n, kind) for n in numbers]
        yield tables.reservations, [self._reservation(n) for n in numbers]
        yield tables.releases, self.releases
        yield tables.reviews, [vote for n in numbers for vote in self._votes(n)]

    def things(self) -> dict[str, str]:
        """Return one id of each kind; the release is the popular one."""
        return {
            "dataset_id": "dst_0000000",
            "version_id": "ver_0000000",
            "job_id": "job_train0000000",
            "audit_job_id": "job_audit0000000",
            "release_id": "rel_0000000",
            "seq": "500",
        }

    def entries(self, events: int) -> Iterator[Entry]:
        """Yield trail events: what every release went through, then downloads of published ones."""
        count = 0
        for number, release in enumerate(self.releases):
            for entry in self._life(number, release):
                yield entry
                count += 1
        public = [r["id"] for r in self.releases if r["state"] in _PUBLIC] or ["rel_0000000"]
        popular = int(POPULAR_SHARE * events)
        rest = max(0, events - count)
        for number in range(rest):
            name = "rel_0000000" if number < popular else public[number % len(public)]
            yield _event("release:download", name, self.actors["collaborator"], download=number)

    def _life(self, number: int, release: dict[str, Any]) -> Iterator[Entry]:
        owner, auditor = self.actors["data_owner"], self.actors["auditor"]
        train, audit = f"job_train{number:07d}", f"job_audit{number:07d}"
        yield _event("job:request", train, owner, kind="train")
        yield Entry(
            "ledger",
            train,
            {"event": "reserve", "subject": train, "details": {"epsilon": "0.02"}},
        )
        for block in range(20):
            details = {"index": 0, "steps": 50, "charged": [50 * (block + 1)]}
            yield Entry("ledger", train, {"event": "charge", "subject": train, "details": details})
            yield _event("steps:charge", train, None, index=0, steps=50)
        yield _event("job:succeed", train, None)
        yield _event("job:succeed", audit, None)
        yield _event("release:create", release["id"], owner, audit=audit)
        if release["state"] is ReleaseState.DRAFT:
            return
        yield _event("release:submit", release["id"], owner, round=1)
        if release["state"] is ReleaseState.SUBMITTED:
            return
        yield _event("report:read", audit, auditor)
        yield _event("release:review", release["id"], auditor, round=1)
        if release["state"] in _DECIDED:
            second = self.actors["second auditor"]
            yield _event("release:review", release["id"], second, round=1)
        if release["state"] in _PUBLIC:
            yield _event("release:publish", release["id"], None, bytes=1000)

    def _cohort(self, n: int) -> dict[str, Any]:
        return {
            "id": f"coh_{n:07d}",
            "tenant_id": self.tenant,
            "budget_epsilon": Decimal(10),
            "budget_delta": Decimal("0.001"),
            "rule": "basic",
            "created_at": _at(n),
            "reference_rate": 0.2,
        }

    def _dataset(self, n: int) -> dict[str, Any]:
        return {
            "id": f"dst_{n:07d}",
            "tenant_id": self.tenant,
            "cohort_id": f"coh_{n:07d}",
            "name": f"Knees {n}",
            "purpose": "Benchmark.",
            "declared": _SCHEMA.model_dump(mode="json"),
            "created_by": self.owner,
            "created_at": _at(n),
        }

    def _version(self, n: int) -> dict[str, Any]:
        return {
            "id": f"ver_{n:07d}",
            "tenant_id": self.tenant,
            "dataset_id": f"dst_{n:07d}",
            "number": 1,
            "created_by": self.owner,
            "created_at": _at(n),
            "state": VersionState.READY,
            "raw_bytes": 1000,
            "part_bytes": 1000,
            "part_count": 1,
            "manifest": {},
            "manifest_digest": _digest("version", n),
            "ingest_report": {},
        }

    def _job(self, n: int, kind: JobKind) -> dict[str, Any]:
        parents = {JobKind.SAMPLE: "train", JobKind.AUDIT: "sample"}
        payload = {
            "generator": "statistics",
            "config": {},
            "epsilon": 0.02,
            "delta": 1e-6,
            "tier": "registered",
            "samples": 1000,
            "train_job_id": f"job_train{n:07d}",
            "sample_job_id": f"job_sample{n:07d}",
            "policy_digest": _digest("policy", 0),
            "commitment": _digest("commitment", n),
        }
        parent = f"job_{parents[kind]}{n:07d}" if kind in parents else None
        return {
            "id": f"job_{kind.value}{n:07d}",
            "kind": kind,
            "tenant_id": self.tenant,
            "dataset_id": f"dst_{n // RELEASES_PER_DATASET:07d}",
            "version_id": f"ver_{n // RELEASES_PER_DATASET:07d}",
            "parent_id": parent,
            "requested_by": self.owner,
            "payload": payload,
            "created_at": _at(n),
            "finished_at": _at(n),
            "state": JobState.SUCCEEDED,
            "attempt": 1,
            "cancel_requested": False,
            "stage": "done",
            "step": 1000,
            "total": 1000,
            "progress": {},
            "result": {"digest": _digest(kind.value, n), "verdict": "PASS-EMPIRICAL"},
        }

    def _reservation(self, n: int) -> dict[str, Any]:
        mechanism = {
            "kind": "gaussian",
            "stage": "statistics",
            "noise_multiplier": 300.0,
            "steps": 1,
        }
        return {
            "job_id": f"job_train{n:07d}",
            "cohort_id": f"coh_{n // RELEASES_PER_DATASET:07d}",
            "mechanisms": [mechanism],
            "charged": [1],
            "epsilon_reserved": Decimal("0.02"),
            "epsilon": Decimal("0.02"),
            "delta": Decimal("0.000001"),
            "is_open": False,
            "revision": 1,
            "created_at": _at(n),
        }

    def _release(self, n: int) -> dict[str, Any]:
        state = _STATES[n % len(_STATES)]
        is_public = state in _PUBLIC
        return {
            "id": f"rel_{n:07d}",
            "tenant_id": self.tenant,
            "dataset_id": f"dst_{n // RELEASES_PER_DATASET:07d}",
            "audit_job_id": f"job_audit{n:07d}",
            "name": f"knees-{n}",
            "version": "1.0.0",
            "terms": "Use for research.",
            "author_id": self.owner,
            "created_at": _at(n),
            "state": state,
            "revision": 5,
            "round": 0 if state is ReleaseState.DRAFT else 1,
            "tier": "registered",
            "verdict": "PASS-EMPIRICAL",
            "evidence": _evidence(n, self.owner) if state is not ReleaseState.DRAFT else {},
            "bundle_sha256": _digest("bundle", n) if is_public else None,
            "bundle_key": f"releases/{n}" if is_public else None,
            "bundle_bytes": 1000,
            "certificate": _certificate() if is_public else {},
            "location": Location.RELEASED if is_public else Location.NOWHERE,
            "published_at": _at(n) if is_public else None,
            "tombstone": _tombstone(n, state) if is_public else None,
        }

    def _votes(self, n: int) -> Iterator[dict[str, Any]]:
        state = self.releases[n]["state"]
        voters: tuple[str, ...] = ("auditor", "second auditor") if state in _DECIDED else ()
        if state is ReleaseState.UNDER_REVIEW:
            voters = ("second auditor",)  # so that one vote is still the first auditor's to give
        words = {ReleaseState.RETURNED: Decision.RETURN, ReleaseState.REJECTED: Decision.REJECT}
        for voter in voters:
            yield {
                "release_id": f"rel_{n:07d}",
                "round": 1,
                "auditor_id": self.actors[voter].user_id,
                "decision": words.get(state, Decision.APPROVE),
                "reason": "Looked at every page.",
                "created_at": _at(n),
            }


def _event(event: str, subject: str, actor: Actor | None, **details: object) -> Entry:
    body = {
        "event": event,
        "actor": actor.user_id if actor else "system",
        "tenant": actor.tenant_id if actor else "system",
        "subject": subject,
        "details": details,
    }
    return Entry("trail", subject, body)


def _at(n: int) -> datetime:
    return START + timedelta(minutes=n)


def _digest(what: str, n: int) -> str:
    return hashlib.sha256(f"{what}/{n}".encode()).hexdigest()


def _evidence(n: int, owner: str) -> dict[str, Any]:
    names = ("dataset", "generator", "samples", "report", "policy", "commitment", "terms")
    return {
        **{name: _digest(name, n) for name in names},
        "verdict": "PASS-EMPIRICAL",
        "tier": "registered",
        "ledger": {"seq": 1, "digest": "0" * 64},
        "submitted_by": owner,
    }


def _certificate() -> dict[str, Any]:
    return {
        "epsilon": 0.02,
        "delta": 1e-6,
        "cohort_epsilon": 0.02,
        "cohort_delta": 1e-6,
        "unit": "person",
        "candidates_trained": 1,
        "image_count": 1000,
        "generator": "statistics",
        "labels": dict.fromkeys(_SCHEMA.labels, 200),
        "declared": _SCHEMA.model_dump(mode="json"),
    }


def _tombstone(n: int, state: ReleaseState) -> dict[str, Any] | None:
    if state is ReleaseState.PUBLISHED:
        return None
    return {
        "state": state.value,
        "reason": "Asked by the hospital.",
        "at": _at(n).isoformat(),
        "name": f"knees-{n}",
        "version": "1.0.0",
        "bundle_sha256": _digest("bundle", n),
    }
