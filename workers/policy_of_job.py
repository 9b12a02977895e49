"""The policy that a job is done under: the one that its training committed to, by digest.

A tenant's auditors may put another version in force while a job waits. What it is judged by was in
the commitment before it began, so that version is used. A digest that nobody knows any more leaves
the policy that this process was started with, and the audit is then INVALID, as it must be.
"""

from dataclasses import replace

from service.domain.jobs import Job, JobKind
from service.domain.releases import Release
from service.operations.policies import adopted_policy
from service.store.unit_of_work import UnitOfWork
from service.wiring import Application


def under_its_policy(application: Application, job: Job) -> Application:
    """Return the application as this job must use it."""
    with application.uow(read_only=True) as uow:
        digest = _named(uow, job)
        policy = None if digest is None else adopted_policy(uow, digest)
    if policy is None:
        return application
    return replace(application, parts=replace(application.parts, policy=policy))


def _named(uow: UnitOfWork, job: Job) -> str | None:
    """Return the digest that the job, its training, or its release's evidence names."""
    named: str | None = job.payload.get("policy_digest")
    if job.kind is JobKind.AUDIT:
        training = uow.get(Job, str(job.payload["train_job_id"]))
        named = training.payload.get("policy_digest") if training else None
    elif job.kind is JobKind.PACKAGE and job.release_id:
        release = uow.get(Release, job.release_id)
        named = release.evidence.get("policy") if release else None
    return named
