"""Turn patient ids into keyed digests, and digests into the dense index that blobs use.

The digest is HMAC-SHA256 under the tenant's key, so the same person is recognised in another upload of
the tenant and nobody without the key can test an id. Persons are numbered in the order of their
digests: the number says nothing about the order of the upload.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.domain.persons import FLOAT_REMEDY, canonical_person, is_float
from workers.intake.refusal import refused

DIGEST_BYTES = 32


def person_digest(tenant_key: bytes, patient_id: str) -> bytes:
    """Return HMAC-SHA256(tenant key, canonical patient id)."""
    return hmac.digest(tenant_key, canonical_person(patient_id), hashlib.sha256)


def check_person(patient_id: str, *, file: str, where: str = "") -> None:
    """Refuse an id that is a whole number written as a float; `where` ends the sentence.

    Raises: InputRefused, which never holds the id.
    """
    if is_float(patient_id):
        raise refused(
            f"a patient id looks like a decimal number{where}",
            file=file,
            value="a whole number written as a float, such as 17.0 or 1e+16",
            limit="one spelling of a person in all uploads",
            remedy=FLOAT_REMEDY,
        )


def record_digest(
    tenant_key: bytes, pixels: NDArray[np.generic], *, label: int, occurrence: int
) -> bytes:
    """Return the digest of a record that is its own unit, from its pixels and its label index.

    Records of one upload that are equal in both are distinct units, told apart by `occurrence` (0
    for the first): each gets its own arm, and the same upload gives the same digests again. Being
    equal, they are exchangeable, so nobody's arm depends on another record; with another label,
    which of two came first would decide about both.
    """
    suffix = label.to_bytes(8, "big") + occurrence.to_bytes(8, "big")
    return hmac.digest(tenant_key, b"record\x00" + _canonical(pixels) + suffix, hashlib.sha256)


def keyed_content_digest(tenant_key: bytes, pixels: NDArray[np.generic]) -> bytes:
    """Return the keyed digest of an image alone: whoever it is of, whatever is declared about it.

    It recognises the same data in another dataset, under other ids or another unit of privacy.
    """
    return hmac.digest(tenant_key, b"content\x00" + _canonical(pixels), hashlib.sha256)


def _canonical(pixels: NDArray[np.generic]) -> bytes:
    """Return the pixels' bytes, the same for 8 and 16 bits; shapes are told apart."""
    content: bytes = pixels.astype("<u2").tobytes()
    return struct.pack(">II", *pixels.shape) + content


def number_persons(digests: Sequence[bytes]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the person of each record and the digest of each person.

    Shapes: (records,) index into the persons; (persons, 32), ascending.
    """
    distinct = sorted(set(digests))
    index = {digest: number for number, digest in enumerate(distinct)}
    persons = np.fromiter((index[digest] for digest in digests), np.int32, len(digests))
    table = np.frombuffer(b"".join(distinct), np.uint8).reshape(len(distinct), DIGEST_BYTES)
    return persons, table
