"""The Celery application: it wakes a worker with a job id, and knows nothing else about jobs.

The job row in the database is the truth; a message is only a hint that there is work. Hence early
acknowledgement, no result backend and no retries here: `lifecycle` claims the row, and
`reconcile` sends a hint again when one was lost.

Start: `celery -A workers.app worker --pool threads --concurrency 1 --queues cpu`. The work is done
in a subprocess, so a thread that watches it is enough, and signals reach every job of the worker.
"""

import functools
import logging
import threading
from typing import Any

from celery import Celery, signals

from service.config import Settings
from service.dispatch import task_name
from service.domain.jobs import JobKind
from service.wiring import Application, build
from workers import lifecycle
from workers.logs import configure_logging

SOCKET_TIMEOUT_SECONDS = 30
VISIBILITY_TIMEOUT_SECONDS = 3600  # only prefetched messages wait for it; there are none

stopping = threading.Event()
"""Set when this worker was told to stop: running jobs hand their lease back."""


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the Celery settings; JSON is the only thing that is ever read from the broker."""
    transport = {
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "retry_on_timeout": True,
        "health_check_interval": 10,
        "unacked_restore_throttle": 1,
    }
    return {
        "broker_url": settings.redis_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": transport,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_default_queue": "cpu",
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


@functools.cache
def application() -> Application:
    """Return this process's wiring, built at the first job."""
    return build(Settings.from_environment())


def run(job_id: str) -> None:
    """Run one job to its end; a second message about the same job finds nothing to claim."""
    lifecycle.run_job(application(), job_id, stopping=stopping)


app = Celery("kaima")
app.add_defaults(lambda: celery_options(Settings.from_environment()))
for _kind in JobKind:
    app.task(name=task_name(_kind), ignore_result=True)(run)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _release_leases(**_: object) -> None:
    """Tell running jobs to stop, so that another worker resumes them without waiting."""
    stopping.set()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _keep_own_logging(loglevel: int = logging.INFO, **_: object) -> None:
    """Log JSON lines; connecting this signal also keeps Celery from changing the root logger."""
    configure_logging(loglevel)
