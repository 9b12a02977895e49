"""Messages go to a real broker by task name; a broker that is gone is no error."""

import json
import secrets
import time

import redis

from service.config import Settings
from service.dispatch import Dispatcher, task_name
from service.domain.jobs import JobKind
from service.embedded import pick_port


def test_a_message_is_json_and_holds_the_job_id_only(valkey_url: str) -> None:
    queue = f"q{secrets.token_hex(4)}"
    dispatcher = Dispatcher(Settings(redis_url=valkey_url, train_queue=queue))
    assert dispatcher.send(JobKind.TRAIN, "job_1")
    with redis.Redis.from_url(valkey_url) as client:
        messages = [json.loads(message) for message in client.lrange(queue, 0, -1)]
    assert len(messages) == 1
    assert messages[0]["content-type"] == "application/json"
    assert messages[0]["headers"]["task"] == task_name(JobKind.TRAIN) == "workers.train"
    assert messages[0]["headers"]["argsrepr"] == "['job_1']"
    dispatcher.ping()


def test_a_broker_that_is_gone_costs_seconds_and_no_exception() -> None:
    dispatcher = Dispatcher(Settings(redis_url=f"redis://127.0.0.1:{pick_port()}/0"))
    started = time.monotonic()
    assert not dispatcher.send(JobKind.AUDIT, "job_1")
    assert time.monotonic() - started < 60
