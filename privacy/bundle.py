"""Checks a release bundle, and writes the checksums and signature that are checked.

A bundle is a folder or a zip with README.md, certificate.json, images, an npz, public_key.pem,
SHA256SUMS (every file but itself and what is signed over it), SHA256SUMS.sig (64 raw bytes, Ed25519
over the bytes of SHA256SUMS) and, since layout 2, `privacy.attestation`. A key found only inside a bundle is never trusted: the caller gives a
key, or the fingerprint pinned earlier, or says outright that this is the first sight.

Epsilon is re-derived from the mechanisms that the signer attests; whether they ran is the
signer's word. This module keeps no pins and prints nothing: `kaima verify` does.
"""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from privacy import accounting, attestation, checksums, signing
from privacy.archives import (
    OpenBundle,
    Problem,
    UnreadableFile,
    find_collisions,
    open_folder,
)
from privacy.errors import InvalidParameter, PrivacyError
from privacy.manifests import ReleaseCertificate
from privacy.zip_reader import open_zip
from privacy.zip_writer import write_zip

__all__ = [
    "CERTIFICATE",
    "CHECKSUMS",
    "PUBLIC_KEY",
    "SIGNATURE",
    "KeySource",
    "Problem",
    "VerificationResult",
    "sign_bundle",
    "verify_bundle",
    "write_checksums",
    "write_zip",
]

CERTIFICATE = "certificate.json"
CHECKSUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
PUBLIC_KEY = "public_key.pem"

# What the stated epsilon may lack of the re-derived one, for rounding in what people read.
EPSILON_TOLERANCE = 1e-3
# Files that are read whole are bounded, so that a hostile bundle cannot fill the memory.
_MAX_CHECKSUM_BYTES = 512 << 20
_MAX_DOCUMENT_BYTES = 16 << 20


class KeySource(StrEnum):
    """Why the signing key is trusted."""

    GIVEN = "given"
    PINNED = "pinned"
    FIRST_USE = "first_use"


class VerificationResult(BaseModel):
    """What `kaima verify` reports; nothing unauthenticated is in it.

    Values are None where the signature or the certificate does not bear them out; `reason` then
    says why. `signed_by` is the fingerprint to pin when `key_source` is "first_use".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    accepted: bool
    problems: tuple[Problem, ...]
    files_checked: int
    key_source: KeySource | None = None
    signed_by: str | None = None
    release_id: str | None = None
    epsilon_stated: float | None = None
    epsilon_rederived: float | None = None
    delta: float | None = None
    relation: str | None = None
    unit: str | None = None
    reason: str | None = None


def write_checksums(folder: Path) -> Path:
    """Write SHA256SUMS, in the format of sha256sum, over every file in `folder` but its signature.

    Raises: InvalidParameter if the folder holds a link, an odd name, or an earlier signature.
    """
    source = open_folder(folder)
    if source.problems:
        first = source.problems[0]
        raise InvalidParameter(f"The bundle was refused: {first.file} {first.reason}.")
    if SIGNATURE in source.files:
        raise InvalidParameter("The bundle was refused: it is signed already. Start a new folder.")
    digests = {name: checksums.digest_of(source.read(name)) for name in source.files - {CHECKSUMS}}
    path = folder / CHECKSUMS
    path.write_bytes(checksums.write(digests))
    return path


def sign_bundle(folder: Path, key: Ed25519PrivateKey) -> Path:
    """Write SHA256SUMS.sig, the signature over the bytes of SHA256SUMS."""
    path = folder / SIGNATURE
    path.write_bytes(key.sign((folder / CHECKSUMS).read_bytes()))
    return path


def verify_bundle(
    path: Path,
    *,
    public_key: bytes | Path | None = None,
    pinned_fingerprint: str | None = None,
    trust_on_first_use: bool = False,
) -> VerificationResult:
    """Check a bundle, folder or zip, against a key that the caller has reason to trust.

    `public_key` (PEM or 32 raw bytes, or a file of them) goes before `pinned_fingerprint`. With neither, the bundle
    is refused, unless `trust_on_first_use` accepts the key inside; pin `signed_by` afterwards.
    Raises: InvalidParameter if there is no bundle at `path`, or the given key is none.
    """
    content = public_key.read_bytes() if isinstance(public_key, Path) else public_key
    given = None if content is None else signing.load_public_key(content)
    pinned = None if pinned_fingerprint is None else _checked_fingerprint(pinned_fingerprint)
    check = _Check(given=given, pinned=pinned, trust_on_first_use=trust_on_first_use)
    if path.is_dir():
        return check.run(open_folder(path))
    if not path.is_file():
        raise InvalidParameter(f"{path} was refused: it is neither a folder nor a file.")
    with path.open("rb") as stream:
        return check.run(open_zip(stream, name=path.name))


class _Check:
    """One check of one bundle; collects problems instead of stopping at the first."""

    def __init__(
        self, *, given: Ed25519PublicKey | None, pinned: str | None, trust_on_first_use: bool
    ) -> None:
        self._given = given
        self._pinned = pinned
        self._trust_on_first_use = trust_on_first_use
        self._problems: list[Problem] = []
        self._checked = 0

    def run(self, source: OpenBundle) -> VerificationResult:
        """Return the result for the files of `source`."""
        self._problems += source.problems + find_collisions(source.files | source.folders)
        listing = self._document(source, CHECKSUMS, limit=_MAX_CHECKSUM_BYTES)
        signature = self._document(source, SIGNATURE, limit=signing.SIGNATURE_BYTES)
        own_key = self._own_key(source)
        key, key_source = self._trusted_key(own_key)
        is_signed = self._is_signed(key, listing=listing, signature=signature)
        digests = self._parse_checksums(listing)
        self._check_files(source, digests)
        certificate = None
        if key is not None and is_signed and digests is not None:
            certificate = self._certificate(source, digests, key=key)
            self._check_attestation(source, certificate, listing=listing or b"", key=key)
        result = VerificationResult(
            accepted=False,
            problems=(),
            files_checked=self._checked,
            key_source=key_source,
            signed_by=signing.fingerprint(key) if key and is_signed else None,
            reason="the bundle's certificate is not authenticated",
        )
        if certificate is not None:
            epsilon = self._epsilon(certificate)
            attested = {
                "release_id": certificate.release_id,
                "epsilon_stated": certificate.epsilon,
                "epsilon_rederived": epsilon,
                "delta": certificate.delta,
                "relation": certificate.neighbouring_relation.value,
                "unit": certificate.unit.value,
                "reason": "its mechanisms have no epsilon" if epsilon is None else None,
            }
            result = result.model_copy(update=attested)
        outcome = {"accepted": not self._problems, "problems": tuple(self._problems)}
        return result.model_copy(update=outcome)

    def _refuse(self, file: str, reason: str) -> None:
        self._problems.append(Problem(file, reason))

    def _document(self, source: OpenBundle, name: str, *, limit: int) -> bytes | None:
        """Return a file that is read whole; None, with a problem, if it is missing or too long."""
        if name not in source.files:
            if all(problem.file != name for problem in self._problems):
                self._refuse(name, "is missing")
            return None
        parts: list[bytes] = []
        try:
            for chunk in source.read(name):
                parts.append(chunk)
                if sum(map(len, parts)) > limit:
                    self._refuse(name, f"is longer than {limit} bytes")
                    return None
        except UnreadableFile as error:
            self._refuse(name, str(error))
            return None
        return b"".join(parts)

    def _own_key(self, source: OpenBundle) -> Ed25519PublicKey | None:
        """Return the key inside the bundle: a convenience that is believed only if vouched for."""
        if PUBLIC_KEY not in source.files and self._given is not None:
            return None
        content = self._document(source, PUBLIC_KEY, limit=_MAX_DOCUMENT_BYTES)
        if content is None:
            return None
        try:
            return signing.load_public_key(content)
        except InvalidParameter:
            self._refuse(PUBLIC_KEY, "is no Ed25519 public key")
            return None

    def _trusted_key(
        self, own: Ed25519PublicKey | None
    ) -> tuple[Ed25519PublicKey | None, KeySource | None]:
        """Return the key that signatures are checked with, and why it is trusted."""
        if self._given is not None:
            if own is not None and signing.fingerprint(own) != signing.fingerprint(self._given):
                self._refuse(PUBLIC_KEY, "is another key than the one that was given")
            return self._given, KeySource.GIVEN
        if own is None:
            return None, None
        fingerprint = signing.fingerprint(own)
        if self._pinned is not None:
            if fingerprint == self._pinned:
                return own, KeySource.PINNED
            reason = f"has fingerprint {fingerprint}, but {self._pinned} is pinned"
            self._refuse(PUBLIC_KEY, reason)
            return None, None
        if self._trust_on_first_use:
            return own, KeySource.FIRST_USE
        self._refuse(PUBLIC_KEY, "is the only key at hand, and a bundle cannot vouch for itself")
        return None, None

    def _is_signed(
        self, key: Ed25519PublicKey | None, *, listing: bytes | None, signature: bytes | None
    ) -> bool:
        if key is None or listing is None or signature is None:
            return False
        if signing.is_signature(signature, listing, key=key):
            return True
        # Nobody can tell which of the two was changed, so both are named.
        name = signing.fingerprint(key)[:16]
        self._refuse(SIGNATURE, f"is no signature by key {name}… over {CHECKSUMS}")
        self._refuse(CHECKSUMS, f"is not what key {name}… signed")
        return False

    def _parse_checksums(self, content: bytes | None) -> dict[str, str] | None:
        """Return name -> digest; None, with a problem, unless the bytes have their one form."""
        if content is None:
            return None
        digests = checksums.read(content)
        if digests is None or digests.keys() & {CHECKSUMS, SIGNATURE}:
            self._refuse(CHECKSUMS, "is not a sorted list of 'digest, two spaces, name' lines")
            return None
        return digests

    def _check_files(self, source: OpenBundle, digests: dict[str, str] | None) -> None:
        """Compare every file with its digest, and name those that are missing or were added."""
        own = {CHECKSUMS, SIGNATURE, attestation.ATTESTATION} - (digests or {}).keys()
        self._checked = len(own & source.files)
        if digests is None:
            return
        refused = {problem.file for problem in self._problems}
        for name in sorted(digests):
            if name in source.files:
                self._check_file(source, name, digest=digests[name])
            elif name not in refused:
                self._refuse(name, "is missing")
        for name in sorted(source.files - digests.keys() - own):
            self._refuse(name, f"was added: {CHECKSUMS} does not list it")
        needed = {parent.as_posix() for name in digests for parent in Path(name).parents}
        for name in sorted(source.folders - needed):
            self._refuse(name, "was added: it is a folder of no listed file")

    def _check_file(self, source: OpenBundle, name: str, *, digest: str) -> None:
        self._checked += 1
        try:
            if checksums.digest_of(source.read(name)) != digest:
                self._refuse(name, f"was changed: its SHA-256 is not the one in {CHECKSUMS}")
        except UnreadableFile as error:
            self._refuse(name, str(error))

    def _certificate(
        self, source: OpenBundle, digests: dict[str, str], *, key: Ed25519PublicKey
    ) -> ReleaseCertificate | None:
        """Return the certificate, if its very bytes are the ones that were signed."""
        if CERTIFICATE not in digests:
            self._refuse(CERTIFICATE, f"is not listed in {CHECKSUMS}")
            return None
        if CERTIFICATE not in source.files:
            return None
        content = self._document(source, CERTIFICATE, limit=_MAX_DOCUMENT_BYTES)
        # Read anew and compared anew: what is parsed is what was signed.
        if content is None or hashlib.sha256(content).hexdigest() != digests[CERTIFICATE]:
            return None
        try:
            json.loads(content, object_pairs_hook=_distinct_keys)
            certificate = ReleaseCertificate.model_validate_json(content)
        except (ValidationError, ValueError, RecursionError):
            self._refuse(CERTIFICATE, "is no certificate that this version can read")
            return None
        if certificate.signed_by != signing.fingerprint(key):
            self._refuse(CERTIFICATE, "names another signer than the key that signed it")
            return None
        return certificate

    def _check_attestation(
        self,
        source: OpenBundle,
        certificate: ReleaseCertificate | None,
        *,
        listing: bytes,
        key: Ed25519PublicKey,
    ) -> None:
        """Check the in-toto statement; bundles of layout 1 have none, and may not get one later."""
        name = attestation.ATTESTATION
        if certificate is None:
            return
        if certificate.layout == 1:
            if name in source.files and name not in (checksums.read(listing) or {}):
                self._refuse(name, f"was added: {CHECKSUMS} does not list it")
            return
        envelope = self._document(source, name, limit=_MAX_DOCUMENT_BYTES)
        content = self._document(source, CERTIFICATE, limit=_MAX_DOCUMENT_BYTES)
        if envelope is None or content is None:
            return
        reason = attestation.find_problem(
            envelope, listing=listing, certificate=certificate, content=content, key=key
        )
        if reason is not None:
            self._refuse(name, reason)

    def _epsilon(self, certificate: ReleaseCertificate) -> float | None:
        """Return epsilon derived anew from the certificate's mechanisms, and compare it."""
        if not any(mechanism.steps for mechanism in certificate.mechanisms):
            self._refuse(CERTIFICATE, "lists no mechanism, so nothing bears out its epsilon")
            return None
        try:
            epsilon = accounting.epsilon(certificate.mechanisms, certificate.delta)
        except PrivacyError as error:
            self._refuse(CERTIFICATE, f"lists mechanisms that have no epsilon: {error}")
            return None
        # Written so that a stated NaN is refused too.
        if not epsilon <= certificate.epsilon + EPSILON_TOLERANCE:
            self._refuse(
                CERTIFICATE,
                f"states epsilon {certificate.epsilon}, but its mechanisms cost {epsilon:.6f}",
            )
        return epsilon


def _checked_fingerprint(value: str) -> str:
    fingerprint = value.strip().lower()
    if not checksums.is_digest(fingerprint):
        raise InvalidParameter(f"The fingerprint {value!r} was refused: give 64 hex digits.")
    return fingerprint


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("an object names a key twice")
    return dict(pairs)
