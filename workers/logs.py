"""Logs of the workers: those of the service, and the text of the machine's own errors.

Never record values, file names from users, tokens or counts of persons.
"""

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from service.logs import configure_logging
from service.logs import describe_error as describe_any_error

__all__ = ["configure_logging", "describe_error", "logger"]

logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("workers")

_SAFE_TEXTS = (OSError, ImportError, BotoCoreError, ClientError)


def describe_error(error: BaseException) -> dict[str, object]:
    """Return the type and frames of an error, and its text where that cannot be private."""
    return describe_any_error(error, safe_texts=_SAFE_TEXTS)
