"""Whether a tenant's training plans need an auditor's approval; operators say so."""

from service.domain import permissions
from service.domain.accounts import Actor, Tenant
from service.domain.errors import NotFound
from service.domain.trail import TrailEvent
from service.store.unit_of_work import UnitOfWork


def require_plan_approval(
    uow: UnitOfWork, actor: Actor, *, tenant_id: str, required: bool
) -> Tenant:
    """Say whether a tenant's plans need approval.  Raises: NotFound, PermissionDenied."""
    permissions.check_may_administer(actor)
    tenant = uow.get(Tenant, tenant_id, lock=True)
    if tenant is None:
        raise NotFound(f"No tenant {tenant_id!r} was found. Check the identifier.")
    tenant.needs_plan_approval = required
    uow.trail(actor, TrailEvent.PLAN_REQUIRE_APPROVAL, tenant.id, required=required)
    return tenant


def needs_approval(uow: UnitOfWork, tenant_id: str) -> bool:
    """Tell whether a tenant's trainings need an approved plan."""
    tenant = uow.get(Tenant, tenant_id)
    return tenant is not None and tenant.needs_plan_approval
