"""Ed25519 keys: made once with mode 0600, named by fingerprint, and used to sign and check bytes.

A fingerprint is the SHA-256 of the raw 32-byte public key. Which fingerprint to trust is never
decided here: `kaima verify` is told a key, or remembers the one that it saw first.
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from privacy.errors import InvalidParameter

SIGNATURE_BYTES = 64
_RAW_KEY_BYTES = 32
_OWNER_ONLY = 0o600
# Reading by the group is allowed, because secret mounts grant it; everything beyond is refused.
_FORBIDDEN_MODE = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
# A key file holds a hundred bytes; anything much larger is something else.
_MAX_KEY_FILE_BYTES = 16_384


def load_or_create_signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the private key in `path`; make it, readable by its owner only, if there is none.

    Two processes that start together end with the same key. Raises: InvalidParameter if the file
    is no Ed25519 key or others may read it.
    """
    if not path.exists():
        _create(path)
    return load_signing_key(path)


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the private key in the PEM file `path`.

    Raises: InvalidParameter if others may read or change it, or it is no Ed25519 key.
    """
    with path.open("rb") as stream:
        # The mode of the file that is read, not of one that was put in its place since.
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if mode & _FORBIDDEN_MODE:
            raise InvalidParameter(
                f"The signing key {path} was refused: its mode is {mode:04o}, so others can use "
                f"it. Replace the key if they may have, then run: chmod 600 {path}"
            )
        content = stream.read(_MAX_KEY_FILE_BYTES)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidParameter(
            f"The signing key {path} was refused: it is no unencrypted PEM private key."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidParameter(
            f"The signing key {path} was refused: it is no Ed25519 key. "
            "Make one with: openssl genpkey -algorithm ed25519"
        )
    return key


def load_public_key(content: bytes) -> Ed25519PublicKey:
    """Return the public key in `content`: PEM, or the raw 32 bytes.

    Raises: InvalidParameter for anything else.
    """
    if len(content) == _RAW_KEY_BYTES:
        return Ed25519PublicKey.from_public_bytes(content)
    try:
        key = load_pem_public_key(content[:_MAX_KEY_FILE_BYTES])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidParameter(
            "The public key was refused: it is neither a PEM public key nor 32 raw bytes."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidParameter("The public key was refused: it is no Ed25519 key.")
    return key


def public_key_pem(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """Return the public half of `key` as PEM."""
    return _public(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """Return the SHA-256 of the raw public key, as lower-case hex."""
    return hashlib.sha256(_public(key).public_bytes_raw()).hexdigest()


def is_signature(signature: bytes, message: bytes, *, key: Ed25519PublicKey) -> bool:
    """Return whether `signature` was made over `message` by the owner of `key`."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _public(key: Ed25519PrivateKey | Ed25519PublicKey) -> Ed25519PublicKey:
    return key.public_key() if isinstance(key, Ed25519PrivateKey) else key


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # The umask can only take bits away; say the mode outright all the same.
            os.fchmod(stream.fileno(), _OWNER_ONLY)
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        # A link appears whole or not at all, and never over a key that another process made first.
        try:
            os.link(partial, path)
        except FileExistsError:
            return
    finally:
        partial.unlink()
