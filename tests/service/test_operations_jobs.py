"""Requesting, planning, cancelling and looking after jobs."""

from datetime import timedelta
from typing import Any

import pytest

from privacy import inclusion
from privacy.mechanisms import PrivacyTarget
from service.domain.datasets import VersionState
from service.domain.errors import (
    BudgetRefused,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from service.domain.jobs import Job, JobKind, JobState
from service.operations import jobs
from service.store import journal
from tests.factories import TARGET, Walk, copied_clock


def later(walk: Walk, seconds: float) -> None:
    """Let time pass."""
    clock = walk.application.parts.clock
    walk.application = copied_clock(walk.application, lambda: clock() + timedelta(seconds=seconds))


def reap(walk: Walk) -> jobs.Reaped:
    """Run the reaper once."""
    with walk.application.uow() as uow:
        return jobs.reap(uow)


def stored(walk: Walk, job: Job) -> Job:
    """Return a job as it is now."""
    with walk.application.uow(read_only=True) as uow:
        return jobs.load_job(uow, job.id)


def sent(walk: Walk) -> list[tuple[JobKind, str]]:
    """Return the messages that were sent."""
    return walk.application.dispatcher.sent  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"generator": "perpetuum"}, "is unknown"),
        ({"config": {"components": 0}}, "'components'"),
        ({"config": {"colour": "red"}}, "colour"),
        ({"target": PrivacyTarget(epsilon=6, delta=1e-6)}, "registered tier allows at most 5"),
        ({"tier": "friends"}, "Choose from: public, registered, enclave"),
        ({"target": PrivacyTarget(epsilon=1, delta=2e-4)}, "at most 0.0001"),
        ({"samples": 0}, "ask for 1 to"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused_with_a_sentence(
    sqlite_walk: Walk, options: dict[str, Any], sentence: str
) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset())
    with pytest.raises(InputRefused, match=sentence):
        sqlite_walk.training(version, **options)
    given = {"generator": "statistics", "config": {}, "target": TARGET, **options}
    with sqlite_walk.application.uow(read_only=True) as uow:
        plan = jobs.plan_training(uow, sqlite_walk.owner, version_id=version.id, **given)
        assert jobs.list_jobs(uow, sqlite_walk.owner, kind=JobKind.TRAIN).items == []
    assert plan.refusal is not None
    assert sentence.split(":", maxsplit=1)[0] in plan.refusal


def test_a_version_that_is_not_ready_cannot_be_trained_on(sqlite_walk: Walk) -> None:
    job = sqlite_walk.uploaded(sqlite_walk.dataset())
    with sqlite_walk.application.uow(read_only=True) as uow:
        version = jobs.load_job(uow, job.id).version_id
        found = uow.get(type(sqlite_walk.version(sqlite_walk.dataset())), version)
    assert found.state is VersionState.INGESTING
    with pytest.raises(IllegalTransition, match="is ingesting"):
        sqlite_walk.training(found)


def test_a_plan_reserves_nothing_and_says_what_would_remain(walk: Walk) -> None:
    dataset = walk.dataset(epsilon="1.5")
    version = walk.version(dataset)
    for expected in (None, "remains"):
        with walk.application.uow(read_only=True) as uow:
            plan = jobs.plan_training(
                uow,
                walk.owner,
                version_id=version.id,
                generator="statistics",
                config={},
                target=TARGET,
            )
        assert plan.epsilon is not None
        assert 0 < plan.epsilon <= 1
        if expected is None:
            assert plan.refusal is None
            walk.training(version)
        else:
            assert expected in str(plan.refusal)
            with pytest.raises(BudgetRefused):
                walk.training(version)


def test_the_commitment_is_in_the_trail_before_the_message_and_opens_to_the_plan(
    walk: Walk,
) -> None:
    job = walk.training(walk.version(walk.dataset()))
    with walk.application.uow(read_only=True) as uow:
        rows = [row.document["body"] for row in journal.read_rows(uow.session, subject=job.id)]
    committed = [row for row in rows if row["event"] == "job:commit_plan"]
    assert [row["details"] for row in committed] == [{"commitment": job.payload["commitment"]}]
    salt = walk.application.keys.commitment_salt(job.id)
    inclusion.check_commitment(job.payload["plan"], salt=salt, commitment=job.payload["commitment"])
    assert sent(walk)[-1] == (JobKind.TRAIN, job.id)


def test_the_next_job_is_queued_with_the_end_of_the_one_before(walk: Walk) -> None:
    audit = walk.audited(walk.version(walk.dataset()))
    assert audit.payload["attempt"] == 1
    sample = stored(walk, Job(**{"id": audit.parent_id, **_blank()}))
    assert sample.parent_id == audit.payload["train_job_id"]
    assert audit.requested_by == walk.owner.user_id


def _blank() -> dict[str, Any]:
    return {
        "kind": JobKind.SAMPLE,
        "tenant_id": "",
        "dataset_id": "",
        "requested_by": "",
        "payload": {},
        "created_at": None,
    }


def test_attempts_at_an_audit_are_counted_over_the_cohort(walk: Walk) -> None:
    dataset = walk.dataset()
    walk.audited(walk.version(dataset))
    joined = walk.dataset(join_dataset_id=dataset.id)
    assert walk.audited(walk.version(joined)).payload["attempt"] == 2


def test_a_second_message_finds_nothing_to_claim(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    walk.claim(job)
    with walk.application.uow() as uow:
        assert jobs.claim_job(uow, job.id, token="t2", lease_seconds=9) is None


def test_a_heartbeat_renews_the_lease_shows_progress_and_tells_of_a_cancel(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job, lease_seconds=10)
    later(walk, 8)
    progress = {"stage": "fitting", "step": 3, "total": 9, "eta_seconds": 4.5, "metrics": {"x": 1}}

    def beat() -> bool:
        with walk.application.uow() as uow:
            return jobs.heartbeat(uow, job.id, token=token, lease_seconds=10, progress=progress)

    assert not beat()
    later(walk, 8)
    with walk.application.uow() as uow:
        assert jobs.cancel_job(uow, walk.owner, job_id=job.id).status == "cancelling"
    assert beat()
    now = stored(walk, job)
    assert (now.stage, now.step, now.total, now.eta_seconds) == ("fitting", 3, 9, 4.5)
    assert now.progress == {"metrics": {"x": 1}}


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_when_it_has_stopped(
    walk: Walk,
) -> None:
    version = walk.version(walk.dataset())
    queued, running = walk.training(version), walk.training(version)
    token = walk.claim(running)
    with walk.application.uow() as uow:
        assert jobs.cancel_job(uow, walk.owner, job_id=queued.id).state is JobState.CANCELLED
        assert jobs.cancel_job(uow, walk.owner, job_id=running.id).state is JobState.RUNNING
    with walk.application.uow() as uow:
        jobs.cancel_finished(uow, running.id, token=token)
    assert stored(walk, running).status == "cancelled"
    with pytest.raises(IllegalTransition), walk.application.uow() as uow:
        jobs.cancel_job(uow, walk.owner, job_id=running.id)


def test_an_expired_lease_is_taken_back_until_the_attempts_are_used_up(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    for attempt in (1, 2):
        walk.claim(job, lease_seconds=10)
        assert not reap(walk)
        later(walk, 11)
        assert reap(walk).requeued == 1
        assert stored(walk, job).attempt == attempt
    walk.claim(job, lease_seconds=10)
    later(walk, 11)
    assert reap(walk).failed == 1
    ended = stored(walk, job)
    assert ended.state is JobState.FAILED
    assert ended.problem is not None
    assert "3 attempts" in ended.problem["detail"]
    with walk.application.uow(read_only=True) as uow:
        assert not jobs.load_reservation(uow, job.id).is_open


def test_a_job_whose_worker_died_while_cancelling_is_cancelled(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    walk.claim(job, lease_seconds=10)
    with walk.application.uow() as uow:
        jobs.cancel_job(uow, walk.owner, job_id=job.id)
    later(walk, 11)
    assert reap(walk).cancelled == 1


def test_a_job_handed_back_is_sent_again_at_once(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job)
    before = len(sent(walk))
    with walk.application.uow() as uow:
        assert jobs.requeue_job(uow, job.id, token=token).state is JobState.QUEUED
    assert sent(walk)[before:] == [(JobKind.TRAIN, job.id)]


def test_a_lost_message_is_sent_again_but_not_before_its_time(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    sent(walk).clear()
    assert not reap(walk)
    later(walk, walk.application.settings.resend_seconds + 1)
    assert reap(walk).resent == 1
    assert sent(walk) == [(JobKind.TRAIN, job.id)]


def test_a_tenant_has_only_so_many_jobs_at_once(sqlite_walk: Walk) -> None:
    object.__setattr__(sqlite_walk.application.settings, "quota_jobs", 1)
    version = sqlite_walk.version(sqlite_walk.dataset())
    sqlite_walk.training(version)
    with pytest.raises(QuotaExceeded, match="the limit is 1"):
        sqlite_walk.training(version)


def test_jobs_of_another_tenant_do_not_exist_and_collaborators_see_none(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    stranger = Walk(walk.application)
    with pytest.raises(NotFound), walk.application.uow(read_only=True) as uow:
        jobs.get_job(uow, stranger.owner, job_id=job.id)
    with pytest.raises(NotFound), walk.application.uow() as uow:
        jobs.cancel_job(uow, stranger.owner, job_id=job.id)
    with pytest.raises(PermissionDenied), walk.application.uow(read_only=True) as uow:
        jobs.get_job(uow, walk.collaborator, job_id=job.id)


def test_reading_a_report_is_recorded(walk: Walk) -> None:
    audit = walk.audited(walk.version(walk.dataset()))
    with walk.application.uow() as uow:
        jobs.get_report(uow, walk.auditors[0], audit_job_id=audit.id)
    with walk.application.uow(read_only=True) as uow:
        rows = [row.document["body"] for row in journal.read_rows(uow.session, subject=audit.id)]
    assert (rows[-1]["event"], rows[-1]["actor"]) == ("report:read", walk.auditors[0].user_id)


def test_a_change_without_a_trail_event_is_refused(walk: Walk) -> None:
    job = walk.training(walk.version(walk.dataset()))
    uow = walk.application.uow()
    jobs.load_job(uow, job.id).stage = "changed behind everybody's back"
    with pytest.raises(RuntimeError, match="without a trail event"):
        uow.commit()
    uow.session.close()
    assert stored(walk, job).stage == "waiting"
