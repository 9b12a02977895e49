"""Structured logs of the web process and the workers: one JSON object a line, on standard error.

Fields are ids, routes, statuses and durations; never bodies, queries, tokens, record values, or
names that users typed. The text of an unexpected error may quote such values, so an error is logged
as its type and its frames.
"""

import logging
import sys
import traceback

import structlog


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
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def describe_error(
    error: BaseException, *, safe_texts: tuple[type[BaseException], ...] = ()
) -> dict[str, object]:
    """Return the type and the frames of an error and of its cause; text only of `safe_texts`."""
    fields: dict[str, object] = {
        "error": type(error).__name__,
        "frames": [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ],
    }
    if isinstance(error, safe_texts):
        fields["text"] = str(error)
    if error.__cause__ is not None:
        fields["cause"] = describe_error(error.__cause__, safe_texts=safe_texts)
    return fields
