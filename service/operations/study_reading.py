"""The readers' side of a study: a link that works once, a session that reaches one study, answers.

A reader is no user: no role, no API key, no tenant's page. The session's secret is looked up at every
step, so that it ends at once when the study closes, the reader is withdrawn, or the time is over. Every
picture that is shown is in the trail, as evidence is; truth and label never leave before the end.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from service.domain import study_permissions
from service.domain.accounts import Actor
from service.domain.datasets import DatasetVersion, VersionState
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
)
from service.domain.identifiers import new_id
from service.domain.jobs import Job
from service.domain.studies import (
    ANSWERING,
    INVITATION_DAYS,
    MOST_READERS,
    REAL,
    Phase,
    Study,
    StudyAnswer,
    StudyCase,
    StudyPlan,
    StudyReader,
    StudyState,
    reading_order,
    real_is_left,
    steps_of,
)
from service.domain.trail import TrailEvent
from service.operations import notifying, study_interests
from service.store import study_tables
from service.store.objects import Bucket, ObjectMissing
from service.store.unit_of_work import UnitOfWork

CONFIDENCES = range(1, 7)
SIDES = range(1, 3)
_NO_LINK = "The link was refused: unknown, used already, or expired. Ask for another one."
_NO_SESSION = "The reading was refused: this session has ended. Ask for another link to go on."
_readers = study_tables.study_readers
_cases = study_tables.study_cases


@dataclass(frozen=True)
class Step:
    """What a reader sees now. `cases` are one number, or two in a pair: left, right."""

    study: Study
    plan: StudyPlan
    reader: StudyReader
    cases: Sequence[int]
    total: int

    @property
    def choices(self) -> Sequence[tuple[int, str]]:
        """Return every answer that may be given, with its words."""
        if self.reader.phase is Phase.GRADING:
            return [(index, word) for index, word in enumerate(self.plan.scale)]
        if self.plan.has_pairs:
            return [(1, "The left one is real"), (2, "The right one is real")]
        return list(zip(CONFIDENCES, CONFIDENCE_WORDS, strict=True))


CONFIDENCE_WORDS = (
    "certainly synthetic",
    "probably synthetic",
    "rather synthetic",
    "rather real",
    "probably real",
    "certainly real",
)


def invite_reader(
    uow: UnitOfWork, actor: Actor, *, study_id: str, name: str, days: int = INVITATION_DAYS
) -> tuple[StudyReader, str]:
    """Invite a reader to an open study; return them with the link's secret, which is shown once."""
    study = _study_to_hand_out(uow, actor, study_id)
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InputRefused("The reader's name was refused: give 1 to 100 printable characters.")
    if not 1 <= days <= 90:
        raise InputRefused(f"An invitation of {days} days was refused: choose 1 to 90.", value=days)
    known = uow.session.execute(sa.select(_readers.c.name).where(_readers.c.study_id == study.id))
    names = {row.name for row in known}
    if name in names:
        raise Conflict(f"The study has a reader {name!r} already. Choose another name.")
    if len(names) >= MOST_READERS:
        raise Conflict(f"The invitation was refused: a study has {MOST_READERS} readers at most.")
    secret = secrets.token_urlsafe(32)
    reader = StudyReader(
        id=new_id("rdr"),
        study_id=study.id,
        name=name,
        invited_by=actor.user_id,
        invited_at=uow.now(),
        expires_at=uow.now() + timedelta(days=days),
        link_sha256=_hashed(secret),
    )
    uow.session.add(reader)
    uow.trail(actor, TrailEvent.STUDY_INVITE, study.id, reader=reader.id)
    return reader, secret


def renew_link(
    uow: UnitOfWork, actor: Actor, *, study_id: str, reader_id: str
) -> tuple[StudyReader, str]:
    """Give a reader a new link; the session of the old one ends, the answers stay."""
    study = _study_to_hand_out(uow, actor, study_id)
    reader = _reader_of(uow, study, reader_id)
    if reader.phase in {Phase.FINISHED, Phase.WITHDRAWN}:
        raise IllegalTransition(f"A new link was refused: this reader is {reader.phase.value}.")
    secret = secrets.token_urlsafe(32)
    reader.link_sha256, reader.session_sha256 = _hashed(secret), None
    reader.expires_at = uow.now() + timedelta(days=INVITATION_DAYS)
    uow.trail(actor, TrailEvent.STUDY_RENEW_LINK, study.id, reader=reader.id)
    return reader, secret


def withdraw_reader(uow: UnitOfWork, actor: Actor, *, study_id: str, reader_id: str) -> StudyReader:
    """End a reader's part; what they answered so far is analysed by the pre-registered rule."""
    study = _open_study(uow, actor, study_id)
    reader = _reader_of(uow, study, reader_id)
    reader.move_to(Phase.WITHDRAWN)
    reader.link_sha256 = reader.session_sha256 = None
    uow.trail(actor, TrailEvent.STUDY_WITHDRAW_READER, study.id, reader=reader.id)
    return reader


def find_link(uow: UnitOfWork, link: str) -> tuple[Study, StudyReader]:
    """Return whose link this is, without using it: mail programs open links before people do.

    Raises: PermissionDenied with one sentence, whatever is wrong with it.
    """
    reader = _by(uow, _readers.c.link_sha256, link)
    study = uow.get(Study, reader.study_id) if reader else None
    if reader is None or study is None or not _is_current(uow, study, reader):
        raise PermissionDenied(_NO_LINK)
    return study, reader


def join_study(uow: UnitOfWork, link: str) -> tuple[StudyReader, str]:
    """Use a link up; return the reader and the secret of the session that it opens."""
    study, found = find_link(uow, link)
    reader = uow.get(StudyReader, found.id, lock=True)
    if reader is None or reader.link_sha256 != _hashed(link):  # somebody was faster
        raise PermissionDenied(_NO_LINK)
    secret = secrets.token_urlsafe(32)
    reader.link_sha256, reader.session_sha256 = None, _hashed(secret)
    if reader.phase is Phase.INVITED:
        reader.joined_at = uow.now()
        reader.move_to(Phase.GRADING if study.design.has_grading else Phase.BETWEEN)
    uow.trail(_as_actor(study, reader), TrailEvent.STUDY_JOIN, study.id, reader=reader.id)
    return reader, secret


def current_step(uow: UnitOfWork, session: str) -> Step:
    """Return what the reader of a session sees now.  Raises: PermissionDenied."""
    study, reader = _session(uow, session)
    plan = study.design
    if reader.phase not in ANSWERING:
        return Step(study, plan, reader, (), 0)
    number = reading_order(plan, reader.id, reader.phase)[reader.position - 1]
    return Step(
        study,
        plan,
        reader,
        _shown_cases(uow, study, plan, reader, number),
        steps_of(plan, reader.phase),
    )


def start_clock(uow: UnitOfWork, session: str) -> Step:
    """Return the current step, and note when it was first shown; a break stops the clock."""
    step = current_step(uow, session)
    reader = uow.get(StudyReader, step.reader.id, lock=True)
    if reader is not None and reader.phase in ANSWERING and reader.shown_at is None:
        reader.shown_at = uow.now()
        uow.without_trail("when a page was shown is no act; the picture's view is recorded apart")
    return step


def view_case(uow: UnitOfWork, session: str, *, side: int) -> bytes:
    """Return a picture of the current step; the view is in the trail.

    `side` counts the step's cases from 1.  Raises: NotFound for any other picture.
    """
    step = current_step(uow, session)
    if not 1 <= side <= len(step.cases):
        raise NotFound("No such picture belongs to the case that you are reading.")
    number = step.cases[side - 1]
    case = uow.get(StudyCase, (step.study.id, number))
    if case is None or (case.truth == REAL and _is_erased(uow, step.study)):
        raise NotFound("The picture was erased: a person was withdrawn. Tell who invited you.")
    try:
        picture = uow.objects.get_bytes(Bucket.WORK, case.key, sha256=case.digest)
    except ObjectMissing as error:
        raise NotFound("The picture is gone. Tell who invited you.") from error
    uow.trail(
        _as_actor(step.study, step.reader),
        TrailEvent.STUDY_VIEW_CASE,
        step.study.id,
        reader=step.reader.id,
        phase=step.reader.phase.value,
        case=number,
    )
    return picture


def answer_step(
    uow: UnitOfWork, session: str, *, phase: str, position: int, value: int
) -> StudyReader:
    """Keep the answer to the current step and move on; it can never be changed afterwards.

    `phase` and `position` are those of the page that was answered.
    Raises: Conflict for an older page, InputRefused for an answer off the scale.
    """
    step = current_step(uow, session)
    reader = uow.get(StudyReader, step.reader.id, lock=True)
    if reader is None or reader.phase not in ANSWERING:
        raise IllegalTransition("The answer was refused: there is nothing to answer now.")
    if (phase, position) != (reader.phase.value, reader.position):
        raise Conflict(
            "The answer was refused: you have moved on from that case, and earlier answers stay as "
            "they are. Go on with the case that is shown now."
        )
    if value not in {choice for choice, _ in step.choices}:
        raise InputRefused("The answer was refused: choose one of those offered.", value=value)
    now = uow.now()
    uow.session.add(
        StudyAnswer(
            reader_id=reader.id,
            phase=reader.phase,
            position=reader.position,
            study_id=step.study.id,
            case_number=step.cases[0],
            other_number=step.cases[1] if len(step.cases) > 1 else None,
            value=value,
            seconds=(now - (reader.shown_at or now)).total_seconds(),
            at=now,
        )
    )
    uow.trail(
        _as_actor(step.study, reader),
        TrailEvent.STUDY_ANSWER,
        step.study.id,
        reader=reader.id,
        phase=phase,
        position=position,
    )
    _move_on(uow, step, reader)
    return reader


def begin_judging(uow: UnitOfWork, session: str) -> StudyReader:
    """Begin phase B; grading is closed for good."""
    study, found = _session(uow, session)
    reader = uow.get(StudyReader, found.id, lock=True)
    if reader is None:
        raise PermissionDenied(_NO_SESSION)
    reader.move_to(Phase.JUDGING)
    uow.trail(
        _as_actor(study, reader),
        TrailEvent.STUDY_BEGIN_PHASE,
        study.id,
        reader=reader.id,
        phase=reader.phase.value,
    )
    return reader


def take_break(uow: UnitOfWork, session: str) -> StudyReader:
    """Stop the clock of the current case until its page is shown again."""
    study, found = _session(uow, session)
    reader = uow.get(StudyReader, found.id, lock=True)
    if reader is None:
        raise PermissionDenied(_NO_SESSION)
    reader.shown_at = None
    reader.breaks += 1
    uow.trail(_as_actor(study, reader), TrailEvent.STUDY_BREAK, study.id, reader=reader.id)
    return reader


def _move_on(uow: UnitOfWork, step: Step, reader: StudyReader) -> None:
    if reader.position < step.total:
        reader.position += 1
        reader.shown_at = None
        return
    if reader.phase is Phase.GRADING:
        reader.move_to(Phase.BETWEEN)
        return
    reader.move_to(Phase.FINISHED)
    reader.finished_at = uow.now()
    notifying.notify(
        uow,
        to=[step.study.created_by],
        kind="study.reader_finished",
        subject=f"Reader study {step.study.name}: a reader has finished",
        text=f"{reader.name} has answered every case.",
        link=f"/studies/{step.study.id}",
    )


def _shown_cases(
    uow: UnitOfWork, study: Study, plan: StudyPlan, reader: StudyReader, number: int
) -> tuple[int, ...]:
    if reader.phase is Phase.GRADING or not plan.has_pairs:
        return (number,)
    statement = sa.select(_cases.c.truth, _cases.c.number).where(
        _cases.c.study_id == study.id, _cases.c.pair == number
    )
    by_truth = {row.truth: int(row.number) for row in uow.session.execute(statement)}
    pair = sorted(by_truth.items(), key=lambda item: item[0] != REAL)  # the real one first
    left_first = real_is_left(plan, reader.id, number)
    return tuple(found for _, found in (pair if left_first else reversed(pair)))


def _session(uow: UnitOfWork, session: str) -> tuple[Study, StudyReader]:
    reader = _by(uow, _readers.c.session_sha256, session)
    study = uow.get(Study, reader.study_id) if reader else None
    if reader is None or study is None or not _is_current(uow, study, reader):
        raise PermissionDenied(_NO_SESSION)
    return study, reader


def _is_current(uow: UnitOfWork, study: Study, reader: StudyReader) -> bool:
    return (
        study.state is StudyState.OPEN
        and reader.expires_at > uow.now()
        and reader.phase is not Phase.WITHDRAWN
    )


def _is_erased(uow: UnitOfWork, study: Study) -> bool:
    job = uow.get(Job, str(study.job_id))
    version = uow.get(DatasetVersion, str(job.version_id)) if job else None
    return version is None or version.state is VersionState.ERASED


def _by(uow: UnitOfWork, column: sa.Column[str], secret: str) -> StudyReader | None:
    statement = sa.select(StudyReader).where(column == _hashed(secret))
    return uow.session.execute(statement).scalars().first()


def _study_to_hand_out(uow: UnitOfWork, actor: Actor, study_id: str) -> Study:
    study = study_permissions.check_may_hand_out_links(
        actor, uow.get(Study, study_id, lock=True), asked=study_id
    )
    study_interests.check_uninvolved(uow, actor, study, what="Inviting readers")
    return _checked_open(study)


def _open_study(uow: UnitOfWork, actor: Actor, study_id: str) -> Study:
    study = study_permissions.check_may_change_study(
        actor, uow.get(Study, study_id, lock=True), asked=study_id
    )
    return _checked_open(study)


def _checked_open(study: Study) -> Study:
    if study.state is not StudyState.OPEN:
        raise IllegalTransition(
            f"The change of readers was refused: study {study.id} is {study.state.value}. Readers "
            "are invited once the case list is locked, until the study is closed.",
            state=study.state.value,
        )
    return study


def _reader_of(uow: UnitOfWork, study: Study, reader_id: str) -> StudyReader:
    reader = uow.get(StudyReader, reader_id, lock=True)
    if reader is None or reader.study_id != study.id:
        raise NotFound(f"No reader {reader_id!r} of this study was found. Check the identifier.")
    return reader


def _as_actor(study: Study, reader: StudyReader) -> Actor:
    return Actor(user_id=reader.id, tenant_id=study.tenant_id, scopes=frozenset(), name=reader.name)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
