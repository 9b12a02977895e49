"""What of each domain object an actor is shown. Nothing reaches a response by accident: fields are
named here one by one.
"""

from typing import Any

from privacy.mechanisms import UnitOfPrivacy
from privacy.modality import modality_in
from service import resources as r
from service.domain.accounts import Actor
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.jobs import Job
from service.domain.permissions import is_insider
from service.domain.releases import Release, Review
from service.operations.budgets import BudgetEntry, BudgetView
from service.operations.releases import ReleaseView

_SHOWN_PAYLOAD = (
    "generator",
    "preset",
    "config",
    "epsilon",
    "delta",
    "tier",
    "samples",
    "canaries",
    "rates",
    "commitment",
    "policy_digest",
)
"""What was asked for. The committed plan itself names digests of keys and stays inside."""


_CERTIFIED = ("unit", "epsilon", "delta", "cohort_epsilon", "image_count")


def dataset(found: Dataset, versions: list[DatasetVersion] | None = None) -> r.Dataset:
    """Show a dataset, with its versions where they were loaded."""
    return r.Dataset(
        id=found.id,
        name=found.name,
        purpose=found.purpose,
        declared=found.schema,
        cohort_id=found.cohort_id,
        created_at=found.created_at,
        versions=[version(item) for item in versions or ()],
    )


def version(found: DatasetVersion) -> r.Version:
    """Show a dataset version."""
    return r.Version(
        id=found.id,
        dataset_id=found.dataset_id,
        number=found.number,
        state=found.state.value,
        record_count=found.manifest.get("record_count"),
        person_count=found.manifest.get("person_count"),
        manifest_digest=found.manifest_digest,
        created_at=found.created_at,
        raw_erased_at=found.raw_erased_at,
        ingest_report=found.ingest_report,
        problem=found.problem,
    )


def budget(found: BudgetView, *, dataset_id: str, unit: UnitOfPrivacy) -> r.Budget:
    """Show the account behind a dataset."""
    return r.Budget(
        dataset_id=dataset_id,
        cohort_id=found.cohort_id,
        rule=found.rule,
        unit=unit.value,
        epsilon=float(found.epsilon.budget),
        epsilon_reserved=float(found.epsilon.reserved),
        epsilon_spent=float(found.epsilon.spent),
        epsilon_remaining=float(found.epsilon.remaining),
        delta=float(found.delta.budget),
        delta_reserved=float(found.delta.reserved),
        delta_spent=float(found.delta.spent),
        delta_remaining=float(found.delta.remaining),
        candidates_trained=found.candidates_trained,
        audits_attempted=found.audits_attempted,
        entries=[_budget_entry(entry) for entry in found.entries],
    )


def _budget_entry(found: BudgetEntry) -> r.BudgetEntry:
    return r.BudgetEntry(
        job_id=found.job_id,
        state=found.state,
        open=found.is_open,
        generator=found.generator,
        epsilon_reserved=float(found.epsilon_reserved),
        epsilon=float(found.epsilon),
        delta=float(found.delta),
        mechanisms=found.mechanisms,
        charged_steps=found.charged,
    )


def job(found: Job) -> r.Job:
    """Show a job. Fencing token and lease are the workers' own business."""
    return r.Job(
        id=found.id,
        kind=found.kind.value,
        state=found.state.value,
        status=found.status,
        stage=found.stage,
        step=found.step,
        total=found.total,
        eta_seconds=found.eta_seconds,
        attempt=found.attempt,
        dataset_id=found.dataset_id,
        version_id=found.version_id,
        release_id=found.release_id,
        parent_id=found.parent_id,
        payload={name: found.payload[name] for name in _SHOWN_PAYLOAD if name in found.payload},
        progress=found.progress,
        result=found.result,
        problem=found.problem,
        created_at=found.created_at,
        finished_at=found.finished_at,
    )


def release(found: ReleaseView) -> r.Release:
    """Show one release with what this actor may see of its review."""
    earlier = [
        r.EarlierRelease(
            id=other.release.id,
            name=other.release.name,
            version=other.release.version,
            state=other.release.state.value,
            reviews=[_review(vote) for vote in other.reviews],
        )
        for other in found.earlier
    ]
    return _release(found.release, is_insider=found.is_insider).model_copy(
        update={
            "reviews": [_review(vote) for vote in found.reviews],
            "votes": found.votes_cast,
            "due_at": found.due_at,
            "has_accepted": found.has_accepted,
            "earlier": earlier,
        }
    )


def _review(vote: Review) -> r.Review:
    return r.Review(
        auditor_id=vote.auditor_id,
        decision=vote.decision.value,
        reason=vote.reason,
        round=vote.round,
        created_at=vote.created_at,
        conditions=vote.conditions,
    )


def listed_release(found: Release, actor: Actor) -> r.Release:
    """Show a release in a list."""
    return _release(found, is_insider=is_insider(actor, found))


def _release(found: Release, *, is_insider: bool) -> r.Release:
    public = r.Release(
        id=found.id,
        name=found.name,
        version=found.version,
        state=found.state.value,
        revision=found.revision,
        tier=found.tier or None,
        verdict=found.verdict or None,
        terms=found.effective_terms,
        size_bytes=found.bundle_bytes or None,
        sha256=found.bundle_sha256,
        tombstone=found.tombstone,
        created_at=found.created_at,
        published_at=found.published_at,
        expires_at=found.expires_at,
        **_certified(found.certificate),
    )
    if not is_insider:
        return public
    return public.model_copy(
        update={
            "dataset_id": found.dataset_id,
            "audit_job_id": found.audit_job_id,
            "package_job_id": found.package_job_id,
            "author_id": found.author_id,
            "conditions": found.conditions,
            "renews_id": found.renews_id,
        }
    )


def _certified(certificate: dict[str, Any]) -> dict[str, Any]:
    """Return what the certificate states; nothing before there is one."""
    if not certificate:
        return {}
    declared = certificate.get("declared", {})
    # Of a table with images, their size stands beside its columns.
    size = declared.get("images") or declared
    return {
        **{name: certificate.get(name) for name in _CERTIFIED},
        "relation": certificate.get("neighbouring_relation", "add_or_remove_one"),
        "labels": list(certificate.get("labels", ())),
        "modality": modality_in(declared),
        "columns": [column["name"] for column in declared.get("columns", ())],
        "height": size.get("height"),
        "width": size.get("width"),
    }


def trail_page(rows: list[dict[str, Any]], *, limit: int) -> r.TrailPage:
    """Show rows of the journal."""
    items = [trail_event(row) for row in rows]
    return r.TrailPage(items=items, next_cursor=items[-1].sequence if len(items) == limit else None)


def trail_event(row: dict[str, Any]) -> r.TrailEvent:
    """Show one row of the journal."""
    body = row["body"]
    return r.TrailEvent(
        sequence=row["seq"],
        happened_at=row["at"],
        kind=row["kind"],
        actor_id=body.get("actor"),
        action=body["event"],
        subject_id=body["subject"],
        details=body["details"],
        digest=row.get("digest"),
    )
