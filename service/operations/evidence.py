"""What auditors judge: the jobs behind a release, and the digests that their votes are bound to.

The evidence is a set of digests and the state of the budget's account. If anything that it names has
changed when somebody votes or publishes, every vote of the round is void.
"""

import hashlib
from typing import Any

import rfc8785
import sqlalchemy as sa

from service.domain.datasets import Cohort, Dataset, DatasetVersion, StoredReservation
from service.domain.errors import Conflict
from service.domain.jobs import Job
from service.domain.releases import Release
from service.operations import study_evidence
from service.operations.earlier_rounds import check_not_rejected
from service.operations.policies import policy_in_force
from service.operations.withdrawals import check_usable
from service.store import journal, tables
from service.store.unit_of_work import UnitOfWork

_NOT_COMPARED = frozenset({"ledger", "submitted_by"})
"""The journal goes on growing while auditors read; `account` is the part of it that concerns them."""


def candidate_jobs(uow: UnitOfWork, release: Release) -> tuple[Job, Job, Job]:
    """Return the TRAIN, SAMPLE and AUDIT jobs behind a release.  Raises: Conflict if one is lost."""
    audit = uow.get(Job, release.audit_job_id)
    sample = uow.get(Job, audit.parent_id) if audit and audit.parent_id else None
    train = uow.get(Job, sample.parent_id) if sample and sample.parent_id else None
    if audit is None or sample is None or train is None:
        raise Conflict(f"The jobs behind release {release.id} are incomplete; train again.")
    return train, sample, audit


def check_candidate(uow: UnitOfWork, release: Release, *, what: str) -> None:
    """Refuse a candidate that was rejected before, or whose data hold a person who withdraws.

    Holds the cohort's row, so that no withdrawal begins before the caller commits.
    Raises: Conflict.
    """
    train, _, audit = candidate_jobs(uow, release)
    check_not_rejected(uow, audit.id, what=what, release_id=release.id)
    version = uow.get(DatasetVersion, str(train.version_id))
    dataset = uow.get(Dataset, release.dataset_id)
    if version is None or dataset is None:
        raise Conflict(f"The data behind release {release.id} are missing; train again.")
    uow.get(Cohort, dataset.cohort_id, lock=True)
    check_usable(uow, version, what=what)
    tier = str(audit.payload["tier"])
    study_evidence.check_requirement(uow, audit_job_id=audit.id, tier=tier, what=what)


def freeze(uow: UnitOfWork, release: Release, *, submitted_by: str) -> None:
    """Begin a round: what is judged from now on is what there is now, under no condition yet."""
    release.round += 1
    release.evidence = {**_current(uow, release), "submitted_by": submitted_by}
    release.conditions = {}
    _, _, audit = candidate_jobs(uow, release)
    release.tier, release.verdict = str(audit.payload["tier"]), str(audit.result["verdict"])


def has_changed(uow: UnitOfWork, release: Release) -> bool:
    """Tell whether anything that the evidence names is no longer what it was."""
    return digests(release.evidence) != digests(_current(uow, release))


def digests(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return what must not change."""
    return {name: evidence[name] for name in evidence if name not in _NOT_COMPARED}


def account_position(uow: UnitOfWork, cohort_id: str) -> dict[str, Any]:
    """Return what a budget's account holds: how many reservations, and a digest of them.

    Steps that are charged inside a reservation do not change it; a new reservation does. Whoever
    approved what one candidate costs has not approved what two cost.
    """
    reservations = tables.reservations
    statement = (
        sa.select(StoredReservation)
        .where(reservations.c.cohort_id == cohort_id)
        .order_by(reservations.c.job_id)
    )
    cohort = uow.get(Cohort, cohort_id)
    rows = [
        [found.job_id, format(found.epsilon_reserved, "f")]
        for found in uow.session.execute(statement).scalars()
    ]
    budget = [] if cohort is None else [str(cohort.budget_epsilon), str(cohort.budget_delta)]
    digest = hashlib.sha256(rfc8785.dumps({"budget": budget, "reservations": rows})).hexdigest()
    return {"cohort": cohort_id, "reservations": len(rows), "digest": digest}


def _current(uow: UnitOfWork, release: Release) -> dict[str, Any]:
    train, sample, audit = candidate_jobs(uow, release)
    version = uow.get(DatasetVersion, str(train.version_id))
    dataset = uow.get(Dataset, release.dataset_id)
    position = journal.position(uow.session)
    return {
        "dataset": version.manifest_digest if version else None,
        "generator": train.result["digest"],
        "samples": sample.result["digest"],
        "report": audit.result["digest"],
        "verdict": audit.result["verdict"],
        "tier": audit.payload["tier"],
        "policy": train.payload["policy_digest"],
        "policy_in_force": policy_in_force(uow, release.tenant_id).digest,
        "commitment": train.payload["commitment"],
        "terms": hashlib.sha256(release.terms.encode()).hexdigest(),
        "declared": hashlib.sha256(rfc8785.dumps(release.declared or {})).hexdigest(),
        "account": account_position(uow, dataset.cohort_id) if dataset else None,
        **study_evidence.evidence_of(uow, audit.id),
        "ledger": {"seq": position.seq, "digest": position.digest},
    }
