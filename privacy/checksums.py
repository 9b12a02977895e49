"""Reads and writes SHA256SUMS in its one form: sorted 'digest, two spaces, name' lines.

The form is the one that sha256sum checks. A list in any other form is refused rather than
understood, so that two readers cannot see different files in it.
"""

import hashlib
from collections.abc import Iterator, Mapping

from privacy.archives import name_problem

_DIGITS = 64
_HEX = frozenset("0123456789abcdef")
_NAME_AT = _DIGITS + 2


def digest_of(chunks: Iterator[bytes]) -> str:
    """Return the SHA-256 of bytes that come in pieces, as lower-case hex."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def is_digest(text: str) -> bool:
    """Return whether `text` is 64 lower-case hex digits."""
    return len(text) == _DIGITS and set(text) <= _HEX


def write(digests: Mapping[str, str]) -> bytes:
    """Return the list of name -> digest as the bytes that are signed."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def read(content: bytes) -> dict[str, str] | None:
    """Return name -> digest; None unless `content` is a list of plain names in its one form."""
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return None
    digests = {line[_NAME_AT:]: line[:_DIGITS] for line in lines}
    is_plain = all(name_problem(name) is None for name in digests)
    if not is_plain or not all(map(is_digest, digests.values())) or write(digests) != content:
        return None
    return digests
