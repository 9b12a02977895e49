"""A page never waits for the broker: what is known is shown, and asked for once for everybody."""

import socket
import time

from service.broker_watch import BrokerState, BrokerWatch
from service.config import Settings
from service.dispatch import Dispatcher
from service.embedded import pick_port


def until(watch: BrokerWatch, *, is_known: str) -> BrokerState:
    """Look until the broker (`depths`) or the workers are known."""
    deadline = time.monotonic() + 60
    while (state := watch.look()) is None or getattr(state, is_known) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return state


def test_a_broker_that_is_gone_is_told() -> None:
    watch = BrokerWatch(Dispatcher(Settings(redis_url=f"redis://127.0.0.1:{pick_port()}/0")))
    state = until(watch, is_known="workers")
    assert (state.depths, state.workers) == (None, {})


def test_a_broker_that_never_answers_holds_no_page_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        watch = BrokerWatch(Dispatcher(Settings(redis_url=f"redis://127.0.0.1:{port}/0")))
        started = time.monotonic()
        assert [watch.look() for _ in range(5)] == [None] * 5
        assert time.monotonic() - started < 4  # less than an answer would take
        state = until(watch, is_known="workers")
        assert state.depths is None


def test_an_answer_stands_for_a_few_seconds(valkey_url: str) -> None:
    watch = BrokerWatch(Dispatcher(Settings(redis_url=valkey_url)))
    known = until(watch, is_known="depths")
    assert set(known.depths or {}) == {"cpu", "gpu"}
    answered = until(watch, is_known="workers")
    assert answered.workers == {}
    assert watch.look() is answered
