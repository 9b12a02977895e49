"""Publish an approved release: queue its PACKAGE job, and record the bundle that comes out."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.datasets import Cohort, Dataset, DatasetVersion
from service.domain.errors import Conflict, IllegalTransition, NotFound
from service.domain.jobs import TERMINAL, Job, JobKind
from service.domain.releases import Location, Release, ReleaseState
from service.domain.reviews import Conditions
from service.domain.trail import TrailEvent
from service.operations import budgets, fencing, review_notices
from service.operations.evidence import candidate_jobs, check_candidate
from service.operations.queueing import queue_job
from service.operations.reviewing import approvers, check_evidence, check_revision
from service.operations.withholding import check_not_expired, settle_bundle
from service.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class PublicationFacts:
    """Everything that a certificate states and a worker cannot know by itself."""

    release: Release
    dataset: Dataset
    version: DatasetVersion
    train: Job
    sample: Job
    audit: Job
    cohort_epsilon: Decimal
    cohort_delta: Decimal
    composition: str
    candidates_trained: int
    audits_attempted: int
    approvers_count: int
    publisher: str
    bundle_key: str
    """Where in the quarantine bucket this attempt must store the bundle."""


def bundle_key(release: Release, job: Job) -> str:
    """Return the key of the bundle that one attempt makes, the same in both buckets.

    The attempt is in the key: a worker that wakes up after its lease was given to another cannot
    bring back what was published, revoked or replaced meanwhile.
    """
    return f"releases/{release.id}/{job.id}-{job.attempt}/{release.file_name}"


def publish_release(uow: UnitOfWork, actor: Actor, *, release_id: str, if_match: str | None) -> Job:
    """Queue the PACKAGE job of an approved release; it is PUBLISHED once that has succeeded.

    Raises: IllegalTransition unless APPROVED; Conflict while a PACKAGE job runs, or if the evidence
    changed; PreconditionFailed.
    """
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    if release.state is not ReleaseState.APPROVED:
        raise IllegalTransition(
            f"Publishing was refused: release {release.id} is {release.state.value}. "
            "Two auditors must approve it first.",
            state=release.state.value,
        )
    check_evidence(uow, actor, release)
    check_candidate(uow, release, what="Publishing")
    check_not_expired(uow, release, what="Publishing")
    running = uow.get(Job, release.package_job_id) if release.package_job_id else None
    if running is not None and running.state not in TERMINAL:
        raise Conflict(f"Publishing was refused: job {running.id} is packaging it already.")
    job = queue_job(
        uow,
        actor,
        kind=JobKind.PACKAGE,
        tenant_id=release.tenant_id,
        dataset_id=release.dataset_id,
        release_id=release.id,
        parent_id=release.audit_job_id,
        payload={"round": release.round},
    )
    release.package_job_id = job.id
    uow.trail(actor, TrailEvent.RELEASE_REQUEST_PUBLICATION, release.id, job=job.id)
    return job


def publication_facts(uow: UnitOfWork, job_id: str, *, token: str) -> PublicationFacts:
    """Return what the certificate of a PACKAGE job states.

    Raises: LeaseLost; NotFound; Conflict unless the release is APPROVED, or PUBLISHED by this job.
    """
    job = fencing.check_token(uow, job_id, token=token)
    release = _release_of(uow, job)
    if release.state is not ReleaseState.PUBLISHED or release.package_job_id != job.id:
        _check_approved(release)
    train, sample, audit = candidate_jobs(uow, release)
    dataset = uow.get(Dataset, release.dataset_id)
    version = uow.get(DatasetVersion, str(train.version_id))
    cohort = uow.get(Cohort, dataset.cohort_id) if dataset else None
    if dataset is None or version is None or cohort is None:
        raise NotFound(f"The dataset of release {release.id} is missing.")
    epsilon, delta = budgets.spent(uow, cohort)
    return PublicationFacts(
        release=release,
        dataset=dataset,
        version=version,
        train=train,
        sample=sample,
        audit=audit,
        cohort_epsilon=epsilon,
        cohort_delta=delta,
        composition=cohort.rule,
        candidates_trained=budgets.count_candidates(uow, cohort.id),
        audits_attempted=budgets.count_audits(uow, cohort.id),
        approvers_count=len(approvers(uow, release)),
        publisher=uow.settings.publisher,
        bundle_key=bundle_key(release, job),
    )


def finish_publication(
    uow: UnitOfWork,
    job_id: str,
    *,
    token: str,
    bundle_key: str,
    sha256: str,
    size: int,
    certificate: dict[str, Any],
    preview_key: str | None = None,
) -> Release:
    """Make the release PUBLISHED with the bundle that was stored in quarantine, then move it.

    Commits. The state decides first and the bundle follows it, so nothing but `settle_bundle` ever
    puts a bundle where it can be downloaded. Whatever the job had published before stays.
    Raises: LeaseLost; Conflict if the release is not APPROVED (withdrawn meanwhile, say).
    """
    job = fencing.check_token(uow, job_id, token=token)
    release = _release_of(uow, job)
    if release.state is ReleaseState.PUBLISHED and release.package_job_id == job.id:
        uow.without_trail("an earlier attempt at this job has published it")
        uow.commit()
        settle_bundle(uow, release.id)
        return release
    _check_approved(release)
    release.move_to(ReleaseState.PUBLISHED, at=uow.now())
    release.published_at = uow.now()
    release.expires_at = _expiry(release)
    release.location = Location.QUARANTINE
    release.bundle_key, release.bundle_sha256, release.bundle_bytes = bundle_key, sha256, size
    release.certificate, release.preview_key = certificate, preview_key
    uow.trail(SYSTEM, TrailEvent.RELEASE_PUBLISH, release.id, job=job.id, bundle=sha256, bytes=size)
    review_notices.tell_of_publication(uow, release)
    uow.commit()
    settle_bundle(uow, release.id)
    return release


def _expiry(release: Release) -> datetime | None:
    """Return the first moment at which the approval's conditions no longer allow the release."""
    day = Conditions.of(release.conditions).expires_on
    return None if day is None else datetime.combine(day, time(), tzinfo=UTC)


def _check_approved(release: Release) -> None:
    if release.state is not ReleaseState.APPROVED:
        raise Conflict(
            f"Publishing was refused: release {release.id} became {release.state.value}."
        )


def _release_of(uow: UnitOfWork, job: Job) -> Release:
    release = uow.get(Release, job.release_id, lock=True) if job.release_id else None
    if release is None:
        raise NotFound(f"The release of job {job.id} is missing.")
    return release
