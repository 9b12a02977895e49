"""What a release's reviewers are shown of its candidate's reader studies, and where one is demanded."""

import math
from typing import Any

import sqlalchemy as sa

from service.domain.errors import Conflict
from service.domain.studies import Study, StudyState
from service.store import study_tables
from service.store.unit_of_work import UnitOfWork

_studies = study_tables.reader_studies


def studies_of(uow: UnitOfWork, audit_job_id: str) -> list[Study]:
    """Return every study of a candidate, oldest first: one that came out badly cannot hide."""
    statement = sa.select(Study).where(_studies.c.audit_job_id == audit_job_id)
    return list(uow.session.execute(statement.order_by(_studies.c.id)).scalars())


def result_of(uow: UnitOfWork, audit_job_id: str) -> dict[str, Any] | None:
    """Return what a review page shows of a candidate's reader study, or None without a closed one.

    The *first* closed study counts, whatever later ones say; how many there were is told. Called after
    the caller has checked that its actor may see the candidate.
    """
    studies = studies_of(uow, audit_job_id)
    closed = [study for study in studies if study.state is StudyState.CLOSED]
    if not closed:
        return None
    first = min(closed, key=_closed_first)
    return {
        "study_id": first.id,
        "name": first.name,
        "digest": first.result_digest,
        "plan_digest": first.plan_digest,
        "closed_at": first.closed_at.isoformat() if first.closed_at else None,
        "studies_started": sum(study.state is not StudyState.DRAFT for study in studies),
        **first.summary,
    }


def evidence_of(uow: UnitOfWork, audit_job_id: str) -> dict[str, Any]:
    """Return what a release's frozen evidence names: the result's digest, or nothing."""
    found = result_of(uow, audit_job_id)
    return {} if found is None else {"reader_study": found["digest"]}


def check_requirement(uow: UnitOfWork, *, audit_job_id: str, tier: str, what: str) -> None:
    """Refuse a candidate without a closed study where its tier needs one; what it found is not judged.

    Raises: Conflict.
    """
    if not is_required(uow, tier) or result_of(uow, audit_job_id) is not None:
        return
    raise Conflict(
        f"{what} was refused: this instance wants a closed reader study for releases of tier "
        f"{tier!r}, and this candidate has none. Plan one from its audit, or choose another tier.",
        tier=tier,
    )


def is_required(uow: UnitOfWork, tier: str) -> bool:
    """Tell whether the operator demands a reader study of a tier's releases."""
    return tier in {word.strip() for word in uow.settings.reader_study_tiers.split(",")}


def _closed_first(study: Study) -> tuple[float, str]:
    """Sort by the moment of closing: a study begun early and kept back must not come first."""
    return (study.closed_at.timestamp() if study.closed_at else math.inf, study.id)
