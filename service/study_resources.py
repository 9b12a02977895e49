"""The JSON of reader studies: request bodies and resources, for both ends of the HTTP border."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from service.resources import Body, Count, Identifier, Number, Resource

Grade = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
ReaderName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Sentence = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
EndpointName = Literal["area_under_roc", "pairs_correct"]


class NewStudyPlan(Body):
    """What is fixed before the first answer; the seed of the orders is the service's."""

    question: Sentence
    endpoint: EndpointName = "area_under_roc"
    margin: Number = Field(default=0.1, gt=0, le=0.2)
    alpha: Number = Field(default=0.05, gt=0, le=0.1)
    readers: Count = Field(default=5, ge=2, le=100)
    cases_per_class: Count = Field(default=30, ge=4, le=300)
    scale: list[Grade] = Field(default_factory=list, max_length=9)
    grading_question: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")] = (
        "Which grade?"
    )
    scale_is_the_label: bool = False
    least_seconds: Number = Field(default=0.5, ge=0, le=60)
    least_share: Number = Field(default=0.8, ge=0.5, le=1)
    matched_labels: bool = True


class NewStudy(Body):
    """A study of one audited candidate."""

    audit_job_id: Identifier
    name: ReaderName
    plan: NewStudyPlan


class NewStudyDraft(Body):
    """Another name and plan for a draft."""

    name: ReaderName
    plan: NewStudyPlan


class NewConsent(Body):
    """An auditor's consent to one plan, named by its digest."""

    plan_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class NewReader(Body):
    """An invitation."""

    name: ReaderName
    days: Count = Field(default=21, ge=1, le=90)


class NewPowerQuestion(Body):
    """How likely a study of this size shows equivalence, if readers do guess."""

    readers: Count = Field(ge=2, le=100)
    cases_per_class: Count = Field(ge=2, le=2000)
    margin: Number = Field(default=0.1, gt=0, le=0.2)
    alpha: Number = Field(default=0.05, gt=0, le=0.1)
    case_sd: Number = Field(default=0.5, ge=0, le=3)
    reader_sd: Number = Field(default=0.03, ge=0, le=0.3)


class StudyReader(Resource):
    """A reader and how far they are; never what they answered."""

    id: str
    name: str
    phase: str
    position: int
    invited_at: datetime
    expires_at: datetime
    finished_at: datetime | None


class StudyConsent(Resource):
    """Who agreed, and when."""

    auditor_id: str
    at: datetime


class Study(Resource):
    """A reader study without its answers."""

    id: str
    name: str
    state: str
    audit_job_id: str
    dataset_id: str
    plan: dict[str, Any]
    plan_digest: str | None
    created_at: datetime
    registered_at: datetime | None
    opened_at: datetime | None
    closed_at: datetime | None
    job_id: str | None
    result_digest: str | None
    consents: list[StudyConsent]
    readers: list[StudyReader]


class StudyLine(Resource):
    """A reader study in a list."""

    id: str
    name: str
    state: str
    audit_job_id: str
    created_at: datetime
    result_digest: str | None


class StudyPage(Resource):
    """Some studies."""

    items: list[StudyLine]
    next_cursor: str | None


class StudyInvitation(Resource):
    """An invited reader and the link, which is shown this once."""

    reader: StudyReader
    link: str


class StudyResult(Resource):
    """The result document of a closed study."""

    result: dict[str, Any]
    digest: str


class StudyPower(Resource):
    """What a study of this size can show."""

    power: float
    standard_error: float
    cases_per_class_for_80_percent: int | None
