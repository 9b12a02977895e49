"""Send a task by name, after commit. A message is a hint: the job row is the truth.

A message that could not be sent is no error: the reaper sends a hint for every queued row that
nobody has claimed.
"""

import functools

import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.config import Settings
from service.domain.jobs import JobKind

CONNECT_SECONDS = 2
ANSWER_SECONDS = 1.0
QUEUES = ("cpu", "gpu")
_WHERE_TRAINING_RUNS = frozenset({JobKind.TRAIN, JobKind.ESTIMATE})
_log = structlog.get_logger(__name__)


def task_name(kind: JobKind) -> str:
    """Return the Celery task that does this kind of job."""
    return f"workers.{kind.value}"


class Dispatcher:
    """Sends `workers.KIND(job_id)` to the queue of its resource."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, kind: JobKind, job_id: str) -> bool:
        """Send one hint; return False, and log, if the broker cannot be reached."""
        queue = self._settings.train_queue if kind in _WHERE_TRAINING_RUNS else "cpu"
        try:
            self._celery.send_task(task_name(kind), args=[job_id], queue=queue, retry=False)
        except (OperationalError, OSError) as error:
            _log.warning("a job's message was not sent", job=job_id, error=type(error).__name__)
            return False
        return True

    def ping(self) -> None:
        """Raise if the broker does not answer."""
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)

    def depths(self) -> dict[str, int] | None:
        """Return how many messages wait in each queue; None if the broker does not answer."""
        try:
            with redis.Redis.from_url(
                self._settings.redis_url,
                socket_timeout=CONNECT_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                retry=Retry(NoBackoff(), 0),  # the client's own waits seconds between attempts
            ) as connection:
                return {name: int(connection.llen(name)) for name in QUEUES}
        except redis.RedisError:
            return None

    def workers(self) -> dict[str, list[str]]:
        """Return the workers that answer within a second, and the queues that each serves."""
        try:
            found = self._celery.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
        except (OperationalError, OSError, redis.RedisError):
            return {}
        return {name: sorted(one["name"] for one in queues) for name, queues in found.items()}

    @functools.cached_property
    def _celery(self) -> Celery:
        app = Celery("kaima", broker=self._settings.redis_url, set_as_current=False)
        app.conf.update(
            task_serializer="json",
            accept_content=["json"],
            result_backend=None,
            task_ignore_result=True,
            task_create_missing_queues=True,
            broker_transport_options={
                "socket_connect_timeout": CONNECT_SECONDS,
                "socket_timeout": 10,
                "socket_keepalive": True,
            },
        )
        return app
