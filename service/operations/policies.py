"""Which policy judges a tenant's candidates: the shipped one, or a version its auditors approved.

The file that the service was started with is version zero. A tenant's auditor proposes other values,
two other auditors approve, and from then on new trainings commit to that version and releases are
audited again under it. What was committed to before keeps the policy it was committed to, so that no
report changes. Nothing is in force that is looser than the fixed limits (`privacy.policy_limits`).
"""

import functools
import hashlib
from collections.abc import Mapping

import sqlalchemy as sa

from privacy import policy_limits
from privacy.errors import InvalidParameter
from privacy.policy import Policy, parse_policy, policy_file
from service.domain import policies as domain
from service.domain.accounts import Actor, Role, Tenant
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.identifiers import new_id
from service.domain.policies import PolicyState, PolicyVersion, PolicyVote
from service.domain.trail import TrailEvent
from service.operations.factor_resets import check_settled
from service.operations.notifying import notify, users_with_role
from service.store import policy_tables
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

REASON_LIMIT = 4000
_ADOPTED = (PolicyState.IN_FORCE, PolicyState.SUPERSEDED)
_versions, _votes = policy_tables.policy_versions, policy_tables.policy_votes


def policy_in_force(uow: UnitOfWork, tenant_id: str) -> Policy:
    """Return the policy that new trainings of a tenant commit to.

    Raises: Conflict if its stored text was changed behind the auditors' backs.
    """
    found = version_in_force(uow, tenant_id)
    policy = uow.policy if found is None else _unchanged(found)
    if policy is None:
        raise Conflict(
            "The policy in force was refused: its stored text no longer has the digest that two "
            "auditors approved. An operator must restore it from a backup."
        )
    return policy


def text_in_force(uow: UnitOfWork, tenant_id: str) -> str:
    """Return the file of the policy in force, whose SHA-256 is the policy's digest."""
    found = version_in_force(uow, tenant_id)
    return policy_file(uow.settings.policy_file).decode() if found is None else found.toml


def version_in_force(uow: UnitOfWork, tenant_id: str) -> PolicyVersion | None:
    """Return the tenant's own version in force; None while version zero is."""
    statement = sa.select(PolicyVersion).where(
        _versions.c.tenant_id == tenant_id, _versions.c.state == PolicyState.IN_FORCE
    )
    return uow.session.execute(statement).scalars().first()


def adopted_policy(uow: UnitOfWork, digest: str) -> Policy | None:
    """Return the policy with this digest, if it is or was in force anywhere; None if it is unknown.

    A stored text that no longer has its digest was changed behind our back: it is unknown as well.
    """
    if digest == uow.policy.digest:
        return uow.policy
    statement = sa.select(PolicyVersion).where(
        _versions.c.digest == digest, _versions.c.state.in_(_ADOPTED)
    )
    found = uow.session.execute(statement).scalars().first()
    return None if found is None else _unchanged(found)


def _unchanged(version: PolicyVersion) -> Policy | None:
    """Return what an adopted version says; None if its text was changed since it was approved."""
    if hashlib.sha256(version.toml.encode()).hexdigest() != version.digest:
        return None
    return read(version.toml)


@functools.lru_cache(maxsize=64)
def read(toml: str) -> Policy:
    """Read a stored version.  Raises: InvalidParameter if it is beyond the fixed limits."""
    policy = parse_policy(toml.encode(), name="version")
    policy_limits.check_limits(policy)
    return policy


def list_versions(
    uow: UnitOfWork, actor: Actor, *, cursor: str | None = None, limit: int = 50
) -> Page[PolicyVersion]:
    """Return the versions of the actor's tenant, newest first; version zero is not among them."""
    domain.check_may_read_policies(actor)
    statement = sa.select(PolicyVersion).where(_versions.c.tenant_id == actor.tenant_id)
    return fetch_page(uow.session, statement, id_column=_versions.c.id, cursor=cursor, limit=limit)


def get_version(uow: UnitOfWork, actor: Actor, *, policy_id: str) -> PolicyVersion:
    """Return one version of the actor's tenant.  Raises: NotFound, PermissionDenied."""
    return domain.check_may_see_policy(actor, uow.get(PolicyVersion, policy_id), asked=policy_id)


def votes_on(uow: UnitOfWork, version: PolicyVersion) -> list[PolicyVote]:
    """Return the votes on a version, oldest first."""
    statement = sa.select(PolicyVote).where(_votes.c.policy_id == version.id)
    return list(uow.session.execute(statement.order_by(_votes.c.created_at)).scalars())


def base_of(uow: UnitOfWork, version: PolicyVersion) -> Policy | None:
    """Return the policy that a version was written from; None if it is no longer known."""
    return adopted_policy(uow, version.base_digest)


def draft(
    uow: UnitOfWork, actor: Actor, *, values: Mapping[str, float], depth: str
) -> tuple[Policy, list[policy_limits.Change]]:
    """Return what the policy in force would become, and what differs; changes nothing.

    Raises: InputRefused beyond the fixed limits or without a difference; PermissionDenied.
    """
    domain.check_may_propose_policy(actor)
    text, before = _changed(uow, actor, values=values, depth=depth)
    after = read(text)
    return after, policy_limits.compare(before, after)


def propose_version(
    uow: UnitOfWork, actor: Actor, *, values: Mapping[str, float], depth: str, reason: str
) -> PolicyVersion:
    """Propose the policy in force with other values; two other auditors must approve it.

    Raises: InputRefused beyond the fixed limits, without a difference or without a reason;
    Conflict while another proposal waits; PermissionDenied.
    """
    domain.check_may_propose_policy(actor)
    _lock(uow, actor.tenant_id)
    _check_none_waits(uow, actor)
    text, before = _changed(uow, actor, values=values, depth=depth)
    version = PolicyVersion(
        id=new_id("pol"),
        tenant_id=actor.tenant_id,
        number=_last_number(uow, actor.tenant_id) + 1,
        toml=text,
        digest=read(text).digest,
        base_digest=before.digest,
        author_id=actor.user_id,
        reason=_checked(reason, what="Proposing a policy"),
        created_at=uow.now(),
    )
    uow.session.add(version)
    uow.trail(
        actor,
        TrailEvent.POLICY_PROPOSE,
        version.id,
        number=version.number,
        policy={"proposed": version.digest, "in_force": before.digest},
        reason=version.reason,
    )
    _tell(
        uow,
        [u for u in users_with_role(uow, actor.tenant_id, Role.AUDITOR) if u != actor.user_id],
        version,
        kind="policy.proposed",
        subject=f"Policy version {version.number} waits for your vote",
    )
    return version


def vote_on_version(
    uow: UnitOfWork,
    actor: Actor,
    *,
    policy_id: str,
    approves: bool,
    reason: str = "",
    if_match: str | None,
) -> PolicyVersion:
    """Approve or reject a proposal: one rejection ends it, the second approval puts it in force.

    Raises: PermissionDenied for its author or a rejection without reason; Conflict for a second vote
    or when another version came into force meanwhile; IllegalTransition; PreconditionFailed.
    """
    version = domain.check_may_vote_on_policy(
        actor, uow.get(PolicyVersion, policy_id, lock=True), asked=policy_id
    )
    _check_revision(version, if_match)
    check_may_vote(uow, actor, version)
    _lock(uow, version.tenant_id)
    if approves and policy_in_force(uow, version.tenant_id).digest != version.base_digest:
        raise Conflict(
            "Approving was refused: another policy came into force since this one was written. "
            "Reject it; its author may propose it again on what is in force now."
        )
    if not approves and not reason.strip():
        raise PermissionDenied("Rejecting a policy was refused without a reason. Write it.")
    vote = PolicyVote(version.id, actor.user_id, approves, reason[:REASON_LIMIT], uow.now())
    uow.session.add(vote)
    uow.trail(
        actor,
        TrailEvent.POLICY_VOTE,
        version.id,
        policy=version.digest,
        approves=approves,
        reason=vote.reason,
    )
    approvals = sum(cast.approves for cast in votes_on(uow, version))
    if not approves:
        _decide(uow, version, PolicyState.REJECTED)
    elif approvals >= domain.APPROVALS_NEEDED:
        _put_in_force(uow, actor, version)
    return version


def withdraw_version(
    uow: UnitOfWork, actor: Actor, *, policy_id: str, if_match: str | None
) -> PolicyVersion:
    """Take a proposal back.  Raises: PermissionDenied unless its author; IllegalTransition."""
    version = domain.check_may_withdraw_policy(
        actor, uow.get(PolicyVersion, policy_id, lock=True), asked=policy_id
    )
    _check_revision(version, if_match)
    version.move_to(PolicyState.WITHDRAWN)
    version.decided_at = uow.now()
    uow.trail(actor, TrailEvent.POLICY_WITHDRAW, version.id, policy=version.digest)
    return version


def check_may_vote(uow: UnitOfWork, actor: Actor, version: PolicyVersion) -> None:
    """Refuse whoever may not vote on this version now, whatever the vote; changes nothing.

    Raises: NotFound, PermissionDenied, IllegalTransition; Conflict for a second vote.
    """
    domain.check_may_vote_on_policy(actor, version, asked=version.id)
    check_settled(uow, actor, "Voting")
    if version.state is not PolicyState.PROPOSED:
        raise IllegalTransition(
            f"Voting was refused: policy version {version.number} is "
            f"{version.state.value.replace('_', ' ')}, not proposed.",
            state=version.state.value,
        )
    if any(vote.auditor_id == actor.user_id for vote in votes_on(uow, version)):
        raise Conflict("Voting was refused: you voted on this version already.")


def _put_in_force(uow: UnitOfWork, actor: Actor, version: PolicyVersion) -> None:
    before = version_in_force(uow, version.tenant_id)
    if before is not None:
        before.move_to(PolicyState.SUPERSEDED)
        uow.session.flush()
    _decide(uow, version, PolicyState.IN_FORCE)
    uow.trail(
        actor,
        TrailEvent.POLICY_ADOPT,
        version.id,
        number=version.number,
        policy={"in_force": version.digest, "before": version.base_digest},
    )


def _decide(uow: UnitOfWork, version: PolicyVersion, state: PolicyState) -> None:
    version.move_to(state)
    version.decided_at = uow.now()
    words = {PolicyState.IN_FORCE: "is in force", PolicyState.REJECTED: "was rejected"}[state]
    told = users_with_role(uow, version.tenant_id, Role.AUDITOR)
    if state is PolicyState.IN_FORCE:
        told += users_with_role(uow, version.tenant_id, Role.DATA_OWNER)
    subject = f"Policy version {version.number} {words}"
    _tell(uow, told, version, kind=f"policy.{state.value}", subject=subject)


def _tell(
    uow: UnitOfWork, to: list[str], version: PolicyVersion, *, kind: str, subject: str
) -> None:
    link = f"/policies/{version.id}"
    notify(uow, to=to, kind=kind, subject=subject, text=version.reason, link=link)


def _changed(
    uow: UnitOfWork, actor: Actor, *, values: Mapping[str, float], depth: str
) -> tuple[str, Policy]:
    before = policy_in_force(uow, actor.tenant_id)
    label = f"{uow.policy.version}+{_last_number(uow, actor.tenant_id) + 1}"
    if depth not in policy_limits.DEPTHS:
        raise InputRefused(f"The battery {depth[:20]!r} was refused. Choose quick or full.")
    try:
        text = policy_limits.changed(before, values, depth=depth, version=label)
        is_same = not policy_limits.compare(before, read(text))
    except InvalidParameter as error:
        raise InputRefused(str(error)) from error
    if is_same:
        raise InputRefused(
            "The policy was refused: nothing in it differs from the one in force. Change a value."
        )
    return text, before


def _check_none_waits(uow: UnitOfWork, actor: Actor) -> None:
    statement = sa.select(_versions.c.number).where(
        _versions.c.tenant_id == actor.tenant_id, _versions.c.state == PolicyState.PROPOSED
    )
    waiting = uow.session.execute(statement).scalars().first()
    if waiting is not None:
        raise Conflict(
            f"Proposing a policy was refused: version {waiting} still waits for votes. "
            "Decide on it first, so that two changes are not approved over each other."
        )


def _check_revision(version: PolicyVersion, if_match: str | None) -> None:
    if if_match is None or if_match.removeprefix("W/") != version.etag:
        raise PreconditionFailed(
            f"The change was refused: revision {version.revision} of this policy version is current. "
            "Read it again.",
            current=version.etag,
        )


def _last_number(uow: UnitOfWork, tenant_id: str) -> int:
    statement = sa.select(sa.func.max(_versions.c.number)).where(_versions.c.tenant_id == tenant_id)
    return int(uow.session.execute(statement).scalar_one() or 0)


def _lock(uow: UnitOfWork, tenant_id: str) -> None:
    """Hold the tenant's row: two versions cannot get one number or be in force together."""
    if uow.get(Tenant, tenant_id, lock=True) is None:
        raise NotFound(f"No tenant {tenant_id!r} was found.")


def _checked(reason: str, *, what: str) -> str:
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_LIMIT:
        raise InputRefused(
            f"{what} was refused: give a reason of 1 to {REASON_LIMIT} characters for those who "
            "approve it.",
            value=len(reason),
            limit=REASON_LIMIT,
        )
    return reason
