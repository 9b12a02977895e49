"""Request a training: plan its mechanisms, reserve them, commit to the split, queue the job.

All of it is one transaction under the cohort's lock. The salted commitment to plan, keys and
policy is in the trail before the message leaves, so nobody can choose a split after seeing it.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from privacy import inclusion
from privacy.mechanisms import PrivacyTarget, mechanisms_to_json
from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import DatasetVersion
from service.domain.errors import InputRefused
from service.domain.identifiers import new_id
from service.domain.jobs import Job, JobKind
from service.domain.trail import TrailEvent
from service.operations import budgets, plan_approving
from service.operations.datasets import cohort_of
from service.operations.plans import (
    DEFAULT_SAMPLES,
    Asked,
    Planned,
    check_trainable,
    plan,
)
from service.operations.policies import policy_in_force
from service.operations.queueing import check_quota, queue_job
from service.store.unit_of_work import UnitOfWork

FEWEST_CANARIES, MOST_CANARIES = 100, 2000
"""Fewer could show next to nothing; more would change what the twin is trained on."""


def request_training(  # noqa: PLR0913 - everything that may be asked for
    uow: UnitOfWork,
    actor: Actor,
    *,
    version_id: str,
    generator: str,
    config: Mapping[str, Any],
    target: PrivacyTarget,
    tier: str = "registered",
    samples: int = DEFAULT_SAMPLES,
    preset: str | None = None,
    canaries: int = 0,
) -> Job:
    """Reserve the mechanisms and queue the TRAIN job, in one transaction.

    With `canaries`, the job is an audit twin: it costs what a training costs, nothing is drawn from
    it and nothing of it can be released; its result says what the canaries showed.

    What a preset stands for is resolved here: job and commitment hold the whole configuration.
    Planning takes seconds the first time; calling `plan_training` in a read-only unit of work
    before it keeps them out of this transaction, because plans are remembered.
    Raises: BudgetRefused, InputRefused, QuotaExceeded, IllegalTransition, JournalBehind, NotFound,
    PermissionDenied; Conflict while a person is being withdrawn, if the version holds one who was, or
    if the tenant wants plans approved and this one is not.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    _check_canaries(canaries)
    planned = plan(uow, version, Asked(generator, config, target, tier, samples, preset))
    cohort = cohort_of(uow, planned.dataset, lock=True)
    uow.session.refresh(version)  # a withdrawal may have come first while this waited for the lock
    check_trainable(uow, version)
    check_quota(uow, actor.tenant_id)
    job_id = new_id("job")
    plan_approving.use_approval(
        uow, actor, version=version, planned=planned, canaries=canaries, job_id=job_id
    )
    twin = {"canaries": canaries} if canaries else {}
    committed = _committed_plan(uow, job_id, version, planned) | twin
    commitment = inclusion.commit(committed, salt=uow.keys.commitment_salt(job_id))
    job = queue_job(
        uow,
        actor,
        kind=JobKind.TRAIN,
        tenant_id=version.tenant_id,
        dataset_id=version.dataset_id,
        version_id=version.id,
        job_id=job_id,
        payload={
            "generator": generator,
            "preset": preset,
            "config": planned.config,
            "epsilon": target.epsilon,
            "delta": target.delta,
            "tier": tier,
            "samples": samples,
            "rates": {"reference": planned.rates.reference, "pool": planned.rates.pool},
            "plan": committed,
            "commitment": commitment,
            "policy_digest": committed["policy"],
            **twin,
        },
    )
    budgets.reserve(uow, cohort, job=job, mechanisms=planned.mechanisms, delta=target.delta)
    uow.trail(actor, TrailEvent.JOB_COMMIT_PLAN, job.id, commitment=commitment)
    return job


def _check_canaries(canaries: int) -> None:
    if canaries and not FEWEST_CANARIES <= canaries <= MOST_CANARIES:
        raise InputRefused(
            f"{canaries} canaries were refused: an audit twin has {FEWEST_CANARIES} to "
            f"{MOST_CANARIES}; 0 asks for a training.",
            value=canaries,
            limit=MOST_CANARIES,
        )


def _committed_plan(
    uow: UnitOfWork, job_id: str, version: DatasetVersion, planned: Planned
) -> dict[str, Any]:
    """Return everything that must not be chosen afterwards; keys by digest."""
    reference_key = uow.keys.reference_key(planned.dataset.cohort_id)
    run_key = uow.keys.run_key(job_id)
    return {
        "job": job_id,
        "dataset": version.manifest_digest,
        "generator": planned.asked.generator,
        "config": planned.config,
        "target": planned.asked.target.model_dump(mode="json"),
        "mechanisms": mechanisms_to_json(planned.mechanisms),
        "rates": {"reference": planned.rates.reference, "pool": planned.rates.pool},
        "reference_key": hashlib.sha256(reference_key).hexdigest(),
        "run_key": hashlib.sha256(run_key).hexdigest(),
        "policy": policy_in_force(uow, version.tenant_id).digest,
        "tier": planned.asked.tier,
        "samples": planned.asked.samples,
    }
