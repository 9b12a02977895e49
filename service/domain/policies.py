"""A tenant's own version of the audit policy: proposed by one auditor, approved by two others."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.accounts import Actor, Role, Scope
from service.domain.errors import IllegalTransition, NotFound, PermissionDenied
from service.domain.permissions import ROLE_WORDS, check_scope

APPROVALS_NEEDED = 2


class PolicyState(StrEnum):
    """Where a version stands; one of each tenant at most is in force."""

    PROPOSED = "proposed"
    IN_FORCE = "in_force"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


TRANSITIONS: dict[PolicyState, frozenset[PolicyState]] = {
    PolicyState.PROPOSED: frozenset(
        {PolicyState.IN_FORCE, PolicyState.REJECTED, PolicyState.WITHDRAWN}
    ),
    PolicyState.IN_FORCE: frozenset({PolicyState.SUPERSEDED}),
    PolicyState.SUPERSEDED: frozenset(),
    PolicyState.REJECTED: frozenset(),
    PolicyState.WITHDRAWN: frozenset(),
}


@dataclass(eq=False)
class PolicyVersion:
    """One version; `toml` is the file as it is judged by, `digest` its SHA-256.

    `base_digest` names the policy that was in force when it was written: what its approvers read is
    the difference to that one.
    """

    id: str
    tenant_id: str
    number: int
    toml: str
    digest: str
    base_digest: str
    author_id: str
    reason: str
    created_at: datetime
    state: PolicyState = PolicyState.PROPOSED
    revision: int = 1
    decided_at: datetime | None = None

    @property
    def etag(self) -> str:
        """Return the revision as it appears in ETag and If-Match, quotes included."""
        return f'"{self.revision}"'

    def move_to(self, state: PolicyState) -> None:
        """Change the state; the only writer of `state`."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(
                f"Policy version {self.number} is {self.state.value.replace('_', ' ')}; it cannot "
                f"become {state.value.replace('_', ' ')}. Propose another version.",
                state=self.state.value,
            )
        self.state = state


@dataclass(eq=False)
class PolicyVote:
    """What one auditor said of a version; not blind, since a policy is argued about."""

    policy_id: str
    auditor_id: str
    approves: bool
    reason: str
    created_at: datetime


def check_may_read_policies(actor: Actor) -> None:
    """Whoever trains under a policy, judges by it or runs the service may read it."""
    readers = (Role.DATA_OWNER, Role.AUDITOR, Role.OPERATOR)
    if not actor.roles & set(readers):
        needed = " or ".join(ROLE_WORDS[role] for role in readers)
        raise PermissionDenied(f"Reading the policy was refused: only {needed} may.")
    check_scope(actor, "Reading the policy", Scope.READ)


def check_may_propose_policy(actor: Actor) -> None:
    """Auditors alone say by what is judged: whoever wants a release does not set its bar."""
    if not actor.has(Role.AUDITOR):
        raise PermissionDenied(
            "Proposing a policy was refused: only an auditor may. Ask one of your auditors."
        )
    _check_owns_no_data(actor, "Proposing a policy")
    check_scope(actor, "Proposing a policy", Scope.REVIEWS)


def check_may_see_policy(
    actor: Actor, version: PolicyVersion | None, *, asked: str
) -> PolicyVersion:
    """Return the version if it is of the actor's tenant."""
    if version is None or version.tenant_id != actor.tenant_id:
        raise NotFound(f"No policy version {asked!r} was found. Check the identifier.")
    check_may_read_policies(actor)
    return version


def check_may_vote_on_policy(
    actor: Actor, version: PolicyVersion | None, *, asked: str
) -> PolicyVersion:
    """Return the version if the actor is another auditor of its tenant than its author."""
    if version is None or version.tenant_id != actor.tenant_id:
        raise NotFound(f"No policy version {asked!r} was found. Check the identifier.")
    if not actor.has(Role.AUDITOR):
        raise PermissionDenied("Voting on a policy was refused: only an auditor may.")
    _check_owns_no_data(actor, "Voting on a policy")
    check_scope(actor, "Voting on a policy", Scope.REVIEWS)
    if version.author_id == actor.user_id:
        raise PermissionDenied(
            "Voting on this policy was refused: you proposed it. Two other auditors must approve it."
        )
    return version


def check_may_withdraw_policy(
    actor: Actor, version: PolicyVersion | None, *, asked: str
) -> PolicyVersion:
    """Return the version if the actor proposed it."""
    version = check_may_see_policy(actor, version, asked=asked)
    check_scope(actor, "Withdrawing a policy", Scope.REVIEWS)
    if version.author_id != actor.user_id:
        raise PermissionDenied(
            "Withdrawing this policy was refused: only the auditor who proposed it may. "
            "Reject it instead."
        )
    return version


def _check_owns_no_data(actor: Actor, action: str) -> None:
    if actor.has(Role.DATA_OWNER):
        raise PermissionDenied(
            f"{action} was refused: you are a data owner as well, and whoever wants a release does "
            "not set its bar. Ask an auditor who owns no data."
        )
