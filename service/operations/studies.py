"""Plan a reader study, lock it, have it agreed to, draw its cases. The readers' side is `study_reading`.

The order is the point: plan locked, two auditors agree, cases drawn and locked, readers invited, study
closed, results. No answer exists before the first three, and nobody sees one before the last.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from privacy.errors import InvalidParameter
from privacy.reader_equivalence import check_wording
from service.domain import permissions, study_permissions
from service.domain.accounts import SYSTEM, Actor, Role
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import Conflict, IllegalTransition, InputRefused
from service.domain.identifiers import new_id
from service.domain.jobs import TERMINAL, Job, JobKind, JobState
from service.domain.studies import (
    CONSENTS_NEEDED,
    REAL,
    Study,
    StudyCase,
    StudyConsent,
    StudyPlan,
    StudyReader,
    StudyState,
)
from service.domain.trail import TrailEvent
from service.operations import fencing, notifying, study_interests
from service.operations.queueing import check_quota, queue_job
from service.operations.withdrawals import check_usable
from service.store import study_tables
from service.store.objects import Bucket
from service.store.pages import Page, fetch_page
from service.store.unit_of_work import UnitOfWork

_studies = study_tables.reader_studies
_NAME_LIMIT = 200


@dataclass(frozen=True)
class StudyView:
    """A study as insiders see it. `real_cases` is known once the cases are drawn."""

    study: Study
    plan: StudyPlan
    consents: Sequence[StudyConsent]
    readers: Sequence[StudyReader]
    real_cases: int
    job: Job | None

    @property
    def has_failed(self) -> bool:
        """Tell whether drawing the cases ended without them."""
        return (
            self.study.state is StudyState.PREPARING
            and self.job is not None
            and self.job.state in TERMINAL
        )


def create_study(
    uow: UnitOfWork, actor: Actor, *, audit_job_id: str, name: str, plan: dict[str, Any]
) -> Study:
    """Draft a study of an audited candidate; `plan` holds the fields of `StudyPlan` but its seed.

    Raises: InputRefused, NotFound, PermissionDenied.
    """
    study_permissions.check_may_plan_study(actor)
    audit, sample = _candidate(uow, actor, audit_job_id)
    name = _checked_name(name)
    study = Study(
        id=new_id("stu"),
        tenant_id=actor.tenant_id,
        dataset_id=audit.dataset_id,
        audit_job_id=audit.id,
        name=name,
        plan=_checked_plan(plan, samples=str(sample.result["digest"])),
        created_by=actor.user_id,
        created_at=uow.now(),
    )
    uow.session.add(study)
    uow.trail(actor, TrailEvent.STUDY_CREATE, study.id, audit=audit.id)
    return study


def revise_study(
    uow: UnitOfWork, actor: Actor, *, study_id: str, name: str, plan: dict[str, Any]
) -> Study:
    """Change a draft.  Raises: IllegalTransition once the plan is locked."""
    study = _mine(uow, actor, study_id)
    if study.state is not StudyState.DRAFT:
        raise _too_late("Changing the plan", study)
    study.name = _checked_name(name)
    study.plan = _checked_plan(plan, samples=study.plan["samples"])
    uow.trail(actor, TrailEvent.STUDY_REVISE, study.id)
    return study


def register_study(uow: UnitOfWork, actor: Actor, *, study_id: str) -> Study:
    """Lock the plan by its digest and ask auditors for their consent."""
    study = _mine(uow, actor, study_id)
    if study.state is not StudyState.DRAFT:
        raise _too_late("Locking the plan", study)
    audit, _ = _candidate(uow, actor, study.audit_job_id)
    _check_data(uow, audit, what="Locking the plan")
    study.plan_digest = study.design.digest()
    study.registered_at = uow.now()
    study.move_to(StudyState.REGISTERED)
    # The plan holds nothing private, so the trail shows the digest that later pages name.
    uow.trail(actor, TrailEvent.STUDY_REGISTER, study.id, commitment=study.plan_digest)
    notifying.notify(
        uow,
        to=[
            user_id
            for user_id in notifying.users_with_role(uow, study.tenant_id, Role.AUDITOR)
            if study_interests.interest_of(uow, user_id, study) is None
        ],
        kind="study.consent_wanted",
        subject=f"Reader study {study.name}: consent wanted",
        text="Readers will see real records of held-out persons. Two auditors must agree first.",
        link=f"/studies/{study.id}",
    )
    return study


def consent_to_study(uow: UnitOfWork, actor: Actor, *, study_id: str, plan_digest: str) -> Study:
    """Agree, as an auditor, that held-out real records are shown; the second consent starts drawing.

    `plan_digest` is what the auditor has read.  Raises: Conflict, PermissionDenied.
    """
    study = study_permissions.check_may_consent(
        actor, uow.get(Study, study_id, lock=True), asked=study_id
    )
    study_interests.check_uninvolved(uow, actor, study)
    if study.state is not StudyState.REGISTERED:
        raise _too_late("The consent", study)
    if plan_digest != study.plan_digest:
        raise Conflict(
            "The consent was refused: it names another plan than the locked one. Read it again."
        )
    given = _consents(uow, study)
    if any(consent.auditor_id == actor.user_id for consent in given):
        raise Conflict("The consent was refused: you have given it already.")
    uow.session.add(StudyConsent(study.id, actor.user_id, plan_digest, uow.now()))
    uow.trail(actor, TrailEvent.STUDY_CONSENT, study.id, commitment=plan_digest)
    if len(given) + 1 >= CONSENTS_NEEDED:
        _queue_drawing(uow, actor, study)
    return study


def draw_again(uow: UnitOfWork, actor: Actor, *, study_id: str) -> Study:
    """Queue the drawing once more after it failed; the consents stand."""
    study = _mine(uow, actor, study_id)
    job = uow.get(Job, study.job_id) if study.job_id else None
    if study.state is not StudyState.PREPARING or job is None or job.state not in TERMINAL:
        raise _too_late("Drawing the cases again", study)
    study.move_to(StudyState.REGISTERED)
    uow.trail(actor, TrailEvent.STUDY_PREPARATION_FAIL, study.id, job=job.id)
    _queue_drawing(uow, actor, study)
    return study


def lock_cases(
    uow: UnitOfWork, job_id: str, *, token: str, cases: Sequence[StudyCase], digest: str
) -> Study:
    """Keep the cases that a worker drew, and open the study; repeating it changes nothing.

    Raises: LeaseLost; Conflict if the study was cancelled meanwhile.
    """
    job = fencing.check_token(uow, job_id, token=token)
    study = uow.get(Study, str(job.payload["study_id"]), lock=True)
    if study is not None and study.cases_digest is not None and study.job_id == job.id:
        return study  # an earlier attempt locked its own
    if study is None or study.state is not StudyState.PREPARING or study.job_id != job.id:
        raise Conflict("The cases were refused: nobody waits for them any more.")
    uow.session.add_all(cases)
    study.cases_digest = digest
    study.opened_at = uow.now()
    study.move_to(StudyState.OPEN)
    uow.trail(SYSTEM, TrailEvent.STUDY_LOCK_CASES, study.id, cases=digest, count=len(cases))
    notifying.notify(
        uow,
        to=[study.created_by, *(given.auditor_id for given in _consents(uow, study))],
        kind="study.open",
        subject=f"Reader study {study.name}: the cases are drawn",
        text="The case list is locked. An auditor invites the readers.",
        link=f"/studies/{study.id}",
    )
    return study


def cancel_study(uow: UnitOfWork, actor: Actor, *, study_id: str) -> Study:
    """End a study without a result: its pictures are deleted, its answers are never analysed."""
    study = _mine(uow, actor, study_id)
    study.move_to(StudyState.CANCELLED)
    uow.trail(actor, TrailEvent.STUDY_CANCEL, study.id)
    uow.commit()
    delete_pictures(uow, study)
    return study


def delete_pictures(uow: UnitOfWork, study: Study) -> None:
    """Delete the pictures of a study that is over: real records are kept no longer than needed."""
    if study.job_id is not None:
        uow.objects.delete_prefix(Bucket.WORK, f"candidate/{study.job_id}/")


def get_study(uow: UnitOfWork, actor: Actor, *, study_id: str) -> StudyView:
    """Return a study with its consents and readers, but no answers."""
    study = study_permissions.check_may_see_study(actor, uow.get(Study, study_id), asked=study_id)
    readers = study_tables.study_readers
    found = uow.session.execute(
        sa.select(StudyReader).where(readers.c.study_id == study.id).order_by(readers.c.id)
    ).scalars()
    cases = study_tables.study_cases
    real = sa.select(sa.func.count()).where(cases.c.study_id == study.id, cases.c.truth == REAL)
    return StudyView(
        study=study,
        plan=study.design,
        consents=_consents(uow, study),
        readers=list(found),
        real_cases=int(uow.session.execute(real).scalar_one()),
        job=uow.get(Job, study.job_id) if study.job_id else None,
    )


def list_studies(
    uow: UnitOfWork,
    actor: Actor,
    *,
    audit_job_id: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Study]:
    """Return the tenant's studies, newest first."""
    study_permissions.check_may_list_studies(actor)
    statement = sa.select(Study).where(_studies.c.tenant_id == actor.tenant_id)
    if audit_job_id is not None:
        statement = statement.where(_studies.c.audit_job_id == audit_job_id)
    return fetch_page(uow.session, statement, id_column=_studies.c.id, cursor=cursor, limit=limit)


def _queue_drawing(uow: UnitOfWork, actor: Actor, study: Study) -> None:
    audit = uow.get(Job, study.audit_job_id)
    if audit is None:
        raise Conflict("Drawing the cases was refused: the audit of this candidate is missing.")
    _check_data(uow, audit, what="Drawing the cases")
    check_quota(uow, study.tenant_id)
    job = queue_job(
        uow,
        actor,
        kind=JobKind.STUDY,
        tenant_id=study.tenant_id,
        dataset_id=study.dataset_id,
        version_id=audit.version_id,
        parent_id=audit.id,
        payload={
            "study_id": study.id,
            "plan_digest": study.plan_digest,
            "plan": study.plan,
            "train_job_id": audit.payload["train_job_id"],
            "sample_job_id": audit.payload["sample_job_id"],
        },
    )
    uow.session.flush()
    study.job_id = job.id
    study.move_to(StudyState.PREPARING)


def _candidate(uow: UnitOfWork, actor: Actor, audit_job_id: str) -> tuple[Job, Job]:
    audit = permissions.check_may_read_report(actor, uow.get(Job, audit_job_id), asked=audit_job_id)
    sample = uow.get(Job, str(audit.payload.get("sample_job_id")))
    is_finished = audit.kind is JobKind.AUDIT and audit.state is JobState.SUCCEEDED
    if not is_finished or sample is None:
        raise InputRefused(
            f"The study was refused: job {audit_job_id} is not a finished audit. "
            "Name the AUDIT job of the candidate.",
            value=audit_job_id,
        )
    dataset = uow.get(Dataset, audit.dataset_id)
    if dataset is not None:
        dataset.images(what="A reader study")
    return audit, sample


def _check_data(uow: UnitOfWork, audit: Job, *, what: str) -> None:
    version = uow.get(DatasetVersion, str(audit.version_id))
    if version is None or uow.get(Dataset, audit.dataset_id) is None:
        raise Conflict(f"{what} was refused: the data behind this candidate are missing.")
    check_usable(uow, version, what=what)


def _mine(uow: UnitOfWork, actor: Actor, study_id: str) -> Study:
    return study_permissions.check_may_change_study(
        actor, uow.get(Study, study_id, lock=True), asked=study_id
    )


def _consents(uow: UnitOfWork, study: Study) -> list[StudyConsent]:
    consents = study_tables.study_consents
    statement = sa.select(StudyConsent).where(consents.c.study_id == study.id)
    return list(uow.session.execute(statement.order_by(consents.c.at)).scalars())


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > _NAME_LIMIT or not name.isprintable():
        raise InputRefused(
            f"The study's name was refused: give 1 to {_NAME_LIMIT} printable characters.",
            limit=_NAME_LIMIT,
        )
    try:
        check_wording(name, None)
    except InvalidParameter as error:
        raise InputRefused(str(error)) from error
    return name


def _checked_plan(plan: dict[str, Any], *, samples: str) -> dict[str, Any]:
    try:
        # Not the owner's choice: an order that anybody chose could be chosen to suit.
        made = StudyPlan.model_validate({**plan, "samples": samples, "seed": secrets.token_hex(16)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "plan"
        raise InputRefused(
            f"The plan was refused: {where}: {first['msg']}.", field=where
        ) from error
    return made.model_dump(mode="json")


def _too_late(what: str, study: Study) -> IllegalTransition:
    return IllegalTransition(
        f"{what} was refused: study {study.id} is {study.state.value}.", state=study.state.value
    )


__all__ = [
    "StudyView",
    "cancel_study",
    "consent_to_study",
    "create_study",
    "delete_pictures",
    "draw_again",
    "get_study",
    "list_studies",
    "lock_cases",
    "register_study",
    "revise_study",
]
