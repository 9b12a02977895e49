"""Writes a whole release bundle: every chosen format, documents, checksums, signature.

What differs between images and a table is a module for each (`workers.bundling.modality`).
"""

from pathlib import Path
from typing import TypedDict

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import attestation, bundle, signing
from privacy.manifests import ReleaseCertificate
from service.domain.declarations import ReleaseDeclaration
from workers.bundling import contents, croissant, images, joint, tables, words
from workers.bundling.joint_rows import SyntheticJoint
from workers.bundling.modality import Modality, Progress, Records_contra
from workers.bundling.records import SyntheticSet
from workers.bundling.table_rows import SyntheticTable


class _Shared(TypedDict):
    """What every kind of records is written with."""

    certificate: ReleaseCertificate
    declared: ReleaseDeclaration
    terms: str
    progress: Progress


def write_bundle(
    root: Path,
    synthetic: SyntheticSet | SyntheticTable | SyntheticJoint,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    terms: str,
    key: Ed25519PrivateKey,
    progress: Progress,
) -> None:
    """Write every file of the bundle into the empty folder `root`, and sign it.

    Raises: InvalidParameter if a file or a key of a document came out that is not on the whitelist.
    """
    shared: _Shared = {
        "certificate": certificate, "declared": declared, "terms": terms, "progress": progress,
    }  # fmt: skip
    if isinstance(synthetic, SyntheticJoint):
        _write_records(root, synthetic, modality=joint, **shared)
    elif isinstance(synthetic, SyntheticTable):
        _write_records(root, synthetic, modality=tables, **shared)
    else:
        _write_records(root, synthetic, modality=images, **shared)
    (root / bundle.CERTIFICATE).write_bytes(certificate.canonical())
    (root / bundle.PUBLIC_KEY).write_bytes(signing.public_key_pem(key))
    contents.check(root, certificate)
    bundle.write_checksums(root)
    bundle.sign_bundle(root, key)
    attestation.write(root, certificate, key=key)


def _write_records(
    root: Path,
    synthetic: Records_contra,
    *,
    modality: Modality[Records_contra],
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    terms: str,
    progress: Progress,
) -> None:
    """Write the records in every format, and the documents about them."""
    modality.write_formats(
        root, synthetic, certificate=certificate, declared=declared, progress=progress
    )
    words.write(
        root, synthetic, modality=modality, certificate=certificate, declared=declared, terms=terms
    )
    croissant.write(root, certificate, declared, modality=modality)
