"""The review machine under Hypothesis: a short run always, a long one with the slow tests."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from service.domain.releases import ReleaseState
from tests.factories import Walk
from tests.service.review_machine import ReviewMachine, World

SHORT = settings(
    max_examples=5,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=150, stateful_step_count=50, derandomize=False)


def machine(walk: Walk) -> type[ReviewMachine]:
    """Return the machine over one tenant."""
    return type("Machine", (ReviewMachine,), {"world": World(walk), "reached": set()})


def test_no_order_of_steps_breaks_a_rule_of_review(sqlite_walk: Walk) -> None:
    run_state_machine_as_test(machine(sqlite_walk), settings=SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_long_order_of_steps_breaks_a_rule_of_review(sqlite_walk: Walk) -> None:
    tried = machine(sqlite_walk)
    run_state_machine_as_test(tried, settings=LONG)
    assert tried.reached >= {ReleaseState.APPROVED, ReleaseState.PUBLISHED}
