"""Imperative mapping of domain classes to tables. `start_mappers` runs once per process."""

from sqlalchemy.orm import registry

from service.domain import accounts, datasets, jobs, releases
from service.store import tables

_CLASSES = (
    (accounts.Tenant, tables.tenants),
    (accounts.User, tables.users),
    (accounts.ApiKey, tables.api_keys),
    (datasets.Cohort, tables.cohorts),
    (datasets.Dataset, tables.datasets),
    (datasets.DatasetVersion, tables.dataset_versions),
    (datasets.StoredReservation, tables.reservations),
    (jobs.Job, tables.jobs),
    (releases.Release, tables.releases),
    (releases.Review, tables.reviews),
    (releases.Acceptance, tables.acceptances),
    (releases.Download, tables.downloads),
)
_registry = registry(metadata=tables.metadata)


def start_mappers() -> None:
    """Map every class; a second call does nothing."""
    if next(iter(_registry.mappers), None) is not None:
        return
    for domain_class, table in _CLASSES:
        # `revision` is compared and raised at every update, so a lost update is an error.
        revision = table.c.get("revision")
        options = {} if revision is None else {"version_id_col": revision}
        _registry.map_imperatively(domain_class, table, **options)
