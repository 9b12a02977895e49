"""Where the `kaima` command keeps what it must remember: the profile, and pinned signing keys.

Both lie in $KAIMA_CONFIG, or else in ~/.config/kaima, readable by their owner only.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from service.client import KaimaClient

DEFAULT_URL = "http://127.0.0.1:8000"


class PinChanged(Exception):
    """A service signs with another key than the one that was pinned at first use."""


@dataclass(frozen=True)
class Profile:
    """Which service to talk to, with which API key."""

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the profile; KAIMA_URL and KAIMA_API_KEY win over the file."""
        given = os.environ if environment is None else environment
        kept = _read(_folder() / "profile.json")
        return cls(
            url=given.get("KAIMA_URL") or kept.get("url") or DEFAULT_URL,
            api_key=given.get("KAIMA_API_KEY") or kept.get("api_key"),
        )

    def save(self) -> Path:
        """Keep the profile in a file of mode 0600; return its path."""
        path = _folder() / "profile.json"
        _write(path, {"url": self.url, "api_key": self.api_key or ""})
        return path

    def client(self) -> KaimaClient:
        """Return a client for this profile."""
        return KaimaClient(self.url, self.api_key)


def pins() -> dict[str, str]:
    """Return the fingerprints pinned so far: address of the service to fingerprint."""
    return _read(_folder() / "pins.json")


def pin(url: str, fingerprint: str) -> bool:
    """Pin the fingerprint of a service; return whether this was its first use.

    Raises: PinChanged if another fingerprint is pinned for that address.
    """
    known = pins()
    if url in known:
        if known[url] != fingerprint:
            raise PinChanged(
                f"{url} now signs with the key {fingerprint}, but {known[url]} was pinned when it "
                "was first used. Ask its operator by another way whether the key was rotated; if "
                f"so, remove its line from {_folder() / 'pins.json'}."
            )
        return False
    _write(_folder() / "pins.json", {**known, url: fingerprint})
    return True


def _folder() -> Path:
    given = os.environ.get("KAIMA_CONFIG")
    return Path(given) if given else Path.home() / ".config" / "kaima"


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} was refused: it holds no JSON object. Remove it.")  # noqa: TRY004
    return {str(key): str(value) for key, value in found.items()}


def _write(path: Path, content: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(dict(content), stream, indent=2)
    partial.replace(path)
