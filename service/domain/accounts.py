"""Who acts: tenants, users, API keys, and the actor that every operation is handed."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a person answers for inside a tenant."""

    DATA_OWNER = "data_owner"
    COLLABORATOR = "collaborator"
    AUDITOR = "auditor"
    OPERATOR = "operator"


class Scope(StrEnum):
    """What an API key may be used for; a key never grants more than its user's roles."""

    READ = "read"
    DATASETS = "datasets"
    JOBS = "jobs"
    RELEASES = "releases"
    REVIEWS = "reviews"
    DOWNLOADS = "downloads"
    ADMINISTRATION = "administration"


ALL_SCOPES = frozenset(Scope)


@dataclass(eq=False)
class Tenant:
    """One hospital or institute; nothing private crosses from one to another."""

    id: str
    name: str
    created_at: datetime
    needs_plan_approval: bool = False
    """Whether an auditor must approve a training plan before it spends epsilon."""


@dataclass(eq=False)
class User:
    """One person of one tenant."""

    id: str
    tenant_id: str
    name: str
    roles: list[str]
    created_at: datetime
    disabled_at: datetime | None = None
    lab: str = ""
    """The group they work in; nobody reviews what their own lab made."""


@dataclass(eq=False)
class ApiKey:
    """A credential: the SHA-256 of its secret is stored, the secret is shown once."""

    id: str
    user_id: str
    secret_sha256: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True)
class Actor:
    """Who performs an operation, resolved from a credential."""

    user_id: str
    tenant_id: str
    roles: frozenset[Role] = field(default_factory=frozenset)
    scopes: frozenset[Scope] = field(default=ALL_SCOPES)
    name: str = ""

    def has(self, role: Role) -> bool:
        """Tell whether the actor holds `role`."""
        return role in self.roles


SYSTEM = Actor(user_id="system", tenant_id="system", roles=frozenset(), name="system")
"""Workers and the reaper. Their authority over a job is its fencing token, not a role."""

BOOTSTRAP = Actor(
    user_id="bootstrap", tenant_id="system", roles=frozenset({Role.OPERATOR}), name="bootstrap"
)
"""The person at the machine's own command line, who creates the first operator account."""
