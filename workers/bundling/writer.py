"""Writes a whole release bundle: every chosen format in one pass, documents, checksums, signature.

Each image is encoded once and handed to all formats, so that they cannot differ and memory holds
one row group, however large the set.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import attestation, bundle, signing
from privacy.manifests import ReleaseCertificate
from service.domain.declarations import ReleaseDeclaration
from workers.bundling import contents, croissant, dicom_files, image_folder, medmnist, words
from workers.bundling import parquet_files as parquet
from workers.bundling.records import Record, SyntheticSet

Progress = Callable[[int, int], None]


class _Writer(Protocol):
    def add(self, record: Record) -> None: ...

    def close(self) -> None: ...


def write_bundle(
    root: Path,
    synthetic: SyntheticSet,
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
    _write_formats(root, synthetic, certificate=certificate, declared=declared, progress=progress)
    words.write(root, synthetic, certificate=certificate, declared=declared, terms=terms)
    croissant.write(root, certificate, declared)
    (root / bundle.CERTIFICATE).write_bytes(certificate.canonical())
    (root / bundle.PUBLIC_KEY).write_bytes(signing.public_key_pem(key))
    contents.check(root, certificate)
    bundle.write_checksums(root)
    bundle.sign_bundle(root, key)
    attestation.write(root, certificate, key=key)


def _write_formats(
    root: Path,
    synthetic: SyntheticSet,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    progress: Progress,
) -> None:
    chosen = certificate.formats
    writers: list[_Writer] = []
    if image_folder.NAME in chosen:
        writers.append(image_folder.ImageFolderWriter(root, synthetic))
    if parquet.NAME in chosen:
        writers.append(parquet.ParquetWriter(root, synthetic))
    if dicom_files.NAME in chosen:
        shared = dicom_files.describe(certificate, declared)
        writers.append(dicom_files.DicomWriter(root, synthetic, shared=shared))
    for record in synthetic.records():
        for writer in writers:
            writer.add(record)
        if record.number % 100 == 0:
            progress(record.number, len(synthetic.labels))
    for writer in writers:
        writer.close()
    if medmnist.NAME in chosen:
        medmnist.write_npz(root, synthetic, name=certificate.name)
