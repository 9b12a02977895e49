"""Writes and checks the in-toto statement about a bundle, in an envelope that other tools verify.

SHA256SUMS.intoto.jsonl is one line: a DSSE envelope (v1) around an in-toto Statement (v1), signed
with the key that signs SHA256SUMS. Its one subject is SHA256SUMS, which names every other file, so
a tool that knows in-toto and nothing of us can go from the key to each byte. Formats:
https://github.com/secure-systems-lab/dsse and https://github.com/in-toto/attestation.
"""

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy import signing
from privacy.manifests import ReleaseCertificate

ATTESTATION = "SHA256SUMS.intoto.jsonl"
SUBJECT = "SHA256SUMS"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:kaima:release:1"


def statement(listing: bytes, certificate: ReleaseCertificate, *, content: bytes) -> bytes:
    """Return the statement about the bytes of SHA256SUMS and of certificate.json (`content`)."""
    document: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": SUBJECT, "digest": {"sha256": hashlib.sha256(listing).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "release_id": certificate.release_id,
            "name": certificate.name,
            "version": certificate.version,
            "publisher": certificate.publisher,
            "published_at": certificate.published_at,
            "certificate": {"sha256": hashlib.sha256(content).hexdigest()},
        },
    }
    return rfc8785.dumps(document)


def encode(payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def write(folder: Path, certificate: ReleaseCertificate, *, key: Ed25519PrivateKey) -> Path:
    """Write the envelope beside SHA256SUMS, which must be final."""
    listing = (folder / SUBJECT).read_bytes()
    payload = statement(listing, certificate, content=certificate.canonical())
    path = folder / ATTESTATION
    path.write_bytes(_envelope(payload, key.sign(encode(payload)), signing.fingerprint(key)))
    return path


def find_problem(
    envelope: bytes,
    *,
    listing: bytes,
    certificate: ReleaseCertificate,
    content: bytes,
    key: Ed25519PublicKey,
) -> str | None:
    """Return why an envelope is refused, or None. It has one form, and is compared byte by byte."""
    try:
        signature = base64.b64decode(json.loads(envelope)["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, binascii.Error):
        return "is no DSSE envelope"
    payload = statement(listing, certificate, content=content)
    if envelope != _envelope(payload, signature, signing.fingerprint(key)):
        return f"is not the statement about this {SUBJECT} in its one form"
    if not signing.is_signature(signature, encode(payload), key=key):
        return f"is not signed by key {signing.fingerprint(key)[:16]}…"
    return None


def _envelope(payload: bytes, signature: bytes, key_id: str) -> bytes:
    document: dict[str, Any] = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return rfc8785.dumps(document) + b"\n"
