"""A reader study from its plan to its result, on real components; the order of its steps is enforced."""

import secrets
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
)
from service.domain.jobs import Job
from service.domain.releases import ReleaseState
from service.domain.studies import (
    REAL,
    Phase,
    Study,
    StudyCase,
    StudyPlan,
    StudyState,
    reading_order,
)
from service.operations import (
    accounts,
    assigning,
    releases,
    studies,
    study_evidence,
    study_reading,
    study_results,
)
from service.store import journal
from service.store.objects import Bucket
from service.wiring import Application
from tests.components import ObjectStoreServer
from tests.databases import BOTH, fresh_database
from tests.factories import (
    Walk,
    copied_clock,
    running_application,
)
from tests.studies import (
    PLAN,
    answer,
    consented,
    drafted,
    joined,
    opened,
    read_all,
    registered,
    step,
)


@pytest.fixture(scope="module", params=BOTH)
def study_application(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    object_store: ObjectStoreServer,
) -> Iterator[Application]:
    """Yield one application of each database: each test brings a tenant of its own."""
    folder = tmp_path_factory.mktemp("studies")
    with (
        fresh_database(request.param, request) as url,
        running_application(folder, object_store, database_url=url) as app,
    ):
        yield app


@pytest.fixture
def walk(study_application: Application) -> Walk:
    return Walk(study_application)


def events(walk: Walk, study: Study) -> list[dict]:
    with walk.application.uow(read_only=True) as uow:
        return [row.document["body"] for row in journal.read_rows(uow.session, subject=study.id)]


def test_a_whole_study_ends_in_a_result_named_by_its_digest(walk: Walk) -> None:
    study = opened(walk)
    rng = np.random.default_rng(2)
    for name in ("Reader A", "Reader B"):
        session = joined(walk, study, name)
        read_all(walk, session, confidence=lambda _: int(rng.integers(1, 7)))
    with walk.application.uow() as uow:
        closed = study_results.close_study(uow, walk.owner, study_id=study.id)
    assert closed.state is StudyState.CLOSED
    with walk.application.uow() as uow:
        result = study_results.read_result(uow, walk.auditors[0], study_id=study.id)
        shown = study_evidence.result_of(uow, study.audit_job_id)
    assert result["plan_digest"] == study.plan_digest
    assert len(result["readers"]) == 2
    assert result["grading"]["all"]["krippendorff_alpha"] == pytest.approx(1)
    assert result["grading"]["all"]["mean_kappa_with_label"] == pytest.approx(1)
    assert result["conclusion"] == shown["conclusion"]
    assert shown["digest"] == closed.result_digest
    assert not list(
        walk.application.objects.list_keys(Bucket.WORK, f"candidate/{study.job_id}/case")
    )
    names = [body["event"] for body in events(walk, study)]
    order = ["study:register", "study:consent", "study:lock_cases", "study:answer", "study:close"]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)


def test_the_plan_is_locked_by_its_digest_and_can_no_longer_be_changed(walk: Walk) -> None:
    study = drafted(walk)
    with walk.application.uow() as uow:
        changed = studies.revise_study(
            uow, walk.owner, study_id=study.id, name="Readers", plan={**PLAN, "margin": 0.1}
        )
    assert changed.design.seed != study.plan["seed"]
    with walk.application.uow() as uow:
        locked = studies.register_study(uow, walk.owner, study_id=study.id)
    assert locked.plan_digest == StudyPlan.model_validate(locked.plan).digest()
    shown = next(body for body in events(walk, study) if body["event"] == "study:register")
    assert shown["details"]["commitment"] == locked.plan_digest
    with walk.application.uow() as uow, pytest.raises(IllegalTransition, match="is registered"):
        studies.revise_study(uow, walk.owner, study_id=study.id, name="x", plan=PLAN)


def test_a_plan_off_its_limits_is_refused_with_the_field(walk: Walk) -> None:
    audit = walk.audited(walk.version(walk.dataset()))
    wrong = [
        ({"margin": 0.4}, "margin"),
        ({"scale": ["0"]}, "two grades or more"),
        ({"seedd": "x"}, "seedd"),
        ({"readers": 1}, "readers"),
    ]
    for plan, sentence in wrong:
        with walk.application.uow() as uow, pytest.raises(InputRefused, match=sentence):
            studies.create_study(
                uow, walk.owner, audit_job_id=audit.id, name="n", plan={**PLAN, **plan}
            )
    with walk.application.uow() as uow, pytest.raises(InputRefused, match="Indistinguishab"):
        studies.create_study(
            uow, walk.owner, audit_job_id=audit.id, name="Indistinguishable knees", plan=PLAN
        )


def test_cases_are_drawn_only_after_two_auditors_agreed_to_the_locked_plan(walk: Walk) -> None:
    study = registered(walk)
    with walk.application.uow() as uow, pytest.raises(Conflict, match="names another plan"):
        studies.consent_to_study(uow, walk.auditors[0], study_id=study.id, plan_digest="0" * 64)
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="only an auditor"):
        studies.consent_to_study(
            uow, walk.owner, study_id=study.id, plan_digest=str(study.plan_digest)
        )
    once = consented(walk, study, by=(0,))
    assert once.state is StudyState.REGISTERED
    with walk.application.uow() as uow, pytest.raises(Conflict, match="given it already"):
        studies.consent_to_study(
            uow, walk.auditors[0], study_id=study.id, plan_digest=str(study.plan_digest)
        )
    twice = consented(walk, study, by=(1,))
    assert twice.state is StudyState.PREPARING
    with walk.application.uow(read_only=True) as uow:
        job = uow.get(Job, str(twice.job_id))
    assert job is not None
    assert job.payload["plan"] == study.plan


def with_roles(walk: Walk, *roles: Role, lab: str = "") -> Actor:
    with walk.application.uow() as uow:
        user = accounts.create_user(
            uow, BOOTSTRAP, tenant_id=walk.tenant_id, name=secrets.token_hex(4), roles=roles
        )
        user.lab = lab
        uow.session.flush()
        return accounts.load_actor(uow, user_id=user.id)


def test_whoever_had_a_hand_in_the_plan_does_not_consent_to_it(walk: Walk) -> None:
    both = with_roles(walk, Role.DATA_OWNER, Role.AUDITOR, lab="Knees")
    beside = with_roles(walk, Role.AUDITOR, lab="knees ")
    study = drafted(walk)
    with walk.application.uow() as uow:
        studies.revise_study(uow, both, study_id=study.id, name="Mine", plan=PLAN)
    with walk.application.uow() as uow:
        study = studies.register_study(uow, walk.owner, study_id=study.id)
    for who in (both, beside):
        with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="other auditors"):
            studies.consent_to_study(
                uow, who, study_id=study.id, plan_digest=str(study.plan_digest)
            )
    assert consented(walk, study).state is StudyState.PREPARING


def test_a_drawing_that_failed_may_be_tried_again(walk: Walk) -> None:
    study = consented(walk, registered(walk))
    with walk.application.uow() as uow, pytest.raises(IllegalTransition):
        studies.draw_again(uow, walk.owner, study_id=study.id)
    with walk.application.uow(read_only=True) as uow:
        job = uow.get(Job, str(study.job_id))
    assert job is not None
    token = walk.claim(job)
    from service.operations import jobs

    with walk.application.uow() as uow:
        jobs.fail_job(uow, job.id, token=token, problem={"detail": "too few held-out persons"})
    with walk.application.uow() as uow:
        again = studies.draw_again(uow, walk.owner, study_id=study.id)
    assert again.state is StudyState.PREPARING
    assert again.job_id != job.id


def test_a_link_works_once_and_a_new_one_ends_the_old_session(walk: Walk) -> None:
    study = opened(walk)
    with walk.application.uow() as uow:
        reader, link = study_reading.invite_reader(
            uow, walk.auditors[0], study_id=study.id, name="Reader A"
        )
    with walk.application.uow(read_only=True) as uow:
        study_reading.find_link(uow, link)  # looking does not use it up
    with walk.application.uow() as uow:
        _, session = study_reading.join_study(uow, link)
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="used already"):
        study_reading.join_study(uow, link)
    answer(walk, session, 1)
    with walk.application.uow() as uow:
        _, fresh = study_reading.renew_link(
            uow, walk.auditors[0], study_id=study.id, reader_id=reader.id
        )
    with pytest.raises(PermissionDenied, match="session has ended"):
        step(walk, session)
    with walk.application.uow() as uow:
        _, session = study_reading.join_study(uow, fresh)
    assert step(walk, session).reader.position == 2  # resumed, not begun again
    clock = walk.application.parts.clock
    walk.application = copied_clock(walk.application, lambda: clock() + timedelta(days=22))
    with pytest.raises(PermissionDenied, match="session has ended"):
        step(walk, session)


def test_no_link_passes_through_the_hands_of_whoever_wants_a_result(walk: Walk) -> None:
    study = opened(walk)
    with walk.application.uow() as uow:
        reader, _ = study_reading.invite_reader(
            uow, walk.auditors[0], study_id=study.id, name="Reader A"
        )
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="an auditor may"):
        study_reading.invite_reader(uow, walk.owner, study_id=study.id, name="Reader B")
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="an auditor may"):
        study_reading.renew_link(uow, walk.owner, study_id=study.id, reader_id=reader.id)
    with walk.application.uow() as uow:
        assigning.recuse(uow, walk.auditors[1], dataset_id=study.dataset_id, reason="My brother.")
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="stepped aside"):
        study_reading.renew_link(uow, walk.auditors[1], study_id=study.id, reader_id=reader.id)


def test_nobody_goes_back_from_judging_to_grading_or_changes_an_answer(walk: Walk) -> None:
    study = opened(walk)
    session = joined(walk, study)
    with walk.application.uow() as uow, pytest.raises(IllegalTransition, match="no way leads"):
        study_reading.begin_judging(uow, session)  # grading is not done
    answer(walk, session, 0)
    with walk.application.uow() as uow, pytest.raises(Conflict, match="you have moved on"):
        study_reading.answer_step(uow, session, phase="grading", position=1, value=1)
    with walk.application.uow() as uow, pytest.raises(InputRefused, match="one of those offered"):
        study_reading.answer_step(uow, session, phase="grading", position=2, value=5)
    while step(walk, session).reader.phase is Phase.GRADING:
        answer(walk, session, 0)
    with walk.application.uow() as uow:
        study_reading.begin_judging(uow, session)
    with walk.application.uow() as uow, pytest.raises(Conflict, match="you have moved on"):
        study_reading.answer_step(uow, session, phase="grading", position=8, value=0)


def test_every_picture_that_is_shown_is_in_the_trail_and_no_other_can_be_had(walk: Walk) -> None:
    study = opened(walk)
    session = joined(walk, study)
    number = step(walk, session).cases[0]
    with walk.application.uow() as uow:
        assert study_reading.view_case(uow, session, side=1) == f"picture {number}".encode()
    with walk.application.uow() as uow, pytest.raises(NotFound, match="No such picture"):
        study_reading.view_case(uow, session, side=2)
    views = [body for body in events(walk, study) if body["event"] == "study:view_case"]
    assert [(view["details"]["case"], view["details"]["phase"]) for view in views] == [
        (number, "grading")
    ]


def test_orders_are_each_readers_own_and_the_same_every_time() -> None:
    plan = StudyPlan(samples="0" * 64, question="q", seed="1" * 32, cases_per_class=20)
    one = reading_order(plan, "rdr_1", Phase.JUDGING)
    assert one == reading_order(plan, "rdr_1", Phase.JUDGING)
    assert one != reading_order(plan, "rdr_2", Phase.JUDGING)
    assert one != reading_order(plan, "rdr_1", Phase.GRADING)
    assert sorted(one) == list(range(1, 41))


def test_the_study_that_was_closed_first_counts_not_the_one_begun_first(walk: Walk) -> None:
    spare = opened(walk)
    tried = opened(walk, audit_job_id=spare.audit_job_id)
    for study in (tried, spare):
        for name in ("Reader A", "Reader B"):
            read_all(walk, joined(walk, study, name), confidence=lambda number: number % 5 + 1)
        with walk.application.uow() as uow:
            study_results.close_study(uow, walk.owner, study_id=study.id)
    with walk.application.uow(read_only=True) as uow:
        shown = study_evidence.result_of(uow, spare.audit_job_id)
    assert shown is not None
    assert shown["study_id"] == tried.id


def test_a_study_of_pairs_counts_the_side_on_which_the_real_one_was(walk: Walk) -> None:
    study = opened(walk, endpoint="pairs_correct", scale=[], scale_is_the_label=False)
    for name in ("Reader A", "Reader B"):
        session = joined(walk, study, name)
        with walk.application.uow() as uow:
            study_reading.begin_judging(uow, session)
        while (now := step(walk, session)).reader.phase is Phase.JUDGING:
            answer(walk, session, 1 if now.cases[0] % 2 else 2)  # odd numbers are real
    with walk.application.uow() as uow:
        closed = study_results.close_study(uow, walk.owner, study_id=study.id)
    assert closed.summary["primary"]["value"] == 1
    assert closed.summary["conclusion"] == "different"


def test_nobody_sees_a_result_before_the_study_is_closed_and_it_closes_once(walk: Walk) -> None:
    study = opened(walk)
    with (
        walk.application.uow() as uow,
        pytest.raises(IllegalTransition, match="before it is closed"),
    ):
        study_results.read_result(uow, walk.owner, study_id=study.id)
    with walk.application.uow() as uow, pytest.raises(Conflict, match="two are needed"):
        study_results.close_study(uow, walk.owner, study_id=study.id)
    with walk.application.uow() as uow:
        studies.cancel_study(uow, walk.owner, study_id=study.id)
    with walk.application.uow() as uow, pytest.raises(IllegalTransition, match="is cancelled"):
        study_results.close_study(uow, walk.owner, study_id=study.id)


def test_another_tenant_sees_no_study(walk: Walk) -> None:
    study = drafted(walk)
    stranger = Walk(walk.application)
    with walk.application.uow(read_only=True) as uow:
        for actor in (stranger.owner, stranger.auditors[0]):
            with pytest.raises(NotFound, match="No reader study"):
                studies.get_study(uow, actor, study_id=study.id)
        with pytest.raises(PermissionDenied):
            studies.get_study(uow, walk.collaborator, study_id=study.id)


def test_a_tier_that_needs_a_study_is_not_submitted_without_one(walk: Walk) -> None:
    release = walk.release()
    object.__setattr__(walk.application.settings, "reader_study_tiers", "registered, public")
    with walk.application.uow() as uow, pytest.raises(Conflict, match="closed reader study"):
        releases.submit_release(uow, walk.owner, release_id=release.id, if_match=release.etag)
    object.__setattr__(walk.application.settings, "reader_study_tiers", "")
    assert walk.submitted(release).state is ReleaseState.SUBMITTED


def test_the_real_cases_vanish_with_the_version_that_they_are_of(walk: Walk) -> None:
    study = opened(walk)
    session = joined(walk, study)
    with walk.application.uow(read_only=True) as uow:
        real = uow.get(StudyCase, (study.id, 1))
    assert real is not None
    assert real.truth == REAL
    while step(walk, session).cases[0] != 1:
        answer(walk, session, 0)
    from service.domain.datasets import DatasetVersion, VersionState

    with walk.application.uow() as uow:
        uow.without_trail("what a withdrawal does to a version")
        job = uow.get(Job, str(study.job_id))
        version = uow.get(DatasetVersion, str(job.version_id))
        version.move_to(VersionState.ERASED)
    with walk.application.uow() as uow, pytest.raises(NotFound, match="a person was withdrawn"):
        study_reading.view_case(uow, session, side=1)
