"""Create and read datasets, their versions and their budgets.

Uploads, ingest and withdrawals live beside this module and are offered here as well.
"""

from decimal import Decimal

import sqlalchemy as sa

from privacy import inclusion, ledger
from privacy.errors import InvalidParameter
from privacy.rounding import SIGNIFICANT_DIGITS, rounded_count
from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import Cohort, Dataset, DatasetVersion, DeclaredSchema
from service.domain.errors import Conflict, InputRefused, NotFound, QuotaExceeded
from service.domain.identifiers import new_id
from service.domain.trail import TrailEvent
from service.operations import budgets, membership
from service.operations.budgets import BudgetView
from service.operations.ingests import finish_ingest, refuse_ingest
from service.operations.uploads import (
    complete_upload,
    presign_upload_parts,
    put_upload,
    start_upload,
)
from service.operations.withdrawals import finish_erase, sweep_erasures, withdraw_person
from service.store import tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

__all__ = [
    "check_delta",
    "complete_upload",
    "create_dataset",
    "finish_erase",
    "finish_ingest",
    "get_budget",
    "get_dataset",
    "get_version",
    "list_datasets",
    "list_versions",
    "load_version",
    "presign_upload_parts",
    "put_upload",
    "refuse_ingest",
    "start_upload",
    "sweep_erasures",
    "withdraw_person",
]

_NAME_LIMIT, _PURPOSE_LIMIT = 200, 5000
_SAFETY_FACTOR = 10


def create_dataset(  # noqa: PLR0913 - what an owner declares
    uow: UnitOfWork,
    actor: Actor,
    *,
    name: str,
    purpose: str,
    schema: DeclaredSchema,
    budget_epsilon: Decimal | None = None,
    budget_delta: Decimal | None = None,
    rule: str = "basic",
    join_dataset_id: str | None = None,
) -> Dataset:
    """Create a dataset with a budget of its own, or one that joins another dataset's budget.

    `join_dataset_id` may name a cohort whose datasets were lost with the database they were in.

    Raises: InputRefused, Conflict, QuotaExceeded, NotFound, PermissionDenied.
    """
    permissions.check_may_create_dataset(actor)
    name, purpose = _text(name, "name", _NAME_LIMIT), _text(purpose, "purpose", _PURPOSE_LIMIT)
    _check_rounded(schema)
    _check_quota(uow, actor.tenant_id)
    taken = sa.select(tables.datasets.c.id).where(
        tables.datasets.c.tenant_id == actor.tenant_id, tables.datasets.c.name == name
    )
    if uow.session.execute(taken).first():
        raise Conflict(f"A dataset named {name!r} exists already. Choose another name.")
    if join_dataset_id is None:
        cohort = _new_cohort(
            uow, actor, schema, epsilon=budget_epsilon, delta=budget_delta, rule=rule
        )
    else:
        cohort = _joined_cohort(uow, actor, schema, dataset_id=join_dataset_id)
        if budget_epsilon is not None or budget_delta is not None:
            raise InputRefused(
                "A second budget was refused: a dataset that joins another shares its budget. "
                "Leave the budget out."
            )
    dataset = Dataset(
        id=new_id("dst"),
        tenant_id=actor.tenant_id,
        cohort_id=cohort.id,
        name=name,
        purpose=purpose,
        declared=schema.model_dump(mode="json"),
        created_by=actor.user_id,
        created_at=uow.now(),
    )
    uow.session.add(dataset)
    uow.trail(
        actor, TrailEvent.DATASET_CREATE, dataset.id, cohort=cohort.id, joined=join_dataset_id
    )
    return dataset


def get_dataset(uow: UnitOfWork, actor: Actor, *, dataset_id: str) -> Dataset:
    """Return one dataset of the actor's tenant."""
    dataset = uow.get(Dataset, dataset_id)
    return permissions.check_may_see_dataset(actor, dataset, asked=dataset_id)


def list_datasets(
    uow: UnitOfWork, actor: Actor, *, cursor: str | None = None, limit: int = 50
) -> Page[Dataset]:
    """Return the datasets of the actor's tenant, newest first."""
    permissions.check_may_list_datasets(actor)
    statement = sa.select(Dataset).where(tables.datasets.c.tenant_id == actor.tenant_id)
    return fetch_page(
        uow.session, statement, id_column=tables.datasets.c.id, cursor=cursor, limit=limit
    )


def get_version(uow: UnitOfWork, actor: Actor, *, version_id: str) -> DatasetVersion:
    """Return one dataset version of the actor's tenant."""
    version = uow.get(DatasetVersion, version_id)
    return permissions.check_may_see_version(actor, version, asked=version_id)


def list_versions(
    uow: UnitOfWork,
    actor: Actor,
    *,
    dataset_id: str,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[DatasetVersion]:
    """Return a dataset's versions, newest first."""
    get_dataset(uow, actor, dataset_id=dataset_id)
    statement = sa.select(DatasetVersion).where(tables.dataset_versions.c.dataset_id == dataset_id)
    return fetch_page(
        uow.session, statement, id_column=tables.dataset_versions.c.id, cursor=cursor, limit=limit
    )


def load_version(uow: UnitOfWork, version_id: str) -> DatasetVersion:
    """Return a version to a worker; no permission is asked.  Raises: NotFound."""
    version = uow.get(DatasetVersion, version_id)
    if version is None:
        raise NotFound(f"No dataset version {version_id!r} was found.")
    return version


def get_budget(uow: UnitOfWork, actor: Actor, *, dataset_id: str) -> BudgetView:
    """Return the account of the cohort behind a dataset."""
    dataset = get_dataset(uow, actor, dataset_id=dataset_id)
    return budgets.view(uow, cohort_of(uow, dataset))


def cohort_of(uow: UnitOfWork, dataset: Dataset, *, lock: bool = False) -> Cohort:
    """Return the cohort behind a dataset; with `lock`, hold its row until the commit."""
    cohort = uow.get(Cohort, dataset.cohort_id, lock=lock)
    if cohort is None:
        raise NotFound(f"The cohort of dataset {dataset.id} is missing.")
    return cohort


def check_delta(delta: Decimal, schema: DeclaredSchema) -> None:
    """Refuse a delta above 1 / (10 n): with more, releasing somebody whole could pass.

    Raises: InputRefused naming value and limit.
    """
    limit = Decimal(1) / (_SAFETY_FACTOR * schema.declared_count)
    if not 0 < delta <= limit:
        raise InputRefused(
            f"A delta of {delta} was refused: {schema.declared_count} declared "
            f"{schema.unit.value}s allow at most {limit:.3g} (one over ten times the count). "
            "Choose a smaller delta.",
            value=str(delta),
            limit=f"{limit:.6g}",
        )


def _new_cohort(
    uow: UnitOfWork,
    actor: Actor,
    schema: DeclaredSchema,
    *,
    epsilon: Decimal | None,
    delta: Decimal | None,
    rule: str,
) -> Cohort:
    if epsilon is None or delta is None:
        raise InputRefused("A dataset without a budget was refused. Give epsilon and delta.")
    check_delta(delta, schema)
    if rule not in set(ledger.CompositionRule):
        raise InputRefused(
            f"The composition rule {rule!r} was refused. Choose from: "
            f"{', '.join(sorted(ledger.CompositionRule))}.",
            value=rule,
        )
    rate = inclusion.rates_for(schema.declared_count).reference
    cohort = Cohort(new_id("coh"), actor.tenant_id, epsilon, delta, rule, uow.now(), rate)
    try:
        budgets.pure_budget(cohort)
    except InvalidParameter as error:
        raise InputRefused(str(error), value=str(epsilon)) from error
    uow.session.add(cohort)
    uow.session.flush()  # the dataset refers to it
    budgets.open_account(uow, cohort)
    return cohort


def _joined_cohort(
    uow: UnitOfWork, actor: Actor, schema: DeclaredSchema, *, dataset_id: str
) -> Cohort:
    orphan = _orphaned_cohort(uow, actor, dataset_id)
    if orphan is None:
        other = permissions.check_may_change_dataset(
            actor, uow.get(Dataset, dataset_id), asked=dataset_id
        )
        cohort, unit = cohort_of(uow, other), other.schema.unit.value
    else:
        cohort, unit = orphan, membership.unit_of(uow, orphan.id) or schema.unit.value
    if unit != schema.unit.value:
        raise InputRefused(
            f"Joining was refused: that budget protects a {unit}, this dataset declares a "
            f"{schema.unit.value}. Declare the same unit of privacy.",
            value=schema.unit.value,
        )
    check_delta(cohort.budget_delta, schema)
    return cohort


def _orphaned_cohort(uow: UnitOfWork, actor: Actor, cohort_id: str) -> Cohort | None:
    """Return a cohort that a replay restored without its datasets: only its own id names it."""
    cohort = uow.get(Cohort, cohort_id)
    if cohort is None or cohort.tenant_id != actor.tenant_id:
        return None
    statement = sa.select(tables.datasets.c.id).where(tables.datasets.c.cohort_id == cohort_id)
    return None if uow.session.execute(statement).first() else cohort


def _check_rounded(schema: DeclaredSchema) -> None:
    """Refuse a count so exact that it would tell whether one more unit is in the data."""
    count = schema.declared_count
    digits = len(str(count).rstrip("0"))
    if digits > SIGNIFICANT_DIGITS:
        rounded = rounded_count(count)
        raise InputRefused(
            f"The declared count of {count} was refused: it is public, and only a rounded count "
            f"hides who is in it. Give at most {SIGNIFICANT_DIGITS} significant digits, "
            f"{rounded} for example.",
            value=count,
            limit=f"{SIGNIFICANT_DIGITS} significant digits",
            remedy=f"declared_count: {rounded}",
        )


def _check_quota(uow: UnitOfWork, tenant_id: str) -> None:
    statement = sa.select(sa.func.count()).where(tables.datasets.c.tenant_id == tenant_id)
    count, limit = uow.session.execute(statement).scalar_one(), uow.settings.quota_datasets
    if count >= limit:
        raise QuotaExceeded(
            f"The dataset was refused: this tenant has {count}, the limit is {limit}. "
            "Ask an operator for more.",
            value=count,
            limit=limit,
        )


def _text(text: str, what: str, limit: int) -> str:
    text = text.strip()
    if not text or len(text) > limit or "\x00" in text:
        raise InputRefused(
            f"The {what} was refused: give 1 to {limit} characters.", value=len(text), limit=limit
        )
    return text
