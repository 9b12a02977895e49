"""Identifiers that sort by the time they were made, so that an id is also a page cursor."""

import secrets
import time


def new_id(prefix: str) -> str:
    """Return PREFIX_ + 12 hex digits of milliseconds since 1970 + 16 random hex digits."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
