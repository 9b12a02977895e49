"""`python -m workers.reconcile`: send hints again that were lost, take back expired leases.

The job row is the outbox: a row that is queued and that nobody has claimed for a while gets another
message, so losing the whole broker loses no job. Everything is compare-and-set in the database, so
several of these may run at once.
"""

import signal
import sys
import threading
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from service.config import Settings
from service.domain.errors import DomainError
from service.operations import jobs
from service.wiring import Application, build
from workers.deliver import deliver_until
from workers.logs import configure_logging, describe_error, logger

LONGEST_INTERVAL_SECONDS = 5.0


def reconcile(application: Application) -> None:
    """Look once at every queued and running job; log what was mended.

    A database, broker or object store that cannot be reached is tried again the next time.
    """
    try:
        with application.uow() as uow:
            mended = jobs.reap(uow)
    except (SQLAlchemyError, BotoCoreError, ClientError, DomainError, OSError) as error:
        logger.warning("Reconciling failed; it is tried again", **describe_error(error))
        return
    if mended:
        logger.info("Jobs were reconciled", mended=mended)


def main() -> int:
    """Reconcile until SIGTERM or SIGINT."""
    configure_logging()
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    settings = Settings.from_environment()
    application = build(settings)
    interval = min(LONGEST_INTERVAL_SECONDS, settings.lease_seconds / 3)
    logger.info("Reconciling", interval_seconds=interval)
    delivering = threading.Thread(
        target=deliver_until,
        args=(stopping, application),
        kwargs={"interval": interval},
        name="deliver",
        daemon=True,  # a message that is being sent when the process ends is sent again
    )
    delivering.start()
    while not stopping.is_set():
        reconcile(application)
        stopping.wait(interval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
