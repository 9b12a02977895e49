"""Structured logs of the workers: one JSON object a line, on standard error.

Fields are ids, digests, counts of attempts and durations; never record values, file names from
users, tokens or counts of persons. The text of an unexpected error may quote such values, so an
error is logged as its type and its frames; only the machine's own errors keep their text.
"""

import logging
import sys
import traceback

import structlog
from botocore.exceptions import BotoCoreError, ClientError

logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("workers")

_SAFE_TEXTS = (OSError, ImportError, BotoCoreError, ClientError)


def configure_logging(level: int = logging.INFO) -> None:
    """Write this process's logs, and those of its libraries, as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def describe_error(error: BaseException) -> dict[str, object]:
    """Return the type and frames of an error, and its text where that cannot be private."""
    fields: dict[str, object] = {
        "error": type(error).__name__,
        "frames": [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ],
    }
    if isinstance(error, _SAFE_TEXTS):
        fields["text"] = str(error)
    if error.__cause__ is not None:
        fields["cause"] = describe_error(error.__cause__)
    return fields
