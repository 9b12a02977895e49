"""Close a study: analyse once, store the result under its digest, show it to insiders from then on."""

import hashlib
import json
from typing import Any

import rfc8785
import sqlalchemy as sa

from privacy.errors import InvalidParameter
from service.domain import study_permissions
from service.domain.accounts import Actor, Role
from service.domain.errors import Conflict, IllegalTransition, NotFound
from service.domain.studies import Study, StudyAnswer, StudyCase, StudyReader, StudyState
from service.domain.trail import TrailEvent
from service.operations import notifying
from service.operations.studies import delete_pictures
from service.store import study_tables
from service.store.objects import Bucket, ObjectMissing
from service.store.unit_of_work import UnitOfWork
from service.study_analysis import analyse

_SUMMARY = ("conclusion", "sentences", "limits")


def close_study(uow: UnitOfWork, actor: Actor, *, study_id: str) -> Study:
    """End the reading, analyse it, and lock the result; its pictures are deleted.

    It happens once: nobody can look at results and then wait for more answers.
    Raises: Conflict if too few readers answered; IllegalTransition unless the study is open.
    """
    study = study_permissions.check_may_change_study(
        actor, uow.get(Study, study_id, lock=True), asked=study_id
    )
    if study.state is not StudyState.OPEN:
        raise IllegalTransition(
            f"Closing was refused: study {study.id} is {study.state.value}, not open.",
            state=study.state.value,
        )
    result = _result(uow, study)
    body = rfc8785.dumps(result)
    study.closed_at = uow.now()
    study.result_digest = hashlib.sha256(body).hexdigest()
    study.summary = {
        **{name: result[name] for name in _SUMMARY},
        "primary": result["primary"],
        "readers_analysed": result["counts"]["readers_analysed"],
    }
    study.move_to(StudyState.CLOSED)
    uow.objects.put_bytes(Bucket.WORK, study.result_key, body=body)
    uow.trail(actor, TrailEvent.STUDY_CLOSE, study.id, result=study.result_digest)
    notifying.notify(
        uow,
        to=[
            study.created_by,
            *notifying.users_with_role(uow, study.tenant_id, Role.AUDITOR),
        ],
        kind="study.closed",
        subject=f"Reader study {study.name}: closed",
        text="The result can be read.",
        link=f"/studies/{study.id}",
    )
    uow.commit()
    delete_pictures(uow, study)
    return study


def read_result(uow: UnitOfWork, actor: Actor, *, study_id: str) -> dict[str, Any]:
    """Return the result of a closed study, compared with its digest; the reading is in the trail."""
    study = study_permissions.check_may_read_result(actor, uow.get(Study, study_id), asked=study_id)
    try:
        body = uow.objects.get_bytes(Bucket.WORK, study.result_key, sha256=study.result_digest)
    except ObjectMissing as error:
        raise NotFound(f"The result of study {study_id!r} is missing from storage.") from error
    uow.trail(actor, TrailEvent.STUDY_READ_RESULT, study.id)
    found: dict[str, Any] = json.loads(body)
    return found


def _result(uow: UnitOfWork, study: Study) -> dict[str, Any]:
    cases, readers = study_tables.study_cases, study_tables.study_readers
    own_cases = sa.select(StudyCase).where(cases.c.study_id == study.id).order_by(cases.c.number)
    own_readers = sa.select(StudyReader).where(readers.c.study_id == study.id)
    own_answers = sa.select(StudyAnswer).where(study_tables.study_answers.c.study_id == study.id)
    try:
        found = analyse(
            study.design,
            cases=list(uow.session.execute(own_cases).scalars()),
            readers=[
                reader.id
                for reader in uow.session.execute(own_readers.order_by(readers.c.id)).scalars()
            ],
            answers=list(uow.session.execute(own_answers).scalars()),
        )
    except InvalidParameter as error:
        raise Conflict(f"Closing was refused. {error}") from error
    return {
        **found,
        "study_id": study.id,
        "audit_job_id": study.audit_job_id,
        "plan": study.plan,
        "plan_digest": study.plan_digest,
        "cases_digest": study.cases_digest,
    }
