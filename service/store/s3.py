"""Connect to an S3 server, and cut streams into parts. No key and no bucket is known here."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from service.config import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def connect(settings: Settings, endpoint: str) -> "S3Client":
    """Return a client that works with every S3 server, not with one maker's only."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key or None,
        aws_secret_access_key=settings.s3_secret_key or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # Many S3 servers refuse the trailing checksums that boto3 sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 4, "mode": "standard"},
            max_pool_connections=32,
        ),
    )


def in_parts(chunks: Iterable[bytes], part_bytes: int) -> Iterator[bytes]:
    """Regroup chunks into parts of `part_bytes`; the last one may be shorter, or alone empty."""
    buffer = io.BytesIO()
    sent = False
    for chunk in chunks:
        buffer.write(chunk)
        while buffer.tell() >= part_bytes:
            whole = buffer.getvalue()
            yield whole[:part_bytes]
            sent = True
            buffer = io.BytesIO()
            buffer.write(whole[part_bytes:])
    if buffer.tell() or not sent:
        yield buffer.getvalue()
