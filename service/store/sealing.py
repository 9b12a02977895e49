"""Keep digests of private documents out of the journal's rows.

An unsalted digest of something private lets whoever reads it test guesses, and a row's own digest
would do the same for its text. So a row holds HMAC-SHA256(salt, digest): equal digests of one
subject stay equal, and whoever holds the master key can check a document against its row.
"""

import hashlib
import hmac
import re
from typing import Any

SHOWN = frozenset({"bundle", "commitment", "ledger", "policy", "terms"})
"""Digests of what is public, salted already, or the journal's own."""
_DIGEST = re.compile("[0-9a-f]{64}")


def seal(value: Any, *, salt: bytes, name: str = "") -> Any:
    """Return a row's details with every digest sealed that is not named in `SHOWN`."""
    if name in SHOWN:
        return value
    if isinstance(value, dict):
        return {key: seal(item, salt=salt, name=key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [seal(item, salt=salt, name=name) for item in value]
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return hmac.digest(salt, bytes.fromhex(value), hashlib.sha256).hex()
    return value
