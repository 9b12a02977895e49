"""Draws who is trained on: reference set, audit pool, one fair coin and one fold per person.

Every draw is a pseudorandom function (HMAC-SHA256) of a secret key and the person's stable digest,
so nobody's arm depends on anybody else, and a later version of the data finds each person where
they were. The key of the reference set belongs to the cohort; the key of the pool and its coins
is fresh for each run. Coins are never balanced or stratified: the one-run bound on epsilon needs
them independent (Steinke, Nasr & Jagielski 2023, arXiv:2305.08846).

The commitment made before a run is salted: an unsalted digest of a plan or a key would let an
outsider test guesses. This module stores nothing and draws no secret itself.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray

from privacy.errors import DigestMismatch, InvalidParameter
from privacy.evidence import Arm

DIGEST_BYTES = 32
KEY_BYTES = 32
# The pool needs members on both sides of the coin; more than this buys no more power.
_POOL_PERSONS = 2000
_REFERENCE_PERSONS = 500
_LARGEST_SHARE = 0.20
_USUAL_REFERENCE_SHARE = 0.10
# Below this, a fifth of the cohort is too few for a reference set to teach anything.
_SMALL_COHORT_PERSONS = 1000

# Words of one PRF output are independent draws; these constants say which word decides what.
_WORD_SELECT, _WORD_HALF, _WORD_COIN, _WORD_FOLD = 0, 1, 2, 3
_WORD_RANGE = 2**64


@dataclass(frozen=True)
class Rates:
    """Chances, 0-1, that a person is in the reference set, and that they are in the audit pool.

    Both are shares of the whole cohort: P(reference) = reference, P(pool) = pool.
    """

    reference: float
    pool: float

    def __post_init__(self) -> None:
        """Refuse shares that leave nobody to train on."""
        for name in ("reference", "pool"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidParameter(
                    f"The {name} rate {getattr(self, name)} was refused: give a share from 0 to 1."
                )
        if not self.reference + self.pool / 2 < 1:
            raise InvalidParameter(
                f"Rates {self.reference} and {self.pool} were refused: they leave nobody to train "
                "on. Lower one of them."
            )
        if self.reference + self.pool > 1:
            raise InvalidParameter(
                f"Rates {self.reference} and {self.pool} were refused: they add up to more than 1."
            )


def rates_for(declared_count: int) -> Rates:
    """Return the shares for a cohort of `declared_count` persons, from that public number alone."""
    if declared_count < 1:
        raise InvalidParameter(f"A count of {declared_count} was refused: declare at least 1.")
    pool = min(_LARGEST_SHARE, _POOL_PERSONS / declared_count)
    if declared_count < _SMALL_COHORT_PERSONS:
        return Rates(reference=_USUAL_REFERENCE_SHARE, pool=pool)
    wanted = max(_USUAL_REFERENCE_SHARE, _REFERENCE_PERSONS / declared_count)
    return Rates(reference=min(_LARGEST_SHARE, wanted), pool=pool)


def assign_arms(
    person_digests: NDArray[np.uint8], *, reference_key: bytes, run_key: bytes, rates: Rates
) -> NDArray[np.int8]:
    """Draw every person's arm, independently of every other person.

    Shapes: person_digests (persons, 32) -> (persons,) values of `Arm`.
    Raises: InvalidParameter for keys shorter than 32 bytes, equal keys, or a person listed twice.
    """
    _check_digests(person_digests)
    if hmac.compare_digest(reference_key, run_key):
        raise InvalidParameter(
            "The run key was refused: it equals the cohort's reference key. Derive a fresh one."
        )
    cohort = _words(person_digests, reference_key, purpose=b"kaima reference set v1")
    run = _words(person_digests, run_key, purpose=b"kaima audit pool v1")
    # Given "not in R", so that the share of the whole cohort is rates.pool.
    pool_given_not_reference = rates.pool / (1 - rates.reference)
    arms = np.full(len(person_digests), Arm.TRAIN, dtype=np.int8)
    in_pool = _below(run[:, _WORD_SELECT], pool_given_not_reference)
    heads = _is_odd(run[:, _WORD_COIN])
    arms[in_pool & heads] = Arm.AUDIT_IN
    arms[in_pool & ~heads] = Arm.AUDIT_OUT
    # Last, so that a person of R stays in R whatever this run's key says.
    in_reference = _below(cohort[:, _WORD_SELECT], rates.reference)
    in_half_a = _is_odd(cohort[:, _WORD_HALF])
    arms[in_reference & in_half_a] = Arm.REFERENCE_A
    arms[in_reference & ~in_half_a] = Arm.REFERENCE_B
    return arms


def assign_folds(person_digests: NDArray[np.uint8], *, run_key: bytes) -> NDArray[np.int8]:
    """Draw every person's fold: attacks learn on 1 and guess on 2.

    Shapes: person_digests (persons, 32) -> (persons,) values 1 or 2.
    """
    _check_digests(person_digests)
    run = _words(person_digests, run_key, purpose=b"kaima audit pool v1")
    return np.where(_is_odd(run[:, _WORD_FOLD]), 1, 2).astype(np.int8)


def commit(plan: Mapping[str, Any], *, salt: bytes) -> str:
    """Return the commitment to a JSON-ready plan: SHA-256(salt || canonical bytes), hex."""
    return commit_bytes(rfc8785.dumps(dict(plan)), salt=salt)


def commit_bytes(document: bytes, *, salt: bytes) -> str:
    """Return SHA-256(salt || document), hex: binding to the bytes, and silent about them.

    Use a fresh 256-bit salt for each document: opening one commitment reveals its salt.
    """
    _check_key("salt", salt, exact=True)
    return hashlib.sha256(salt + document).hexdigest()


def check_commitment(plan: Mapping[str, Any], *, salt: bytes, commitment: str) -> None:
    """Refuse a plan that is not the one committed to.

    Raises: DigestMismatch.
    """
    if not hmac.compare_digest(commit(plan, salt=salt).encode(), commitment.encode()):
        raise DigestMismatch(
            f"The plan was refused: it does not open the commitment {commitment[:16]}… that was "
            "recorded before the run. Audit the run with the plan it was started with."
        )


def _words(digests: NDArray[np.uint8], key: bytes, *, purpose: bytes) -> NDArray[np.uint64]:
    """Return four independent 64-bit words per person: HMAC-SHA256(key, purpose || digest)."""
    _check_key("key", key)
    prefix = len(purpose).to_bytes(2, "big") + purpose
    out = b"".join(hmac.digest(key, prefix + row.tobytes(), "sha256") for row in digests)
    return np.frombuffer(out, dtype=">u8").reshape(len(digests), 4).astype(np.uint64)


def _below(words: NDArray[np.uint64], rate: float) -> NDArray[np.bool_]:
    # 2**64 itself does not fit the word, so certainty is a case of its own.
    if rate >= 1:
        return np.ones(len(words), dtype=np.bool_)
    return words < np.uint64(int(rate * _WORD_RANGE))


def _is_odd(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return (words & np.uint64(1)).astype(np.bool_)


def _check_digests(digests: NDArray[np.uint8]) -> None:
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != DIGEST_BYTES:
        raise InvalidParameter(
            f"Person digests of shape {digests.shape} and type {digests.dtype} were refused: "
            f"give (persons, {DIGEST_BYTES}) of type uint8."
        )
    if len({row.tobytes() for row in digests}) != len(digests):
        raise InvalidParameter(
            "Person digests were refused: a person is listed twice. List each person once."
        )


def _check_key(name: str, key: bytes, *, exact: bool = False) -> None:
    if len(key) < KEY_BYTES or (exact and len(key) != KEY_BYTES):
        wanted = f"{'exactly' if exact else 'at least'} {KEY_BYTES}"
        raise InvalidParameter(
            f"A {name} of {len(key)} bytes was refused: give {wanted} random bytes."
        )
