"""Signed heads of the journal, and proofs that a stranger checks with the public key alone.

A *head* says: at this time the journal had this many rows, with this root. An *inclusion* proof
says that one row is under a head, a *consistency* proof that an older head's rows begin a newer
head's. All three are JSON; what they prove, and what not, is in docs/trail.md. Nothing here reads a
database: the same code makes and checks them.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy import signing
from service.domain import merkle

HEAD = "kaima-journal-head"
INCLUSION = "kaima-journal-inclusion"
CONSISTENCY = "kaima-journal-consistency"
SCHEMA_VERSION = 1
_CONTEXT = b"kaima journal head v1\n"  # no signature of another document fits a head
_HASH_DIGITS = 64


class ProofRefused(ValueError):
    """A head or a proof does not prove what it says; the sentence tells why."""


@dataclass(frozen=True)
class Checked:
    """What a head or proof was found to prove."""

    sentence: str
    size: int
    signed_at: str
    key_id: str


def signed_head(
    *, size: int, root: bytes, digest: str, at: datetime, key: Ed25519PrivateKey
) -> dict[str, Any]:
    """Return a head and its signature. `digest` is the last row's, which ends the hash chain."""
    head: dict[str, Any] = {
        "kind": HEAD,
        "schema_version": SCHEMA_VERSION,
        "size": size,
        "root": root.hex(),
        "last_digest": digest,
        "signed_at": at.isoformat(),
        "key_id": signing.fingerprint(key),
    }
    signature = key.sign(_CONTEXT + rfc8785.dumps(head))
    return {**head, "signature": base64.b64encode(signature).decode("ascii")}


def inclusion(
    head: dict[str, Any], *, seq: int, digest: str, path: list[bytes], text: str | None
) -> dict[str, Any]:
    """Return the proof of one row; without `text`, its content stays with the service."""
    return {
        "kind": INCLUSION,
        "schema_version": SCHEMA_VERSION,
        "seq": seq,
        "row": text,
        "digest": digest,
        "path": [step.hex() for step in path],
        "head": head,
    }


def consistency(old: dict[str, Any], new: dict[str, Any], *, path: list[bytes]) -> dict[str, Any]:
    """Return the proof that the rows of one head begin those of another."""
    return {
        "kind": CONSISTENCY,
        "schema_version": SCHEMA_VERSION,
        "path": [step.hex() for step in path],
        "old": old,
        "new": new,
    }


def read_document(content: bytes) -> dict[str, Any]:
    """Return a head or proof from its bytes.  Raises: ProofRefused."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ProofRefused("The file was refused: it is not JSON.") from error
    if not isinstance(document, dict) or document.get("kind") not in {HEAD, INCLUSION, CONSISTENCY}:
        raise ProofRefused(
            "The file was refused: it is neither a journal head nor a proof. Make one with: "
            "kaima journal head, kaima journal prove SEQ, kaima journal consistency OLD"
        )
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ProofRefused(
            f"The file was refused: its version is {document.get('schema_version')!r}, this "
            f"command knows {SCHEMA_VERSION}. Install a newer kaima."
        )
    return document


def about(document: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """Return a consistency proof that starts from the head that somebody kept.

    Raises: ProofRefused for another kind of document.
    """
    if document["kind"] != CONSISTENCY or kept["kind"] != HEAD:
        raise ProofRefused("The file was refused: only a consistency proof has an older head.")
    return {**document, "old": kept}


def check(document: dict[str, Any], *, key: Ed25519PublicKey) -> Checked:
    """Check a head or a proof with the public key alone.  Raises: ProofRefused."""
    try:
        if document["kind"] == HEAD:
            return check_head(document, key=key)
        checker = _check_inclusion if document["kind"] == INCLUSION else _check_consistency
        return checker(document, key)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ProofRefused):
            raise
        raise ProofRefused(f"The file was refused: it is malformed ({error!r:.80}).") from error


def check_head(head: dict[str, Any], *, key: Ed25519PublicKey) -> Checked:
    """Check a head's signature.  Raises: ProofRefused."""
    if head["key_id"] != signing.fingerprint(key):
        raise ProofRefused(
            f"The head was refused: the key {str(head['key_id'])[:_HASH_DIGITS]} signed it, not "
            "the one that you trust."
        )
    unsigned = {name: value for name, value in head.items() if name != "signature"}
    signature = base64.b64decode(head["signature"], validate=True)
    if not signing.is_signature(signature, _CONTEXT + rfc8785.dumps(unsigned), key=key):
        raise ProofRefused("The head was refused: its signature does not fit, it was changed.")
    size, signed_at = int(head["size"]), str(head["signed_at"])
    sentence = f"The service signed at {signed_at} that its journal has {size} rows."
    return Checked(sentence, size, signed_at, str(head["key_id"]))


def _check_inclusion(document: dict[str, Any], key: Ed25519PublicKey) -> Checked:
    head = check_head(document["head"], key=key)
    seq, digest, text = int(document["seq"]), str(document["digest"]), document["row"]
    if text is not None:
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise ProofRefused(f"The proof was refused: row {seq} is not what its digest names.")
        if json.loads(text)["seq"] != seq:
            raise ProofRefused(f"The proof was refused: its row is not row {seq}.")
    is_under = merkle.is_included(
        merkle.leaf_hash(_hash(digest)),
        index=seq - 1,
        size=head.size,
        path=[_hash(step) for step in document["path"]],
        root=_hash(document["head"]["root"]),
    )
    if not is_under:
        raise ProofRefused(f"The proof was refused: row {seq} is not under the signed root.")
    shown = _words(json.loads(text)) if text else "its content was not handed out"
    sentence = (
        f"Row {seq} is in the journal of {head.size} rows that the service signed at "
        f"{head.signed_at}: {shown}."
    )
    return Checked(sentence, head.size, head.signed_at, head.key_id)


def _check_consistency(document: dict[str, Any], key: Ed25519PublicKey) -> Checked:
    old, new = check_head(document["old"], key=key), check_head(document["new"], key=key)
    is_prefix = merkle.is_prefix(
        old=old.size,
        old_root=_hash(document["old"]["root"]),
        new=new.size,
        new_root=_hash(document["new"]["root"]),
        path=[_hash(step) for step in document["path"]],
    )
    if not is_prefix:
        raise ProofRefused(
            f"The proof was refused: the {old.size} rows that were signed at {old.signed_at} do "
            f"not begin the {new.size} rows signed at {new.signed_at}. If the service gave you "
            "both, its journal was forked or cut: keep both files."
        )
    sentence = (
        f"The {old.size} rows that were signed at {old.signed_at} begin, unchanged, the "
        f"{new.size} rows signed at {new.signed_at}."
    )
    return Checked(sentence, new.size, new.signed_at, new.key_id)


def _hash(digits: str) -> bytes:
    if not isinstance(digits, str) or len(digits) != _HASH_DIGITS:
        raise ProofRefused(f"The file was refused: {str(digits)[:80]!r} is not a SHA-256.")
    return bytes.fromhex(digits)


def _words(document: dict[str, Any]) -> str:
    body = document["body"]
    return f"{body.get('actor', 'ledger')} {body['event']} {body['subject']} at {document['at']}"
