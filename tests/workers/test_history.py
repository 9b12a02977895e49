"""What a job has told so far: stages with their times, curves that stay small."""

from workers.history import MOST_POINTS, History


def test_stages_are_timed_and_a_second_attempt_goes_on_from_the_first():
    now = [0.0]
    first = History(clock=lambda: now[0])
    first.extended({"stage": "fetching"})
    now[0] = 3.0
    told = first.extended({"stage": "training", "step": 1, "metrics": {"phantom_loss": 0.5}})
    assert told["stages"][0] == {"stage": "fetching", "seconds": 3.0, "attempt": 1}
    assert told["stages"][1]["seconds"] is None
    second = History(told, attempt=2).extended({"stage": "fetching"})
    assert [stage["attempt"] for stage in second["stages"]] == [1, 1, 2]
    assert second["curves"] == {"phantom_loss": [[1.0, 0.5]]}


def test_the_parts_of_a_battery_are_one_stage():
    history = History()
    history.extended({"stage": "attacking: nearest"})
    told = history.extended({"stage": "attacking: density", "step": 2})
    assert [stage["stage"] for stage in told["stages"]] == ["attacking"]


def test_a_curve_of_any_length_stays_small_and_keeps_its_ends():
    history, told = History(), {}
    for step in range(5000):
        told = history.extended({"stage": "s", "step": step, "metrics": {"loss": 1.0 / (1 + step)}})
    points = told["curves"]["loss"]
    assert MOST_POINTS // 2 <= len(points) <= MOST_POINTS
    assert points[0][0] == 0
    assert points[-1][0] == 4999


def test_a_loss_that_diverged_is_left_out():
    assert History().extended({"stage": "s", "metrics": {"loss": None}})["curves"] == {}
