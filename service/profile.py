"""Where the `kaima` command keeps what it must remember: the profile, and pinned signing keys.

Both lie in $KAIMA_CONFIG, or else in ~/.config/kaima, readable by their owner only.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from service.client import KaimaClient

DEFAULT_URL = "http://127.0.0.1:8000"
_API_KEY = re.compile(r"[\x21-\x7e]+")
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class PinChanged(Exception):
    """A service signs with another key than the one that was pinned at first use."""


class ProfileRefused(Exception):
    """What the profile or the environment says cannot be used."""


@dataclass(frozen=True)
class Profile:
    """Which service to talk to, with which API key."""

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the profile; KAIMA_URL and KAIMA_API_KEY win over the file."""
        given = os.environ if environment is None else environment
        path = _folder() / "profile.json"
        kept = _read(path)
        if not all(isinstance(value, str) for value in kept.values()):
            raise ProfileRefused(f"{path} was refused: it holds more than texts. Remove it.")
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
        """Return a client for this profile.  Raises: ProfileRefused."""
        _check_url(self.url)
        if self.api_key and not _API_KEY.fullmatch(self.api_key):
            raise ProfileRefused(
                "The API key was refused: it holds a blank, a line end or a letter that no key "
                "has. Copy it again to KAIMA_API_KEY, or run: kaima login"
            )
        return KaimaClient(self.url, self.api_key)


def pins() -> dict[str, list[str]]:
    """Return the fingerprints pinned so far: address of the service to its keys, oldest first."""
    found = _read(_folder() / "pins.json")
    return {
        url: [str(key) for key in ([kept] if isinstance(kept, str) else kept)]
        for url, kept in found.items()
    }


def pin(url: str, fingerprint: str) -> bool:
    """Pin the fingerprint of a service; return whether this was its first use.

    Raises: PinChanged if only other fingerprints are pinned for that address.
    """
    known = pins()
    if url in known:
        if fingerprint not in known[url]:
            raise PinChanged(
                f"{url} now signs with the key {fingerprint}, but {known[url][-1]} was pinned when "
                "it was first used. Ask its operator by another way whether the key was rotated; "
                f"if so, run: kaima trust {fingerprint}"
            )
        return False
    trust(url, fingerprint)
    return True


def trust(url: str, fingerprint: str) -> None:
    """Add a key of a service after a rotation; releases signed with older keys stay verifiable.

    Raises: ValueError if that is no fingerprint.
    """
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(
            f"The fingerprint {fingerprint[:80]!r} was refused: it is not 64 hex digits, the "
            "SHA-256 of a raw public key. Ask the service's operator for it."
        )
    known = pins()
    kept = [key for key in known.get(url, []) if key != fingerprint]
    _write(_folder() / "pins.json", {**known, url: [*kept, fingerprint]})


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ProfileRefused(
            f"The address {url[:80]!r} of the service was refused: it is no http:// or https:// "
            f"address. Set KAIMA_URL to one such as {DEFAULT_URL}, or run: kaima login"
        )


def _folder() -> Path:
    given = os.environ.get("KAIMA_CONFIG")
    return Path(given) if given else Path.home() / ".config" / "kaima"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ProfileRefused(f"{path} was refused: it is not JSON. Remove it.") from error
    if not isinstance(found, dict):
        raise ProfileRefused(f"{path} was refused: it holds no JSON object. Remove it.")
    return found


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(dict(content), stream, indent=2)
    partial.replace(path)
