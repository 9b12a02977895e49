"""Agreements of a tenant: immutable versions of a text, and who accepted which, by its digest."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from service.domain import access_permissions as may
from service.domain import permissions
from service.domain.access import Agreement, AgreementAcceptance, AgreementVersion
from service.domain.accounts import Actor, Role, Scope
from service.domain.errors import Conflict, InputRefused, NotFound
from service.domain.identifiers import new_id
from service.domain.releases import IN_CATALOGUE
from service.domain.trail import TrailEvent
from service.store import access_tables, tables
from service.store.unit_of_work import UnitOfWork

TEXT_LIMIT = 100_000
_versions = access_tables.agreement_versions
_accepted = access_tables.agreement_acceptances


@dataclass(frozen=True)
class AgreementView:
    """An agreement with the version in force now, all versions, and what the actor accepted."""

    agreement: Agreement
    current: AgreementVersion | None
    versions: list[AgreementVersion]
    acceptance: AgreementAcceptance | None


def create_agreement(
    uow: UnitOfWork,
    actor: Actor,
    *,
    name: str,
    text: str,
    effective_from: datetime | None = None,
) -> AgreementView:
    """Write the first version of an agreement.  Raises: Conflict if the name is taken."""
    may.check_may_write_agreements(actor)
    name = name.strip()
    if not name or len(name) > 200 or not name.isprintable():
        raise InputRefused(
            "The agreement's name was refused: give 1 to 200 printable characters.", limit=200
        )
    taken = sa.select(access_tables.agreements.c.id).where(
        access_tables.agreements.c.tenant_id == actor.tenant_id,
        access_tables.agreements.c.name == name,
    )
    if uow.session.execute(taken).first():
        raise Conflict(f"An agreement named {name!r} exists already. Write a new version of it.")
    agreement = Agreement(new_id("agr"), actor.tenant_id, name, actor.user_id, uow.now())
    uow.session.add(agreement)
    uow.trail(actor, TrailEvent.AGREEMENT_CREATE, agreement.id)
    uow.session.flush()
    _write(uow, actor, agreement, text=text, effective_from=effective_from)
    return view_agreement(uow, agreement, user_id=actor.user_id)


def add_agreement_version(
    uow: UnitOfWork,
    actor: Actor,
    *,
    agreement_id: str,
    text: str,
    effective_from: datetime | None = None,
) -> AgreementView:
    """Write a new version; from `effective_from` on, whoever accepted an older one is asked again.

    Raises: InputRefused for the text that rules already, or a version that would rule before the
    last one.
    """
    agreement = may.check_may_change_agreement(
        actor, uow.get(Agreement, agreement_id, lock=True), asked=agreement_id
    )
    _write(uow, actor, agreement, text=text, effective_from=effective_from)
    return view_agreement(uow, agreement, user_id=actor.user_id)


def list_agreements(uow: UnitOfWork, actor: Actor) -> list[AgreementView]:
    """Return the agreements of the actor's tenant, by name."""
    may.check_may_list_incoming(actor)
    statement = (
        sa.select(Agreement)
        .where(access_tables.agreements.c.tenant_id == actor.tenant_id)
        .order_by(access_tables.agreements.c.name)
    )
    found = list(uow.session.execute(statement).scalars())
    return [view_agreement(uow, agreement, user_id=actor.user_id) for agreement in found]


def get_agreement(uow: UnitOfWork, actor: Actor, *, agreement_id: str) -> AgreementView:
    """Return an agreement of the actor's tenant, or one that a release in the catalogue needs.

    Whoever is not its data owner sees only the version in force.
    """
    permissions.check_scope(actor, "Reading an agreement", Scope.READ)
    agreement = uow.get(Agreement, agreement_id)
    is_own = agreement is not None and (
        agreement.tenant_id == actor.tenant_id and actor.has(Role.DATA_OWNER)
    )
    if agreement is None or not (is_own or _is_needed(uow, agreement.id)):
        raise NotFound(f"No agreement {agreement_id!r} was found. Check the identifier.")
    view = view_agreement(uow, agreement, user_id=actor.user_id)
    if is_own:
        return view
    shown = [view.current] if view.current else []
    return AgreementView(view.agreement, view.current, shown, view.acceptance)


def accept_agreement(
    uow: UnitOfWork, actor: Actor, *, agreement_id: str, number: int, sha256: str
) -> AgreementAcceptance:
    """Record that the actor accepts a version, by the digest of the text that they were shown.

    Accepting again changes nothing.  Raises: Conflict unless that version is in force.
    """
    may.check_may_accept_agreements(actor)
    view = get_agreement(uow, actor, agreement_id=agreement_id)
    current = view.current
    if current is None or (current.number, current.sha256) != (number, sha256):
        raise Conflict(
            "The acceptance was refused: another version of the agreement is in force. "
            "Read that one.",
            value=number,
            limit=current.number if current else None,
        )
    if view.acceptance is not None:
        return view.acceptance
    acceptance = AgreementAcceptance(
        agreement_id, current.number, actor.user_id, current.sha256, uow.now()
    )
    uow.session.add(acceptance)
    uow.trail(
        actor, TrailEvent.AGREEMENT_ACCEPT, agreement_id, number=number, text_sha256=current.sha256
    )
    return acceptance


def view_agreement(uow: UnitOfWork, agreement: Agreement, *, user_id: str) -> AgreementView:
    """Return an agreement with its versions, and the user's acceptance of the one in force."""
    statement = (
        sa.select(AgreementVersion)
        .where(_versions.c.agreement_id == agreement.id)
        .order_by(_versions.c.number)
    )
    versions = list(uow.session.execute(statement).scalars())
    ruling = [version for version in versions if version.effective_from <= uow.now()]
    current = ruling[-1] if ruling else None
    acceptance = None
    if current is not None:
        acceptance = uow.get(AgreementAcceptance, (agreement.id, current.number, user_id))
        if acceptance is not None and acceptance.sha256 != current.sha256:
            acceptance = None
    return AgreementView(agreement, current, versions, acceptance)


def count_acceptances(uow: UnitOfWork, actor: Actor, *, agreement_id: str) -> dict[int, int]:
    """Return how many users accepted each version; its data owners only."""
    agreement = may.check_may_change_agreement(
        actor, uow.get(Agreement, agreement_id), asked=agreement_id
    )
    statement = (
        sa.select(_accepted.c.number, sa.func.count())
        .where(_accepted.c.agreement_id == agreement.id)
        .group_by(_accepted.c.number)
    )
    return {number: int(count) for number, count in uow.session.execute(statement)}


def _write(
    uow: UnitOfWork,
    actor: Actor,
    agreement: Agreement,
    *,
    text: str,
    effective_from: datetime | None,
) -> AgreementVersion:
    text = text.replace("\r\n", "\n").strip()
    if not text or len(text) > TEXT_LIMIT or "\x00" in text:
        raise InputRefused(
            f"The agreement's text was refused: it has {len(text)} characters; give 1 to "
            f"{TEXT_LIMIT}.",
            value=len(text),
            limit=TEXT_LIMIT,
        )
    versions = view_agreement(uow, agreement, user_id=actor.user_id).versions
    last = versions[-1] if versions else None
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    starts = effective_from or uow.now()
    if not 2000 <= starts.year <= 2200:
        raise InputRefused(
            f"The version was refused: the year {starts.year} is none of 2000 to 2200.",
            field="effective_from",
            value=starts.year,
        )
    if last is not None and last.sha256 == sha256:
        raise InputRefused("The version was refused: its text is that of the version before.")
    if last is not None and starts < last.effective_from:
        raise InputRefused(
            f"The version was refused: it would rule from {starts:%Y-%m-%d}, before the version "
            f"before it does ({last.effective_from:%Y-%m-%d}). Choose a later date."
        )
    number = last.number + 1 if last else 1
    version = AgreementVersion(agreement.id, number, text, sha256, starts, actor.user_id, uow.now())
    uow.session.add(version)
    uow.trail(
        actor,
        TrailEvent.AGREEMENT_ADD_VERSION,
        agreement.id,
        number=number,
        text_sha256=sha256,
        effective_from=starts.isoformat(),
    )
    uow.session.flush()
    return version


def _is_needed(uow: UnitOfWork, agreement_id: str) -> bool:
    """Tell whether a release that everybody sees needs the agreement."""
    policies = access_tables.access_policies
    statement = (
        sa.select(policies.c.release_id)
        .join(tables.releases, tables.releases.c.id == policies.c.release_id)
        .where(
            policies.c.agreement_id == agreement_id,
            tables.releases.c.state.in_(list(IN_CATALOGUE)),
        )
        .limit(1)
    )
    return uow.session.execute(statement).first() is not None
