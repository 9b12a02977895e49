"""Reader studies: JSON in, operation, JSON out. Readers themselves use no API, only their link."""

from flask import Response, url_for
from pydantic import BaseModel

from privacy.reader_equivalence import Design, cases_needed, power
from service import study_resources as r
from service.api.answers import ListQuery, answer, answer_page
from service.api.auth import actor, make_blueprint
from service.domain import study_permissions
from service.domain.studies import Study, StudyReader
from service.operations import studies, study_reading, study_results
from service.resources import Identifier
from service.store.unit_of_work import UnitOfWork
from service.web import application

blueprint = make_blueprint("studies", about="Whether readers can tell synthetic from real.")


class StudyPath(BaseModel):
    """A reader study."""

    study_id: Identifier


class ReaderPath(StudyPath):
    """A reader of a study."""

    reader_id: Identifier


class StudyQuery(ListQuery):
    """Which studies."""

    audit_job_id: Identifier | None = None


@blueprint.post("/studies", summary="Draft a reader study", responses={201: r.Study})
def create_study(body: r.NewStudy) -> Response:
    """Draft a study of an audited candidate."""
    with application().uow() as uow:
        study = studies.create_study(
            uow,
            actor(),
            audit_job_id=body.audit_job_id,
            name=body.name,
            plan=body.plan.model_dump(),
        )
    return answer(_view(study.id), status=201, headers={"Location": f"/v1/studies/{study.id}"})


@blueprint.get("/studies", summary="List reader studies", responses={200: r.StudyPage})
def list_studies(query: StudyQuery) -> Response:
    """List the tenant's studies, newest first."""
    with application().uow(read_only=True) as uow:
        page = studies.list_studies(
            uow, actor(), audit_job_id=query.audit_job_id, cursor=query.cursor, limit=query.limit
        )
        return answer_page(r.StudyPage, page, _line)


@blueprint.post("/studies/power", summary="What a study can show", responses={200: r.StudyPower})
def study_power(body: r.NewPowerQuestion) -> Response:
    """Return the chance to show equivalence if readers guess, and the cases that 80 % would take."""
    study_permissions.check_may_list_studies(actor())
    design = Design(body.readers, body.cases_per_class, body.case_sd, body.reader_sd)
    return answer(
        r.StudyPower(
            power=power(design, margin=body.margin, alpha=body.alpha),
            standard_error=design.expected().standard_error,
            cases_per_class_for_80_percent=cases_needed(
                design, margin=body.margin, alpha=body.alpha
            ),
        )
    )


@blueprint.get("/studies/<string:study_id>", summary="A reader study", responses={200: r.Study})
def get_study(path: StudyPath) -> Response:
    """Show a study, its consents and how far its readers are."""
    return answer(_view(path.study_id))


@blueprint.put("/studies/<string:study_id>", summary="Change a draft", responses={200: r.Study})
def revise_study(path: StudyPath, body: r.NewStudyDraft) -> Response:
    """Replace name and plan of a study that is not locked yet."""
    with application().uow() as uow:
        studies.revise_study(
            uow, actor(), study_id=path.study_id, name=body.name, plan=body.plan.model_dump()
        )
    return answer(_view(path.study_id))


@blueprint.post(
    "/studies/<string:study_id>/register", summary="Lock the plan", responses={200: r.Study}
)
def register_study(path: StudyPath) -> Response:
    """Lock the plan by its digest; auditors are asked for their consent."""
    with application().uow() as uow:
        studies.register_study(uow, actor(), study_id=path.study_id)
    return answer(_view(path.study_id))


@blueprint.post("/studies/<string:study_id>/consents", summary="Consent", responses={200: r.Study})
def consent_to_study(path: StudyPath, body: r.NewConsent) -> Response:
    """Agree that held-out real records are shown; the second consent starts the drawing."""
    with application().uow() as uow:
        studies.consent_to_study(uow, actor(), study_id=path.study_id, plan_digest=body.plan_digest)
    return answer(_view(path.study_id))


@blueprint.post(
    "/studies/<string:study_id>/draw-again", summary="Draw again", responses={200: r.Study}
)
def draw_again(path: StudyPath) -> Response:
    """Queue the drawing of the cases once more after it failed."""
    with application().uow() as uow:
        studies.draw_again(uow, actor(), study_id=path.study_id)
    return answer(_view(path.study_id))


@blueprint.post(
    "/studies/<string:study_id>/readers",
    summary="Invite a reader",
    responses={201: r.StudyInvitation},
)
def invite_reader(path: StudyPath, body: r.NewReader) -> Response:
    """Invite a reader; the link works once and is shown this once."""
    with application().uow() as uow:
        reader, secret = study_reading.invite_reader(
            uow, actor(), study_id=path.study_id, name=body.name, days=body.days
        )
    return answer(_invitation(reader, secret), status=201)


@blueprint.post(
    "/studies/<string:study_id>/readers/<string:reader_id>/link",
    summary="A new link",
    responses={200: r.StudyInvitation},
)
def renew_link(path: ReaderPath) -> Response:
    """Give a reader a new link; the session of the old one ends, the answers stay."""
    with application().uow() as uow:
        reader, secret = study_reading.renew_link(
            uow, actor(), study_id=path.study_id, reader_id=path.reader_id
        )
    return answer(_invitation(reader, secret))


@blueprint.delete(
    "/studies/<string:study_id>/readers/<string:reader_id>",
    summary="End a reader's part",
    responses={200: r.StudyReader},
)
def withdraw_reader(path: ReaderPath) -> Response:
    """End a reader's part; their answers fall under the registered exclusion rule."""
    with application().uow() as uow:
        reader = study_reading.withdraw_reader(
            uow, actor(), study_id=path.study_id, reader_id=path.reader_id
        )
    return answer(_reader(reader))


@blueprint.post("/studies/<string:study_id>/close", summary="Close", responses={200: r.Study})
def close_study(path: StudyPath) -> Response:
    """End the reading, analyse it once, and lock the result."""
    with application().uow() as uow:
        study_results.close_study(uow, actor(), study_id=path.study_id)
    return answer(_view(path.study_id))


@blueprint.post("/studies/<string:study_id>/cancel", summary="Cancel", responses={200: r.Study})
def cancel_study(path: StudyPath) -> Response:
    """End a study without a result."""
    with application().uow() as uow:
        studies.cancel_study(uow, actor(), study_id=path.study_id)
    return answer(_view(path.study_id))


@blueprint.get(
    "/studies/<string:study_id>/result", summary="The result", responses={200: r.StudyResult}
)
def get_result(path: StudyPath) -> Response:
    """Return the result of a closed study; reading it is recorded."""
    with application().uow() as uow:
        found = study_results.read_result(uow, actor(), study_id=path.study_id)
        digest = studies.get_study(uow, actor(), study_id=path.study_id).study.result_digest
    return answer(r.StudyResult(result=found, digest=str(digest)))


def _view(study_id: str) -> r.Study:
    with application().uow(read_only=True) as uow:
        return _study(uow, study_id)


def _study(uow: UnitOfWork, study_id: str) -> r.Study:
    found = studies.get_study(uow, actor(), study_id=study_id)
    study = found.study
    return r.Study(
        **_line(study).model_dump(),
        dataset_id=study.dataset_id,
        plan=study.plan,
        plan_digest=study.plan_digest,
        registered_at=study.registered_at,
        opened_at=study.opened_at,
        closed_at=study.closed_at,
        job_id=study.job_id,
        consents=[
            r.StudyConsent(auditor_id=given.auditor_id, at=given.at) for given in found.consents
        ],
        readers=[_reader(reader) for reader in found.readers],
    )


def _line(study: Study) -> r.StudyLine:
    return r.StudyLine(
        id=study.id,
        name=study.name,
        state=study.state.value,
        audit_job_id=study.audit_job_id,
        created_at=study.created_at,
        result_digest=study.result_digest,
    )


def _reader(reader: StudyReader) -> r.StudyReader:
    return r.StudyReader(
        id=reader.id,
        name=reader.name,
        phase=reader.phase.value,
        position=reader.position,
        invited_at=reader.invited_at,
        expires_at=reader.expires_at,
        finished_at=reader.finished_at,
    )


def _invitation(reader: StudyReader, secret: str) -> r.StudyInvitation:
    base = application().settings.public_url.rstrip("/")
    path = url_for("reading.show_link", link=secret)
    return r.StudyInvitation(reader=_reader(reader), link=base + path)
