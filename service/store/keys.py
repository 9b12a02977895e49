"""Secrets derived from the instance's one master key: HMAC-SHA256(master, purpose ‖ id).

The master key never leaves this object, and `repr` shows nothing of it.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

KEY_BYTES = 32


class Keys:
    """Derives one independent 256-bit key for each purpose and owner."""

    def __init__(self, master: bytes) -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(
                f"The master key was refused: it has {len(master)} bytes, {KEY_BYTES} are needed. "
                "Restore the file from its backup."
            )
        self._master = master

    def tenant_key(self, tenant_id: str) -> bytes:
        """Return the key that turns a tenant's person ids into digests."""
        return self._derive("tenant", tenant_id)

    def reference_key(self, cohort_id: str) -> bytes:
        """Return the key that places a cohort's persons in the reference set, for all runs."""
        return self._derive("reference", cohort_id)

    def run_key(self, job_id: str) -> bytes:
        """Return the key of one run's audit pool and coins."""
        return self._derive("run", job_id)

    def commitment_salt(self, job_id: str) -> bytes:
        """Return the secret that hides what one run's commitment is about."""
        return self._derive("commitment", job_id)

    def session_key(self) -> bytes:
        """Return the key that signs the session cookies of the web pages."""
        return self._derive("session", "web")

    def second_factor_key(self, user_id: str) -> bytes:
        """Return the key that seals one user's authenticator secret at rest."""
        return self._derive("second-factor", user_id)

    def webhook_key(self, endpoint: str) -> bytes:
        """Return the secret that signs what is sent to one webhook; it is stored nowhere."""
        return self._derive("webhook", endpoint)

    def person_digest(self, tenant_id: str, person: bytes) -> bytes:
        """Return HMAC-SHA256(tenant key, person): the only form in which a person is stored."""
        return hmac.digest(self.tenant_key(tenant_id), person, hashlib.sha256)

    def check_value(self) -> str:
        """Return what tells this master key from another one, and nothing else about it."""
        return self._derive("check", "instance").hex()

    def __repr__(self) -> str:
        """Show nothing."""
        return "Keys(...)"

    def _derive(self, purpose: str, owner: str) -> bytes:
        return hmac.digest(self._master, f"{purpose}\x00{owner}".encode(), hashlib.sha256)


def load_keys(path: Path) -> Keys:
    """Read the master key file.

    Raises: ValueError if others may read it, or if it is not 64 hex digits; FileNotFoundError.
    """
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path} was refused: others may read it. Run: chmod 600 {path}")
    return Keys(bytes.fromhex(path.read_text(encoding="ascii").strip()))


def load_or_create_keys(path: Path) -> Keys:
    """Read the master key file; at the first start, make it with mode 0600."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # fails if another process came first; theirs then counts
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return load_keys(path)
