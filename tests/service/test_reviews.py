"""What surrounds a vote: conflicts, conditions, comments, assignments, expiry, reminders, plans."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
import sqlalchemy as sa

from service.domain import plan_approvals
from service.domain.accounts import BOOTSTRAP, Role
from service.domain.declarations import ReleaseDeclaration
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.notifications import Notification
from service.domain.plan_approvals import PlanApproval, PlanState
from service.domain.releases import DUE, Decision, Location, ReleaseState
from service.domain.reviews import Audience, Conditions, join
from service.operations import (
    assigning,
    commenting,
    conflicts,
    declaring,
    downloads,
    labs,
    plan_approving,
    plan_requirement,
    releases,
    reminding,
    renewing,
    reviewing,
    withholding,
)
from service.operations.evidence import candidate_jobs
from service.store.unit_of_work import utc_now
from service.wiring import Application
from tests.components import ObjectStoreServer
from tests.databases import BOTH, fresh_database
from tests.factories import (
    TARGET,
    Walk,
    copied_clock,
    running_application,
)

TOMORROW = utc_now().date() + timedelta(days=1)


@pytest.fixture(scope="module", params=BOTH)
def hospital(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    object_store: ObjectStoreServer,
) -> Iterator[Application]:
    """Yield one application of each database; each test walks with a tenant of its own."""
    folder = tmp_path_factory.mktemp("reviews")
    with (
        fresh_database(request.param, request) as url,
        running_application(folder, object_store, database_url=url) as made,
    ):
        yield made


@pytest.fixture
def walk(hospital: Application) -> Walk:
    return Walk(hospital)


def later(walk: Walk, **delta: float) -> Application:
    return copied_clock(walk.application, lambda: utc_now() + timedelta(**delta))


def subjects(walk: Walk, actor) -> list[str]:
    with walk.application.uow(read_only=True) as uow:
        statement = sa.select(Notification).where(Notification.user_id == actor.user_id)
        return [found.subject for found in uow.session.execute(statement).scalars()]


def test_conditions_of_both_auditors_are_joined_and_become_what_is_accepted(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    first, second, _ = walk.auditors
    walk.voted(release, first, conditions=Conditions("Cite us.", "enclave"))
    late = TOMORROW + timedelta(days=30)
    release = walk.voted(release, second, conditions=Conditions("No linkage.", None, late))
    assert release.state is ReleaseState.APPROVED
    assert release.tier == "enclave"
    assert release.conditions == {
        "texts": ["Cite us.", "No linkage."],
        "max_tier": "enclave",
        "expires_on": late.isoformat(),
    }
    release = walk._publish(release)
    assert release.expires_at.date() == late
    for part in ("Use for research.", "Cite us.", "No linkage.", str(late)):
        assert part in release.effective_terms
    walk.downloaded(release)


def test_the_narrowest_tier_the_first_day_and_each_text_once_are_what_is_joined():
    given = [Conditions("A", "registered", TOMORROW), Conditions("A", "public"), Conditions()]
    joined = join(given)
    assert joined.document() == {
        "texts": ["A"],
        "max_tier": "registered",
        "expires_on": TOMORROW.isoformat(),
    }
    assert join([]).document() == {}


@pytest.mark.parametrize(
    ("conditions", "decision", "sentence"),
    [
        (Conditions("x"), Decision.RETURN, "only an approval has conditions"),
        (Conditions("x" * 4001), Decision.APPROVE, "the limit is 4000"),
        (Conditions(max_tier="friends"), Decision.APPROVE, "public, registered, enclave"),
        (Conditions(expires_on=utc_now().date()), Decision.APPROVE, "not after today"),
    ],
)
def test_a_condition_that_means_nothing_is_refused_with_a_sentence(
    walk, conditions, decision, sentence
):
    release = walk.release(ReleaseState.SUBMITTED)
    with pytest.raises(InputRefused, match=sentence):
        walk.voted(release, walk.auditors[0], decision, conditions=conditions)


def test_nobody_reviews_what_their_own_lab_made_or_what_they_stepped_aside_from(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    colleague, aside, third = walk.auditors
    with walk.application.uow() as uow:
        for actor, lab in ((walk.owner, "Knee  lab"), (colleague, "knee LAB")):
            labs.change_lab(uow, BOOTSTRAP, user_id=actor.user_id, lab=lab)
    with walk.application.uow() as uow:
        reason = "My thesis is about these knees."
        assigning.recuse(uow, aside, dataset_id=release.dataset_id, reason=reason)
    with pytest.raises(PermissionDenied, match="you work in the lab of"):
        walk.voted(release, colleague)
    with pytest.raises(PermissionDenied, match="you declared that you must not judge"):
        walk.voted(release, aside)
    with walk.application.uow(read_only=True) as uow:
        found = conflicts.list_candidates(uow, third, release_id=release.id)
    refusals = {item.user_id: item.refusal for item in found}
    assert refusals[third.user_id] is None
    assert "lab of somebody" in refusals[colleague.user_id]
    assert "they declared" in refusals[aside.user_id]


def test_whoever_declares_the_licence_or_asked_for_the_samples_is_a_maker_of_the_release(walk):
    declarer, requester, third = walk.auditors
    release = walk.release(ReleaseState.DRAFT)
    with walk.application.uow() as uow:
        declaring.declare_release(
            uow,
            replace(declarer, roles=frozenset({Role.DATA_OWNER, Role.AUDITOR})),
            release_id=release.id,
            declaration=ReleaseDeclaration(licence="CC0-1.0"),
            if_match=release.etag,
        )
    with walk.application.uow() as uow:
        uow.without_trail("the test plays samples that an auditor asked for")
        _, sample, _ = candidate_jobs(uow, release)
        sample.requested_by = requester.user_id
    release = walk.submitted(walk.current(release))
    for maker in (declarer, requester):
        with pytest.raises(PermissionDenied, match="wrote, declared or submitted"):
            walk.voted(release, maker)
    assert walk.voted(release, third).state is ReleaseState.UNDER_REVIEW


def handed_on(walk: Walk, release, actor, *, to) -> None:
    etag = walk.current(release).etag
    with walk.application.uow() as uow:
        assigning.delegate_review(
            uow,
            actor,
            release_id=release.id,
            to=to.user_id,
            reason="On holiday.",
            if_match=etag,
        )


def test_only_the_auditors_named_vote_and_one_hands_on_what_they_did_not_judge(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    first, second, third = walk.auditors
    with walk.application.uow() as uow:
        release = assigning.assign_auditors(
            uow,
            third,
            release_id=release.id,
            auditor_ids=[first.user_id, second.user_id],
            if_match=release.etag,
        )
    with pytest.raises(PermissionDenied, match="assigned to two other auditors"):
        walk.voted(release, third)
    release = walk.voted(release, first)
    with pytest.raises(Conflict, match="you voted already"):
        handed_on(walk, release, first, to=third)
    with pytest.raises(PermissionDenied, match="not an auditor"):
        handed_on(walk, release, second, to=walk.collaborator)
    handed_on(walk, release, second, to=third)
    with pytest.raises(PermissionDenied, match="assigned to two other"):
        walk.voted(release, second)
    assert walk.voted(release, third).state is ReleaseState.APPROVED
    assert any(subject.startswith("Review knees") for subject in subjects(walk, third))


def test_replacing_auditors_while_they_read_begins_the_round_again_and_betrays_no_vote(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    first, second, third = walk.auditors
    release = walk.voted(release, first)
    with walk.application.uow() as uow:
        release = assigning.assign_auditors(
            uow,
            third,
            release_id=release.id,
            auditor_ids=[second.user_id, third.user_id],
            if_match=walk.current(release).etag,
        )
    assert (release.state, release.round) == (ReleaseState.SUBMITTED, 2)
    walk.voted(release, second)
    assert walk.voted(release, third).state is ReleaseState.APPROVED


def said(walk: Walk, actor, release, text: str, **options) -> str:
    with walk.application.uow() as uow:
        return commenting.add_comment(uow, actor, release_id=release.id, text=text, **options).id


def heard(walk: Walk, actor, release) -> list[str]:
    with walk.application.uow(read_only=True) as uow:
        found = commenting.list_comments(uow, actor, release_id=release.id)
        trail = releases.list_trail(uow, actor, release_id=release.id)
    comments = [row for row in trail if row["body"]["event"] == "release:comment"]
    assert len(comments) == len(found)  # the trail hides exactly what the list hides
    return [comment.text for comment in found]


def test_comments_stay_between_those_they_are_for_until_both_have_voted(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    first, second, _ = walk.auditors
    said(walk, first, release, "Too sharp.")
    asked = said(walk, first, release, "Why no grade 4?", audience=Audience.AUTHOR)
    assert heard(walk, walk.owner, release) == ["Why no grade 4?"]
    said(walk, walk.owner, release, "It is rare.", reply_to=asked)
    said(walk, walk.owner, release, "The terms are new.")
    assert heard(walk, second, release) == ["The terms are new."]
    assert len(heard(walk, first, release)) == 4
    with pytest.raises(NotFound), walk.application.uow() as uow:
        commenting.add_comment(uow, second, release_id=release.id, text="?", reply_to=asked)
    walk.voted(release, first)
    assert heard(walk, second, release) == ["The terms are new."]
    walk.voted(release, second)
    assert len(heard(walk, second, release)) == 4
    assert heard(walk, walk.owner, release) == [
        "Why no grade 4?",
        "It is rare.",
        "The terms are new.",
    ]
    with pytest.raises(NotFound), walk.application.uow(read_only=True) as uow:
        commenting.list_comments(uow, walk.collaborator, release_id=release.id)


def test_a_first_vote_is_heard_by_nobody_and_changes_nothing_that_can_be_read(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    first, second, _ = walk.auditors
    with walk.application.uow() as uow:
        reviewing.begin_review(uow, second, release_id=release.id, if_match=release.etag)
    before = walk.current(release)

    def shown() -> tuple[object, ...]:
        with walk.application.uow(read_only=True) as uow:
            view = releases.get_release(uow, second, release_id=release.id)
            trail = releases.list_trail(uow, second, release_id=release.id)
        return view.votes_cast, view.reviews, len(trail), view.release.etag, view.release.state

    seen, told = shown(), [subjects(walk, actor) for actor in (second, walk.owner)]
    walk.voted(before, first, Decision.REJECT)
    assert shown() == seen
    assert [subjects(walk, actor) for actor in (second, walk.owner)] == told


def test_another_training_of_the_cohort_voids_the_votes(walk):
    dataset = walk.dataset()
    version = walk.version(dataset)
    release = walk.release(ReleaseState.UNDER_REVIEW, audit=walk.audited(version))
    walk.training(version)
    with pytest.raises(Conflict, match="every vote is void"):
        walk.voted(release, walk.auditors[1])
    now = walk.current(release)
    assert (now.state, now.round) == (ReleaseState.SUBMITTED, 2)


def test_a_release_expires_on_its_day_leaves_its_bucket_and_is_renewed_by_a_new_approval(walk):
    release = walk.release(ReleaseState.EXPIRED)
    assert release.location is Location.QUARANTINE
    assert release.tombstone["state"] == "expired"
    with pytest.raises(IllegalTransition), walk.application.uow() as uow:
        downloads.create_download(uow, walk.collaborator, release_id=release.id)
    with pytest.raises(IllegalTransition, match="not suspended"):
        walk.withheld(release, "reinstate")
    with walk.application.uow() as uow:
        made = renewing.renew_release(uow, walk.owner, release_id=release.id)
    assert (made.version, made.state, made.renews_id) == ("1.0.1", ReleaseState.DRAFT, release.id)
    for step in ("submit", "vote", "approve", "publish"):
        made = getattr(walk, f"_{step}")(made)
    assert made.state is ReleaseState.PUBLISHED
    assert walk.current(release).state is ReleaseState.EXPIRED


def test_an_approval_that_is_over_before_publication_publishes_nothing(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    release = walk._vote_until_tomorrow(release)
    release = walk._approve(release)
    with pytest.raises(Conflict, match="the approval held until"), later(walk, days=2).uow() as uow:
        releases.publish_release(uow, walk.owner, release_id=release.id, if_match=release.etag)


def test_each_state_is_reminded_of_once_before_and_once_after_it_is_due(walk):
    release = walk.release(ReleaseState.SUBMITTED)
    first, second, _ = walk.auditors
    walk.voted(release, first)

    def reminders(actor) -> list[str]:
        found = [re.sub(r": .*", "", subject) for subject in subjects(walk, actor)]
        return [word for word in found if word in {"Due soon", "Overdue"}]

    for days in (1, 8, 8, 11, 12, 40):
        with later(walk, days=days).uow() as uow:
            reminding.remind(uow)
    assert reminders(second) == ["Due soon", "Overdue"]
    assert reminders(first) == []  # whose vote is in
    assert reminders(walk.owner) == []
    assert set(DUE) == set(ReleaseState)


def test_every_move_of_a_plans_approval_is_in_its_table():
    for start, end in product(PlanState, PlanState):
        plan = PlanApproval(
            "p", "t", "v", "c", "u", utc_now(), "", {}, "", {}, utc_now(), state=start
        )
        if end in plan_approvals.TRANSITIONS[start]:
            plan.move_to(end, at=utc_now())
            assert plan.state is end
        else:
            with pytest.raises(IllegalTransition, match="From here it may become"):
                plan.move_to(end, at=utc_now())
    ended = {s for s, owner in plan_approvals.OWNERS.items() if owner.value == "nobody"}
    assert ended == {s for s, onward in plan_approvals.TRANSITIONS.items() if not onward}


ASKED = {"generator": "statistics", "config": {}, "target": TARGET}


def asked_for(walk: Walk, version, **options) -> PlanApproval:
    with walk.application.uow() as uow:
        return plan_approving.request_plan_approval(
            uow, walk.owner, version_id=version.id, purpose="A paper.", **(ASKED | options)
        )


def decided(walk: Walk, plan, *, approve: bool = True, actor=None, application=None):
    with (application or walk.application).uow() as uow:
        return plan_approving.decide_plan(
            uow,
            actor or walk.auditors[0],
            plan_id=plan.id,
            approve=approve,
            reason="Read it.",
            if_match=plan.etag,
        )


@pytest.fixture
def careful(walk: Walk) -> Walk:
    """Return a tenant whose plans need approval."""
    with walk.application.uow() as uow:
        plan_requirement.require_plan_approval(
            uow, walk.operator, tenant_id=walk.tenant_id, required=True
        )
    return walk


def test_a_training_spends_nothing_without_an_approval_of_exactly_its_plan(careful):
    version = careful.version(careful.dataset())
    with pytest.raises(Conflict, match="need an auditor's approval"):
        careful.training(version)
    plan = asked_for(careful, version)
    with pytest.raises(Conflict, match="waits for an auditor"):
        careful.training(version)
    with pytest.raises(PermissionDenied, match="only an auditor may"):
        decided(careful, plan, actor=careful.owner)
    with pytest.raises(PreconditionFailed):
        decided(careful, replace(plan, revision=7))
    decided(careful, plan)
    with pytest.raises(Conflict, match="need an auditor's approval"):
        careful.training(version, samples=7)
    job = careful.training(version)
    with careful.application.uow(read_only=True) as uow:
        found = plan_approving.get_plan(uow, careful.owner, plan_id=plan.id)
    assert (found.state, found.job_id) == (PlanState.USED, job.id)
    with pytest.raises(Conflict, match="need an auditor's approval"):
        careful.training(version)


def test_another_reservation_voids_an_approval_and_time_ends_it(careful):
    version = careful.version(careful.dataset())
    first, second = asked_for(careful, version), asked_for(careful, version, samples=9)
    decided(careful, first)
    decided(careful, second)
    careful.training(version)
    with pytest.raises(Conflict, match="is void, because budget or policy"):
        careful.training(version, samples=9)
    third = asked_for(careful, version, samples=9)
    with pytest.raises(Conflict, match="is expired"):
        decided(careful, third, application=later(careful, days=15))
    fourth = asked_for(careful, version, samples=9)
    with later(careful, days=15).uow() as uow:
        plan_approving.expire_plans(uow)
    with careful.application.uow(read_only=True) as uow:
        states = [plan.state for plan in plan_approving.list_plans(uow, careful.owner).items]
    assert fourth.id
    assert states == [PlanState.EXPIRED, PlanState.EXPIRED, PlanState.VOID, PlanState.USED]


def test_expiring_twice_does_it_once(walk):
    release = walk.release(ReleaseState.EXPIRED)
    with later(walk, days=3).uow() as uow:
        assert withholding.expire_releases(uow) == 0
    assert walk.current(release).state is ReleaseState.EXPIRED
