"""Plan a training: resolve its preset, cost its mechanisms, say what its owner should know.

Nothing here writes. Everything is computed from what was declared; the realised data is not looked at,
but for what the check of the upload told its owner about whom the budget knew.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from privacy import foresight, inclusion, ledger, planning, regimes
from privacy.errors import PrivacyError
from privacy.inclusion import Rates
from privacy.mechanisms import Mechanism, PrivacyTarget, Stage, UnitOfPrivacy
from privacy.policy import Policy
from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import (
    Cohort,
    Dataset,
    DatasetVersion,
    DeclaredSchema,
    VersionState,
)
from service.domain.errors import (
    BudgetRefused,
    DomainError,
    IllegalTransition,
    InputRefused,
    NotFound,
)
from service.operations import budgets, catalogue
from service.operations.datasets import check_delta, cohort_of
from service.operations.policies import policy_in_force
from service.operations.withdrawals import check_usable
from service.store.unit_of_work import UnitOfWork

DEFAULT_SAMPLES = 8000
"""Enough to bound the share of copied samples in every tier, the public one too."""
MOST_SAMPLES = 200_000
RUNS_PER_BUDGET = 10
"""How many runs the delta of a budget is for, where a run names none."""
_STAGES: TypeAdapter[tuple[Stage, ...]] = TypeAdapter(tuple[Stage, ...])


@dataclass(frozen=True)
class Asked:
    """What somebody asks for. `config` has the last word over `preset`."""

    generator: str
    config: Mapping[str, Any]
    target: PrivacyTarget
    tier: str = "registered"
    samples: int = DEFAULT_SAMPLES
    preset: str | None = None


@dataclass(frozen=True)
class Planned:
    """What would be reserved and committed to, all from declared numbers.

    `units` is the expected size of the training arm.
    """

    asked: Asked
    dataset: Dataset
    config: dict[str, Any]
    rates: Rates
    units: int
    mechanisms: tuple[Mechanism, ...]


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would reserve. `refusal` is the sentence why it would be refused.

    `recommended` is the generator that suits this much data; `warnings` and `recommendation` are
    sentences for the data owner.
    """

    delta: Decimal
    refusal: str | None
    planned: Planned | None = None
    epsilon: Decimal | None = None
    epsilon_remaining: Decimal | None = None
    delta_remaining: Decimal | None = None
    warnings: tuple[str, ...] = ()
    recommended: str = ""
    recommendation: str = ""
    mechanisms: tuple[Mechanism, ...] = field(init=False)
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Offer what was planned, or nothing, under its own names."""
        planned = self.planned
        object.__setattr__(self, "mechanisms", planned.mechanisms if planned else ())
        object.__setattr__(self, "config", planned.config if planned else {})


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


def plan_training(  # noqa: PLR0913 - everything that may be asked for
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
) -> TrainingPlan:
    """Say what a training would reserve, or why it would be refused; nothing is reserved.

    Raises: NotFound and PermissionDenied only; every other refusal is in the answer.
    """
    version = permissions.check_may_train(
        actor, uow.get(DatasetVersion, version_id), asked=version_id
    )
    asked = Asked(generator, config, target, tier, samples, preset)
    try:
        planned = plan(uow, version, asked)
    except DomainError as error:
        return TrainingPlan(delta=_exact(target.delta), refusal=error.sentence)
    cohort = cohort_of(uow, planned.dataset)
    held = [budgets.pure_reservation(item) for item in budgets.load_reservations(uow, cohort.id)]
    left = ledger.remaining(budgets.pure_budget(cohort), held)
    recommended, sentence = _recommend(uow, planned)
    return TrainingPlan(
        delta=_exact(target.delta),
        refusal=_refusal(cohort, held, planned.mechanisms, target),
        planned=planned,
        epsilon=ledger.cost(planned.mechanisms, target.delta),
        epsilon_remaining=left[0],
        delta_remaining=left[1],
        warnings=(*_about_units(version, planned.dataset), *_warnings(uow, planned)),
        recommended=recommended,
        recommendation=sentence,
    )


def _warnings(uow: UnitOfWork, planned: Planned) -> tuple[str, ...]:
    """Return what to know before paying: of the generator's chances, and of the audit's."""
    asked, schema = planned.asked, planned.dataset.schema
    found = regimes.warnings(
        planned.mechanisms,
        stages=catalogue.stages_of(uow, asked.generator),
        schema=schema,
        units=planned.units,
        epsilon=asked.target.epsilon,
    )
    undecided = foresight.about_the_audit(
        planned.mechanisms,
        policy=policy_in_force(uow, planned.dataset.tenant_id),
        tier=asked.tier,
        rates=planned.rates,
        declared=schema.declared_count,
        unit=schema.unit,
        modality=planned.dataset.modality,
    )
    return found if undecided is None else (*found, undecided)


def _about_units(version: DatasetVersion, dataset: Dataset) -> tuple[str, ...]:
    """Return what to know of whose presence is hidden, before paying for it."""
    found = [str(said)] if (said := version.ingest_report.get("nobody_known")) else []
    if dataset.modality == "table" and dataset.schema.unit is UnitOfPrivacy.RECORD:
        found.append(foresight.PERSONS_UNKNOWN)
    return tuple(found)


def _recommend(uow: UnitOfWork, planned: Planned) -> tuple[str, str]:
    """Return the generator for this much data, and a sentence; both empty if none is suited."""
    units, epsilon = planned.units, planned.asked.target.epsilon
    suiting = catalogue.suits_from(uow, planned.dataset.modality)
    name = regimes.recommended(suiting, units=units, epsilon=epsilon)
    if not name:
        return "", ""
    schema = planned.dataset.schema
    return name, regimes.recommendation(name, schema=schema, units=units, epsilon=epsilon)


def plan(uow: UnitOfWork, version: DatasetVersion, asked: Asked) -> Planned:
    """Return the mechanisms and the whole configuration of a training.

    Raises: InputRefused, IllegalTransition, NotFound, Conflict.
    """
    dataset = uow.get(Dataset, version.dataset_id)
    if dataset is None:
        raise NotFound(f"The dataset of version {version.id} is missing.")
    check_trainable(uow, version)
    catalogue.check_modality(uow, asked.generator, dataset.modality)
    _check_target(policy_in_force(uow, dataset.tenant_id), dataset.schema, asked)
    if not 1 <= asked.samples <= MOST_SAMPLES:
        raise InputRefused(
            f"{asked.samples} samples were refused: ask for 1 to {MOST_SAMPLES}.",
            value=asked.samples,
            limit=MOST_SAMPLES,
        )
    rates = Rates(
        # R belongs to the cohort: a smaller rate in one dataset would train on persons of R.
        reference=cohort_of(uow, dataset).reference_rate,
        pool=inclusion.rates_for(dataset.schema.declared_count).pool,
    )
    units = planning.public_train_count(dataset.schema.declared_count, rates=rates)
    preset = catalogue.preset_settings(
        uow, asked.generator, asked.preset, units=units, epsilon=asked.target.epsilon
    )
    whole = catalogue.validate_config(uow, asked.generator, {**preset, **asked.config})
    stages = catalogue.stages_of(uow, asked.generator)
    try:
        mechanisms = _remembered_plan(
            json.dumps([stage.model_dump(mode="json") for stage in stages]),
            json.dumps(whole, sort_keys=True),
            asked.target,
            units,
        )
    except PrivacyError as error:
        raise InputRefused(str(error), value=asked.target.epsilon) from error
    return Planned(asked, dataset, whole, rates, units, mechanisms)


def check_trainable(uow: UnitOfWork, version: DatasetVersion) -> None:
    """Refuse a version that is not ready, or that holds somebody who was withdrawn.

    Raises: IllegalTransition, Conflict.
    """
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


def _check_target(policy: Policy, schema: DeclaredSchema, asked: Asked) -> None:
    target, tier, tiers = asked.target, asked.tier, policy.tiers
    check_delta(_exact(target.delta), schema)
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
