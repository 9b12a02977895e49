"""Find images that are equal byte for byte, and the persons who share one.

Duplicates never change the training set or anyone's arm: the owner is told and mends the source, and
audits leave the flagged persons out of whatever compares arms.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.distances import shows_nobody

DIGEST_BYTES = 16
NOBODY = bytes(DIGEST_BYTES)


@dataclass(frozen=True)
class DuplicateReport:
    """What the data owner is told. `examples` holds file names: show them, never store them."""

    images: int  # images whose pixels occur with more than one person
    persons: int  # persons who share an image with another person
    images_repeated_within_person: int  # harmless for privacy, but often a mistake
    examples: tuple[tuple[str, str], ...]


def content_digest(pixels: NDArray[np.generic]) -> bytes:
    """Return 16 bytes that are equal for equal pixels (shapes are equal throughout an upload)."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=DIGEST_BYTES).digest()


def comparable_digest(pixels: NDArray[np.generic], content: bytes) -> bytes:
    """Return `content`, or what never counts as a duplicate for a picture that shows nobody.

    A black frame in many persons' files says nothing of who they are.
    """
    return NOBODY if shows_nobody(pixels) else content


def find_duplicates(
    digests: NDArray[np.uint8],
    persons: NDArray[np.int32],
    *,
    names: Sequence[str],
    examples: int,
) -> tuple[NDArray[np.bool_], DuplicateReport]:
    """Return who shares an image with another person, and the report.

    Shapes: digests (records, 16), by `comparable_digest`; persons (records,); the flags (persons,).
    """
    flags = np.zeros(int(persons.max()) + 1 if len(persons) else 0, np.bool_)
    shown = np.flatnonzero(digests.any(axis=1))
    digests, persons, names = digests[shown], persons[shown], [names[at] for at in shown.tolist()]
    keys = np.ascontiguousarray(digests).view(f"V{DIGEST_BYTES}").ravel()
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.lexsort((persons, group))
    ordered_group, ordered_person = group[order], persons[order]
    same_group = ordered_group[1:] == ordered_group[:-1]
    same_person = ordered_person[1:] == ordered_person[:-1]
    crossing = np.flatnonzero(same_group & ~same_person)
    shared_groups = np.unique(ordered_group[crossing])
    in_shared = np.isin(group, shared_groups)
    flags[persons[in_shared]] = True
    pairs = tuple((names[order[at]], names[order[at + 1]]) for at in crossing[:examples].tolist())
    return flags, DuplicateReport(
        images=int(sizes[shared_groups].sum()),
        persons=int(flags.sum()),
        images_repeated_within_person=int((same_group & same_person).sum()),
        examples=pairs,
    )
