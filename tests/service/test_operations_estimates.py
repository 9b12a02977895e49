"""Presets, warnings and estimates of a plan, before anything is paid."""

from datetime import timedelta

import pytest

from service.domain.errors import InputRefused, NotFound
from service.domain.jobs import Job, JobKind
from service.operations import jobs
from service.operations.estimates import FAILURE_KEPT_MINUTES, KEPT_DAYS
from tests.factories import TARGET, Walk, copied_clock

RESULT = {"seconds": 12.0, "fit_seconds": 10.0, "sample_seconds": 2.0, "peak_bytes": 2**30}


@pytest.fixture
def version(walk: Walk):
    return walk.version(walk.dataset())


def plan(walk: Walk, version, **changes) -> jobs.TrainingPlan:
    asked = {"generator": "network", "config": {}, "target": TARGET} | changes
    with walk.application.uow(read_only=True) as uow:
        return jobs.plan_training(uow, walk.owner, version_id=version.id, **asked)


def estimate(walk: Walk, version, **changes) -> jobs.Estimate:
    planned = plan(walk, version, **changes).planned
    with walk.application.uow() as uow:
        return jobs.request_estimate(uow, walk.owner, version_id=version.id, planned=planned)


def job_of(walk: Walk, found: jobs.Estimate) -> Job:
    with walk.application.uow(read_only=True) as uow:
        return jobs.load_job(uow, found.job_id)


def later(walk: Walk, **passed: float) -> None:
    clock = walk.application.parts.clock
    walk.application = copied_clock(walk.application, lambda: clock() + timedelta(**passed))


def test_a_preset_is_resolved_from_the_declared_count_and_settings_have_the_last_word(
    walk: Walk, version
) -> None:
    quick = plan(walk, version, preset="quick")
    units = quick.planned.units
    assert quick.config == {"steps": 10, "batch": round(units / 4)}
    assert quick.mechanisms[0].steps == 10
    own = plan(walk, version, preset="quick", config={"steps": 12})
    assert own.config == {"steps": 12, "batch": round(units / 4)}
    assert plan(walk, version).config == {"steps": 40, "batch": 64}


def test_job_and_commitment_hold_what_the_preset_stands_for(walk: Walk, version) -> None:
    expected = plan(walk, version, preset="quick").config
    job = walk.training(version, generator="network", preset="quick")
    assert job.payload["preset"] == "quick"
    assert job.payload["config"] == job.payload["plan"]["config"] == expected


def test_a_preset_that_there_is_not_is_refused_with_a_sentence(walk: Walk, version) -> None:
    refused = plan(walk, version, preset="best")
    assert "'best' of network was refused: choose one of quick" in str(refused.refusal)
    with pytest.raises(InputRefused, match="it has none"):
        walk.training(version, generator="statistics", preset="quick")


def test_a_plan_warns_and_recommends_in_sentences(walk: Walk, version) -> None:
    found = plan(walk, version)
    assert any(sentence.startswith("Too little to learn from") for sentence in found.warnings)
    assert found.recommended == "statistics"
    assert found.recommendation.startswith("Recommended: statistics.")
    assert plan(walk, version, generator="statistics").warnings == ()


def test_a_dry_run_is_asked_for_once_and_knows_nothing_of_the_records(walk: Walk, version) -> None:
    first, second = estimate(walk, version), estimate(walk, version)
    assert first.state == second.state == "pending"
    assert first.job_id == second.job_id
    job = job_of(walk, first)
    assert (job.kind, job.version_id) == (JobKind.ESTIMATE, None)
    assert walk.application.dispatcher.sent[-1] == (JobKind.ESTIMATE, job.id)
    assert version.id not in str(job.payload)
    with walk.application.uow(read_only=True) as uow, pytest.raises(NotFound):
        jobs.load_reservation(uow, job.id)


def test_an_equal_plan_is_answered_from_the_last_dry_run_and_another_one_is_not(
    walk: Walk, version
) -> None:
    job = job_of(walk, estimate(walk, version))
    walk.succeed(job, walk.claim(job), RESULT)
    ready = estimate(walk, version)
    assert (ready.state, ready.job_id, ready.result["seconds"]) == ("ready", job.id, 12.0)
    other = walk.version(walk.dataset(), persons=("p7", "p8"))
    assert estimate(walk, other).job_id == job.id  # declared alike
    assert estimate(walk, version, preset="quick").job_id != job.id
    assert estimate(walk, version, samples=10).job_id != job.id
    stranger = Walk(walk.application)
    theirs = stranger.version(stranger.dataset(), persons=("p9",))
    assert estimate(stranger, theirs).job_id != job.id
    later(walk, days=KEPT_DAYS + 1)
    assert estimate(walk, version).state == "pending"


def test_a_dry_run_that_failed_says_why_and_is_tried_again_later(walk: Walk, version) -> None:
    job = job_of(walk, estimate(walk, version))
    token = walk.claim(job)
    with walk.application.uow() as uow:
        jobs.fail_job(uow, job.id, token=token, problem={"type": "x", "detail": "Out of memory."})
    failed = estimate(walk, version)
    assert (failed.state, failed.reason) == ("failed", "Out of memory.")
    later(walk, minutes=FAILURE_KEPT_MINUTES + 1)
    assert estimate(walk, version).state == "pending"


def test_no_dry_run_is_queued_beyond_the_quota(walk: Walk, version) -> None:
    object.__setattr__(walk.application.settings, "quota_jobs", 0)
    found = estimate(walk, version)
    assert (found.state, found.job_id) == ("unavailable", None)
    assert "the limit is 0" in str(found.reason)
