"""Every state table is complete, and `move_to` allows exactly what its table says."""

from datetime import UTC, datetime
from itertools import product

import pytest

from service.domain import access, datasets, jobs, releases, studies
from service.domain.errors import IllegalTransition
from service.domain.releases import Decision, outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job_in(state: jobs.JobState) -> jobs.Job:
    """Return a job in a state."""
    return jobs.Job("job_1", jobs.JobKind.TRAIN, "t", "d", "u", {}, NOW, state=state)


def version_in(state: datasets.VersionState) -> datasets.DatasetVersion:
    """Return a version in a state."""
    return datasets.DatasetVersion("ver_1", "t", "d", 1, "u", NOW, state=state)


def release_in(state: releases.ReleaseState) -> releases.Release:
    """Return a release in a state."""
    return releases.Release("rel_1", "t", "d", "a", "n", "1.0.0", "", "u", NOW, state=state)


def study_in(state: studies.StudyState) -> studies.Study:
    """Return a reader study in a state."""
    return studies.Study("stu_1", "t", "d", "a", "n", {}, "u", NOW, state=state)


def request_in(state: access.RequestState) -> access.AccessRequest:
    """Return an access request in a state."""
    return access.AccessRequest("a", "r", "t", "u", [], {}, None, None, NOW, state=state)


MACHINES = [
    (jobs.JobState, jobs.TRANSITIONS, job_in),
    (datasets.VersionState, datasets.VERSION_TRANSITIONS, version_in),
    (releases.ReleaseState, releases.TRANSITIONS, release_in),
    (studies.StudyState, studies.STUDY_TRANSITIONS, study_in),
    (access.RequestState, access.REQUEST_TRANSITIONS, request_in),
]
MOVES = [
    (make, start, end, end in table[start])
    for states, table, make in MACHINES
    for start, end in product(states, states)
]


@pytest.mark.parametrize(("states", "table", "make"), MACHINES)
def test_every_state_has_a_row(states: type, table: dict, make: object) -> None:
    del make
    assert set(table) == set(states)


@pytest.mark.parametrize(("make", "start", "end", "is_allowed"), MOVES)
def test_a_move_is_allowed_exactly_if_the_table_says_so(
    make: object, start: object, end: object, *, is_allowed: bool
) -> None:
    thing = make(start)
    if is_allowed:
        thing.move_to(end)
        assert thing.state is end
    else:
        with pytest.raises(IllegalTransition, match="From here it may become"):
            thing.move_to(end)
        assert thing.state is start


@pytest.mark.parametrize(("states", "table", "make"), MACHINES)
def test_every_state_can_be_reached_from_the_first(states: type, table: dict, make: object) -> None:
    del make
    first = next(iter(states))
    reached, frontier = {first}, {first}
    while frontier:
        frontier = {onward for state in frontier for onward in table[state]} - reached
        reached |= frontier
    assert reached == set(states)


def test_every_release_state_has_an_owner_and_only_last_states_have_none() -> None:
    assert set(releases.OWNERS) == set(releases.ReleaseState)
    ownerless = {s for s, owner in releases.OWNERS.items() if owner is releases.StateOwner.NOBODY}
    assert ownerless == {s for s, onward in releases.TRANSITIONS.items() if not onward}


@pytest.mark.parametrize(
    ("votes", "decided"),
    [
        ([], None),
        ([Decision.APPROVE], None),
        ([Decision.REJECT], None),
        ([Decision.APPROVE, Decision.APPROVE], Decision.APPROVE),
        ([Decision.APPROVE, Decision.RETURN], Decision.RETURN),
        ([Decision.RETURN, Decision.REJECT], Decision.REJECT),
        ([Decision.REJECT, Decision.APPROVE], Decision.REJECT),
    ],
)
def test_two_votes_decide_and_the_stricter_one_wins(
    votes: list[Decision], decided: Decision | None
) -> None:
    assert outcome(votes) is decided


def test_a_job_that_is_to_be_cancelled_reads_cancelling_until_it_has_stopped() -> None:
    job = job_in(jobs.JobState.RUNNING)
    job.cancel_requested = True
    assert job.status == "cancelling"
    job.move_to(jobs.JobState.CANCELLED)
    assert job.status == "cancelled"
