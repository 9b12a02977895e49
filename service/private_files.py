"""Keep small files that only this user may read: secrets, ports, what runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 that is either whole or not there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def keep_secret(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in `path`; make it at first use, readable by this user only."""
    if not path.exists():
        write_private(path, make())
    return path.read_text(encoding="ascii").strip()


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; one that is missing, cut short or broken is empty."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
