"""Reader study: its plan, its states, who reads in which order. No clock, no database, no statistics.

Phase A grades cases and does not say that some are synthetic; phase B asks which are. Nobody goes back
from B to A. Everything that could be chosen to suit the answers is fixed and digested before the first.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from privacy.documents import Document
from service.domain.errors import IllegalTransition

CONSENTS_NEEDED = 2
"""Auditors who agree that real records are shown to readers."""
MOST_READERS = 100
INVITATION_DAYS = 21


class StudyState(StrEnum):
    """Where a study stands."""

    DRAFT = "draft"
    REGISTERED = "registered"  # the plan is locked; auditors may consent
    PREPARING = "preparing"  # a worker draws the cases
    OPEN = "open"  # the case list is locked; readers answer
    CLOSED = "closed"  # results are there, and nothing changes any more
    CANCELLED = "cancelled"


STUDY_TRANSITIONS: dict[StudyState, frozenset[StudyState]] = {
    StudyState.DRAFT: frozenset({StudyState.REGISTERED, StudyState.CANCELLED}),
    StudyState.REGISTERED: frozenset({StudyState.PREPARING, StudyState.CANCELLED}),
    StudyState.PREPARING: frozenset({StudyState.OPEN, StudyState.REGISTERED, StudyState.CANCELLED}),
    StudyState.OPEN: frozenset({StudyState.CLOSED, StudyState.CANCELLED}),
    StudyState.CLOSED: frozenset(),
    StudyState.CANCELLED: frozenset(),
}
"""PREPARING -> REGISTERED is a job that failed: the plan stands, drawing may be tried again."""


class Phase(StrEnum):
    """Where a reader is. There is no way back."""

    INVITED = "invited"
    GRADING = "grading"  # phase A
    BETWEEN = "between"  # told what phase B is about
    JUDGING = "judging"  # phase B
    FINISHED = "finished"
    WITHDRAWN = "withdrawn"


PHASES: dict[Phase, frozenset[Phase]] = {
    Phase.INVITED: frozenset({Phase.GRADING, Phase.BETWEEN, Phase.WITHDRAWN}),
    Phase.GRADING: frozenset({Phase.BETWEEN, Phase.WITHDRAWN}),
    Phase.BETWEEN: frozenset({Phase.JUDGING, Phase.WITHDRAWN}),
    Phase.JUDGING: frozenset({Phase.FINISHED, Phase.WITHDRAWN}),
    Phase.FINISHED: frozenset(),
    Phase.WITHDRAWN: frozenset(),
}
"""INVITED -> BETWEEN is a study without grading."""

ANSWERING = frozenset({Phase.GRADING, Phase.JUDGING})
REAL, SYNTHETIC = "real", "synthetic"

Grade = Annotated[str, Field(min_length=1, max_length=64)]


class StudyPlan(Document):
    """The pre-registration: what is asked, of how many, and what will count as an answer."""

    kind: Literal["study_plan"] = "study_plan"
    schema_version: int = 1
    samples: str = Field(description="digest of the synthetic set that cases are drawn from")
    question: str = Field(min_length=1, max_length=500)
    endpoint: Literal["area_under_roc", "pairs_correct"] = Field(
        default="area_under_roc",
        description="from confidence 1-6 in single cases, or from pairs of which one is real",
    )
    margin: float = Field(
        default=0.1, gt=0, le=0.2, description="equivalence: .5 plus or minus this"
    )
    alpha: float = Field(default=0.05, gt=0, le=0.1)
    readers: int = Field(default=5, ge=2, le=MOST_READERS)
    cases_per_class: int = Field(default=30, ge=4, le=300)
    scale: tuple[Grade, ...] = Field(
        default=(), max_length=9, description="grades of phase A, lowest first; none: no phase A"
    )
    grading_question: str = Field(default="Which grade?", min_length=1, max_length=200)
    scale_is_the_label: bool = Field(
        default=False, description="grades are the declared labels, so agreement with them counts"
    )
    least_seconds: float = Field(
        default=0.5, ge=0, le=60, description="answers that came faster are left out"
    )
    least_share: float = Field(
        default=0.8, ge=0.5, le=1, description="readers who judged a smaller share are left out"
    )
    matched_labels: bool = Field(
        default=True, description="for each real case a synthetic one of the same label"
    )
    seed: str = Field(pattern=r"^[0-9a-f]{32}$", description="of every reader's own order")

    @model_validator(mode="after")
    def _scale_is_a_scale(self) -> Self:
        """Refuse a scale of one grade, or with a grade twice."""
        if len(self.scale) == 1 or len(set(self.scale)) != len(self.scale):
            raise ValueError("a scale needs two grades or more, each once; or none for no grading")
        return self

    @property
    def has_grading(self) -> bool:
        """Tell whether there is a phase A."""
        return bool(self.scale)

    @property
    def has_pairs(self) -> bool:
        """Tell whether phase B shows pairs."""
        return self.endpoint == "pairs_correct"


@dataclass(eq=False)
class Study:
    """One study of one candidate. `plan` is the locked document once `plan_digest` is set."""

    id: str
    tenant_id: str
    dataset_id: str
    audit_job_id: str
    name: str
    plan: dict[str, Any]
    created_by: str
    created_at: datetime
    state: StudyState = StudyState.DRAFT
    plan_digest: str | None = None
    registered_at: datetime | None = None
    job_id: str | None = None
    cases_digest: str | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    result_digest: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    revision: int = 1

    @property
    def design(self) -> StudyPlan:
        """Return the plan as a document."""
        return StudyPlan.model_validate(self.plan)

    @property
    def result_key(self) -> str:
        """Return where the result lies in the work bucket: its name is its digest."""
        return f"studies/{self.id}/{self.result_digest}.json"

    def move_to(self, state: StudyState) -> None:
        """Change the state; the only writer of `state`."""
        if state not in STUDY_TRANSITIONS[self.state]:
            onward = ", ".join(sorted(STUDY_TRANSITIONS[self.state])) or "nothing"
            raise IllegalTransition(
                f"Study {self.id} is {self.state}; it cannot become {state}. "
                f"From here it may become: {onward}.",
                state=self.state.value,
            )
        self.state = state


@dataclass(eq=False)
class StudyCase:
    """One picture of a study. `pair` joins one real and one synthetic case."""

    study_id: str
    number: int
    truth: str
    label: int
    pair: int
    digest: str
    key: str


@dataclass(eq=False)
class StudyConsent:
    """An auditor agrees that the real cases of one plan may be shown to its readers."""

    study_id: str
    auditor_id: str
    plan_digest: str
    at: datetime


@dataclass(eq=False)
class StudyReader:
    """An invited reader: an account for this study alone. Both secrets are kept as SHA-256 only."""

    id: str
    study_id: str
    name: str
    invited_by: str
    invited_at: datetime
    expires_at: datetime
    link_sha256: str | None
    session_sha256: str | None = None
    phase: Phase = Phase.INVITED
    position: int = 0
    shown_at: datetime | None = None
    joined_at: datetime | None = None
    finished_at: datetime | None = None
    breaks: int = 0
    revision: int = 1

    def move_to(self, phase: Phase) -> None:
        """Change the phase; the only writer of `phase`."""
        if phase not in PHASES[self.phase]:
            raise IllegalTransition(
                f"The step was refused: this reader is {self.phase.value}, and no way leads from "
                f"there to {phase.value}. Nobody goes back to an earlier part of a study.",
                phase=self.phase.value,
            )
        self.phase = phase
        self.position = 1 if phase in ANSWERING else 0
        self.shown_at = None


@dataclass(eq=False)
class StudyAnswer:
    """One answer: grade index, confidence 1-6, or the side (1 left, 2 right) that is called real."""

    reader_id: str
    phase: Phase
    position: int
    study_id: str
    case_number: int
    other_number: int | None
    value: int
    seconds: float
    at: datetime


def reading_order(plan: StudyPlan, reader_id: str, phase: Phase) -> list[int]:
    """Return the case numbers, or in phase B of a study of pairs the pairs, as this reader meets them.

    A keyed hash of each number, so that the order is every reader's own and can be checked later.
    """
    singles = phase is Phase.GRADING or not plan.has_pairs
    count = plan.cases_per_class * (2 if singles else 1)
    return sorted(
        range(1, count + 1),
        key=lambda number: _keyed(plan.seed, reader_id, phase.value, str(number)),
    )


def real_is_left(plan: StudyPlan, reader_id: str, pair: int) -> bool:
    """Tell on which side a reader sees the real case of a pair."""
    return bool(_keyed(plan.seed, reader_id, "side", str(pair))[0] & 1)


def steps_of(plan: StudyPlan, phase: Phase) -> int:
    """Return how many answers a phase asks for."""
    if phase is Phase.GRADING:
        return 2 * plan.cases_per_class if plan.has_grading else 0
    return plan.cases_per_class * (1 if plan.has_pairs else 2)


def _keyed(*words: str) -> bytes:
    return hashlib.sha256("/".join(words).encode()).digest()
