"""Request a training: plan its mechanisms, reserve them, commit to the split, queue the job.

All of it is one transaction under the cohort's lock. The salted commitment to plan, keys and
policy is in the trail before the message leaves, so nobody can choose a split after seeing it.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from privacy import inclusion, ledger, planning
from privacy.errors import PrivacyError
from privacy.inclusion import Rates
from privacy.manifests import DatasetSchema
from privacy.mechanisms import (
    Mechanism,
    PrivacyTarget,
    Stage,
    mechanisms_to_json,
)
from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import Cohort, Dataset, DatasetVersion, VersionState
from service.domain.errors import (
    BudgetRefused,
    DomainError,
    IllegalTransition,
    InputRefused,
    NotFound,
)
from service.domain.identifiers import new_id
from service.domain.jobs import Job, JobKind
from service.domain.trail import TrailEvent
from service.operations import budgets
from service.operations.catalogue import stages_of, validate_config
from service.operations.datasets import check_delta, cohort_of
from service.operations.queueing import check_quota, queue_job
from service.operations.withdrawals import check_usable
from service.store.unit_of_work import UnitOfWork

DEFAULT_SAMPLES = 8000
"""Enough to bound the share of copied samples in every tier, the public one too."""
MOST_SAMPLES = 200_000
RUNS_PER_BUDGET = 10
"""How many runs the delta of a budget is for, where a run names none."""
_STAGES: TypeAdapter[tuple[Stage, ...]] = TypeAdapter(tuple[Stage, ...])


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would reserve. `refusal` is the sentence why it would be refused."""

    mechanisms: tuple[Mechanism, ...]
    config: dict[str, Any]
    rates: Rates | None
    epsilon: Decimal | None
    delta: Decimal
    epsilon_remaining: Decimal | None
    delta_remaining: Decimal | None
    refusal: str | None


@dataclass(frozen=True)
class _Planned:
    dataset: Dataset
    config: dict[str, Any]
    rates: Rates
    mechanisms: tuple[Mechanism, ...]


def target_for(
    uow: UnitOfWork, actor: Actor, *, version_id: str, epsilon: float, delta: float | None
) -> PrivacyTarget:
    """Return the target of a run; without a delta, a tenth of its budget's is asked for.

    The whole of it would leave nothing for a second run.  Raises: NotFound, PermissionDenied.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    if delta is None:
        dataset = uow.get(Dataset, version.dataset_id)
        if dataset is None:
            raise NotFound(f"The dataset of version {version.id} is missing.")
        delta = float(cohort_of(uow, dataset).budget_delta / RUNS_PER_BUDGET)
    return PrivacyTarget(epsilon=epsilon, delta=delta)


def plan_training(
    uow: UnitOfWork,
    actor: Actor,
    *,
    version_id: str,
    generator: str,
    config: Mapping[str, Any],
    target: PrivacyTarget,
    tier: str = "registered",
    samples: int = DEFAULT_SAMPLES,
) -> TrainingPlan:
    """Say what a training would reserve, or why it would be refused; nothing is reserved.

    Raises: NotFound and PermissionDenied only; every other refusal is in the answer.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    delta = _exact(target.delta)
    try:
        planned = _plan(
            uow,
            version,
            generator=generator,
            config=config,
            target=target,
            tier=tier,
            samples=samples,
        )
    except DomainError as error:
        return TrainingPlan((), {}, None, None, delta, None, None, error.sentence)
    cohort = cohort_of(uow, planned.dataset)
    held = [budgets.pure_reservation(item) for item in budgets.load_reservations(uow, cohort.id)]
    left = ledger.remaining(budgets.pure_budget(cohort), held)
    refusal = _refusal(cohort, held, planned.mechanisms, target)
    return TrainingPlan(
        planned.mechanisms,
        planned.config,
        planned.rates,
        ledger.cost(planned.mechanisms, target.delta),
        delta,
        left[0],
        left[1],
        refusal,
    )


def request_training(
    uow: UnitOfWork,
    actor: Actor,
    *,
    version_id: str,
    generator: str,
    config: Mapping[str, Any],
    target: PrivacyTarget,
    tier: str = "registered",
    samples: int = DEFAULT_SAMPLES,
) -> Job:
    """Reserve the mechanisms and queue the TRAIN job, in one transaction.

    Planning takes seconds the first time; calling `plan_training` in a read-only unit of work
    before it keeps them out of this transaction, because plans are remembered.
    Raises: BudgetRefused, InputRefused, QuotaExceeded, IllegalTransition, JournalBehind, NotFound,
    PermissionDenied; Conflict while a person is being withdrawn, or if the version holds one who was.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    planned = _plan(
        uow,
        version,
        generator=generator,
        config=config,
        target=target,
        tier=tier,
        samples=samples,
    )
    cohort = cohort_of(uow, planned.dataset, lock=True)
    uow.session.refresh(version)  # a withdrawal may have come first while this waited for the lock
    _check_usable(uow, version)
    check_quota(uow, actor.tenant_id)
    job_id = new_id("job")
    plan = _committed_plan(
        uow,
        job_id,
        version,
        planned,
        generator=generator,
        target=target,
        tier=tier,
        samples=samples,
    )
    commitment = inclusion.commit(plan, salt=uow.keys.commitment_salt(job_id))
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
            "config": planned.config,
            "epsilon": target.epsilon,
            "delta": target.delta,
            "tier": tier,
            "samples": samples,
            "rates": {"reference": planned.rates.reference, "pool": planned.rates.pool},
            "plan": plan,
            "commitment": commitment,
            "policy_digest": uow.policy.digest,
        },
    )
    budgets.reserve(uow, cohort, job=job, mechanisms=planned.mechanisms, delta=target.delta)
    uow.trail(actor, TrailEvent.JOB_COMMIT_PLAN, job.id, commitment=commitment)
    return job


def _plan(
    uow: UnitOfWork,
    version: DatasetVersion,
    *,
    generator: str,
    config: Mapping[str, Any],
    target: PrivacyTarget,
    tier: str,
    samples: int,
) -> _Planned:
    dataset = uow.get(Dataset, version.dataset_id)
    if dataset is None:
        raise NotFound(f"The dataset of version {version.id} is missing.")
    _check_usable(uow, version)
    _check_target(uow, dataset.schema, target, tier)
    if not 1 <= samples <= MOST_SAMPLES:
        raise InputRefused(
            f"{samples} samples were refused: ask for 1 to {MOST_SAMPLES}.",
            value=samples,
            limit=MOST_SAMPLES,
        )
    whole = validate_config(uow, generator, config)
    rates = Rates(
        # R belongs to the cohort: a smaller rate in one dataset would train on persons of R.
        reference=cohort_of(uow, dataset).reference_rate,
        pool=inclusion.rates_for(dataset.schema.declared_count).pool,
    )
    stages = stages_of(uow, generator)
    try:
        mechanisms = _remembered_plan(
            json.dumps([stage.model_dump(mode="json") for stage in stages]),
            json.dumps(whole, sort_keys=True),
            target,
            planning.public_train_count(dataset.schema.declared_count, rates=rates),
        )
    except PrivacyError as error:
        raise InputRefused(str(error), value=target.epsilon) from error
    return _Planned(dataset, whole, rates, mechanisms)


def _check_usable(uow: UnitOfWork, version: DatasetVersion) -> None:
    if version.state is not VersionState.READY:
        raise IllegalTransition(
            f"The training was refused: version {version.number} is {version.state.value}. "
            "Wait until its ingest has succeeded, or choose another version.",
            state=version.state.value,
        )
    check_usable(uow, version, what="The training")


@functools.lru_cache(maxsize=256)
def _remembered_plan(
    stages: str, config: str, target: PrivacyTarget, public_train_count: int
) -> tuple[Mechanism, ...]:
    mechanisms = planning.plan_mechanisms(
        _STAGES.validate_json(stages),
        config=json.loads(config),
        target=target,
        public_train_count=public_train_count,
    )
    ledger.cost(mechanisms, target.delta)  # remembered as well
    return mechanisms


def _check_target(uow: UnitOfWork, schema: DatasetSchema, target: PrivacyTarget, tier: str) -> None:
    check_delta(_exact(target.delta), schema)
    tiers = uow.policy.tiers
    if tier not in tiers:
        raise InputRefused(
            f"The tier {tier!r} was refused. Choose from: {', '.join(tiers)}.", value=tier
        )
    limit = tiers[tier].epsilon
    if target.epsilon > limit:
        raise InputRefused(
            f"An epsilon of {target.epsilon:g} was refused: the {tier} tier allows at most "
            f"{limit:g}. Ask for less, or choose a more guarded tier.",
            value=target.epsilon,
            limit=limit,
        )


def _committed_plan(
    uow: UnitOfWork,
    job_id: str,
    version: DatasetVersion,
    planned: _Planned,
    *,
    generator: str,
    target: PrivacyTarget,
    tier: str,
    samples: int,
) -> dict[str, Any]:
    """Return everything that must not be chosen afterwards; keys by digest."""
    reference_key = uow.keys.reference_key(planned.dataset.cohort_id)
    run_key = uow.keys.run_key(job_id)
    return {
        "job": job_id,
        "dataset": version.manifest_digest,
        "generator": generator,
        "config": planned.config,
        "target": target.model_dump(mode="json"),
        "mechanisms": mechanisms_to_json(planned.mechanisms),
        "rates": {"reference": planned.rates.reference, "pool": planned.rates.pool},
        "reference_key": hashlib.sha256(reference_key).hexdigest(),
        "run_key": hashlib.sha256(run_key).hexdigest(),
        "policy": uow.policy.digest,
        "tier": tier,
        "samples": samples,
    }


def _refusal(
    cohort: Cohort,
    held: list[ledger.Reservation],
    mechanisms: tuple[Mechanism, ...],
    target: PrivacyTarget,
) -> str | None:
    try:
        ledger.reserve(
            budgets.pure_budget(cohort),
            held,
            job_id="planned",
            mechanisms=mechanisms,
            delta=target.delta,
        )
    except (PrivacyError, BudgetRefused) as error:
        return str(error)
    return None


def _exact(number: float) -> Decimal:
    """Return the decimal that was written, not the binary fraction nearest to it."""
    return Decimal(repr(number))
