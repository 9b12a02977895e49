"""Sets of records that somebody hands over -> the evidence that audits look at.

Made for any generator: whoever holds the records it was trained on, records it never saw and what it
made can audit it. Members are spread by fair coins over AUDIT_IN and TRAIN, the others over AUDIT_OUT
and REFERENCE_B, so that attacks that learn do so on other units than they are judged on. Those coins
are tossed after training: they say nothing of who was trained on, `SplitOrigin` does.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privacy.errors import InvalidParameter
from privacy.evidence import Arm, Evidence, SplitOrigin, Visits
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy

LARGEST_VALUE = 1e100
"""Squared distances of larger values overflow."""
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class RecordSet:
    """Records (records, height, width) or (records, columns); persons (records,), counted from 0.

    `ids` are the persons' names in that order, empty where every record is a unit of its own.
    `scores` maps an attack's name to (records,) floats, higher where the generator knows better.
    """

    records: NDArray[np.generic]
    persons: NDArray[np.integer]
    labels: NDArray[np.integer]
    ids: NDArray[np.generic] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    scores: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def person_count(self) -> int:
        """Return how many persons there are."""
        return int(self.persons.max()) + 1 if len(self.persons) else 0


def record_set(
    records: ArrayLike,
    *,
    persons: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    scores: Mapping[str, ArrayLike] | None = None,
    name: str = "a set",
) -> RecordSet:
    """Return checked records: (records, height, width) images or a (records, columns) table.

    `persons` names each record's person, numbers or text; without it every record is a unit of its
    own. `labels` are numbers or text. `scores` are the generator's own, by attack: the higher, the
    better it knows the record.
    Raises: InvalidParameter naming the set and what is wrong with it.
    """
    values = _numbers(name, np.asarray(records))
    count = len(values)
    ids: NDArray[np.generic] = np.empty(0, dtype=np.int64)
    codes: NDArray[np.int64] = np.arange(count)
    if persons is not None:
        ids, codes = _codes(name, "persons", persons, count=count)
    classes: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
    if labels is not None:
        given = np.asarray(labels).reshape(-1)
        classes = _codes(name, "labels", labels, count=count)[1]
        if given.dtype.kind in "iu":
            classes = given.astype(np.int64)
    return RecordSet(values, codes, classes, ids, _scores(name, scores or {}, count=count))


def evidence_of_sets(  # noqa: PLR0913 - three sets, and what is known about them
    members: RecordSet,
    holdout: RecordSet,
    synthetic: RecordSet,
    *,
    reference: RecordSet | None,
    rng: np.random.Generator,
    split: SplitOrigin = SplitOrigin.UNKNOWN,
    target: PrivacyTarget | None = None,
    ids_are_shared: bool = False,
    order: int | None = None,
) -> Evidence:
    """Join the sets into the evidence that audits look at.

    With `reference`, its persons are REFERENCE_A; without, a quarter of the holdout is. `target` is
    what the release claims. `ids_are_shared`: one id in two sets is one person, who is never scored.
    `order`: the column by which rows of a person follow one another, also of a synthetic one.
    Raises: InvalidParameter if the sets hold records of different shape, or the same records, or if
    there is no such column.
    """
    given = [members, holdout] + ([reference] if reference else [])
    _check_alike([*given, synthetic])
    arms = [
        _draw(rng, members.person_count, Arm.AUDIT_IN, Arm.TRAIN),
        _draw(rng, holdout.person_count, Arm.AUDIT_OUT, Arm.REFERENCE_B),
    ]
    if reference is not None:
        arms.append(np.full(reference.person_count, Arm.REFERENCE_A, dtype=np.int8))
    else:
        clean = np.flatnonzero(arms[1] == Arm.REFERENCE_B)
        arms[1][clean[rng.random(len(clean)) < _HALF]] = Arm.REFERENCE_A
    offsets = np.cumsum([0, *(item.person_count for item in given)])
    people = int(offsets[-1])
    excluded = _with_a_double(given, offsets)
    if ids_are_shared:
        excluded |= _with_a_namesake(given)
    if excluded[offsets[1] : offsets[2]].all():
        raise InvalidParameter(
            "The holdout was refused: every person in it has a record, or an id, that somebody else "
            "has too. Give records that the generator never saw."
        )
    return Evidence(
        modality="image" if members.records.ndim == 3 else "table",
        unit=UnitOfPrivacy.PERSON if any(len(s.ids) for s in given) else UnitOfPrivacy.RECORD,
        records=np.concatenate([item.records for item in given]),
        labels=np.concatenate([item.labels for item in given]),
        persons=np.concatenate(
            [item.persons + start for item, start in zip(given, offsets, strict=False)]
        ),
        arms=np.concatenate(arms),
        folds=_draw(rng, people, 1, 2),
        excluded=excluded,
        samples=synthetic.records,
        sample_labels=synthetic.labels,
        target=target,
        record_scores=_joined_scores(given),
        split=split,
        visits=None if order is None else _visits(synthetic, order),
    )


def _visits(synthetic: RecordSet, order: int) -> Visits:
    """Return whose the samples are, and which column they follow."""
    if synthetic.records.ndim != 2 or not 0 <= order < synthetic.records.shape[1]:
        raise InvalidParameter(
            f"The order {order} was refused: samples have shape {synthetic.records.shape}. Give the "
            "place of a column of a table, counted from 0."
        )
    if not len(synthetic.ids):
        raise InvalidParameter(
            "The order was refused: no sample says whose it is. Give record_set(..., persons=...)."
        )
    return Visits(order, synthetic.persons)


def same_ids(sets: Sequence[RecordSet]) -> int:
    """Return how many person ids stand in more than one set."""
    return int(sum(counts > 1 for counts in _id_counts(sets).values()))


def _id_counts(sets: Sequence[RecordSet]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for item in sets:
        for name in item.ids.tolist():
            found[name] = found.get(name, 0) + 1
    return found


def _with_a_namesake(sets: Sequence[RecordSet]) -> NDArray[np.bool_]:
    """Return which persons have an id that stands in another set as well."""
    counts = _id_counts(sets)
    flags = [
        [counts[name] > 1 for name in item.ids.tolist()] or [False] * item.person_count
        for item in sets
    ]
    return np.asarray([flag for part in flags for flag in part], dtype=np.bool_)


def _joined_scores(sets: Sequence[RecordSet]) -> dict[str, NDArray[np.floating]]:
    """Return scores over all records, NaN where a set has none of that name."""
    names = sorted({name for item in sets for name in item.scores})
    absent = (np.full(len(item.records), np.nan) for item in sets)
    blank = list(absent)
    return {
        name: np.concatenate(
            [item.scores.get(name, none) for item, none in zip(sets, blank, strict=True)]
        )
        for name in names
    }


def _numbers(name: str, records: NDArray[Any]) -> NDArray[Any]:
    """Return the records as numbers that distances are defined for."""
    if records.ndim not in {2, 3} or not len(records):
        raise InvalidParameter(
            f"{name} was refused: it has shape {records.shape}. Give images of shape (records, "
            "height, width) or a table of shape (records, columns), with one record at least."
        )
    if records.dtype == np.bool_:
        return records.astype(np.uint8)
    if records.dtype.kind not in "iuf":
        raise InvalidParameter(
            f"{name} was refused: its values are of type {records.dtype}. Give whole or real "
            "numbers; code categories as numbers."
        )
    if not records[0].size:
        raise InvalidParameter(f"{name} was refused: its records hold no values.")
    if records.dtype.kind != "f":
        return records
    fits = np.isfinite(records) & (np.abs(records) <= LARGEST_VALUE)
    if not fits.all():
        first = tuple(int(place) for place in np.argwhere(~fits)[0])
        names = ("row", "column") if records.ndim == 2 else ("image", "row", "column")
        where = ", ".join(f"{axis} {place}" for axis, place in zip(names, first, strict=True))
        raise InvalidParameter(
            f"{name} was refused: the value at {where} (counted from 0) is {records[first]}. "
            f"Values must be finite and at most {LARGEST_VALUE:g}; fill in or leave out what is "
            "missing, in every set alike."
        )
    return records


def _codes(
    name: str, what: str, values: ArrayLike, *, count: int
) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """Return the distinct values and each record's place among them."""
    flat = np.asarray(values).reshape(-1)
    if len(flat) != count:
        raise InvalidParameter(
            f"{name} was refused: {what} has {len(flat)} entries for {count} records."
        )
    if flat.dtype.kind not in "biufSU" or (flat.dtype.kind == "f" and np.isnan(flat).any()):
        raise InvalidParameter(
            f"{name} was refused: {what} must be numbers or text without gaps, and is of type "
            f"{flat.dtype}. Give every record one."
        )
    distinct, codes = np.unique(flat, return_inverse=True)
    return distinct, codes.astype(np.int64)


def _scores(
    name: str, scores: Mapping[str, ArrayLike], *, count: int
) -> dict[str, NDArray[np.floating]]:
    """Return finite-or-NaN scores, one per record."""
    found: dict[str, NDArray[np.floating]] = {}
    for attack, values in scores.items():
        column = np.asarray(values, dtype=np.float64).reshape(-1)
        if len(column) != count or np.isinf(column).any():
            raise InvalidParameter(
                f"{name} was refused: the scores {attack!r} must be {count} finite numbers, one per "
                f"record (NaN where there is none); there are {len(column)}."
            )
        found[attack] = column
    return found


def _draw(rng: np.random.Generator, count: int, heads: int, tails: int) -> NDArray[np.int8]:
    return np.where(rng.random(count) < _HALF, heads, tails).astype(np.int8)


def _check_alike(sets: Sequence[RecordSet]) -> None:
    first = sets[0].records
    for other in sets[1:]:
        if other.records.shape[1:] != first.shape[1:]:
            raise InvalidParameter(
                f"The sets were refused: one holds records of shape {first.shape[1:]}, another of "
                f"{other.records.shape[1:]}. Bring all to one shape."
            )


def _with_a_double(sets: Sequence[RecordSet], offsets: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which persons have a record that another person has too: they are never scored."""
    owner: dict[bytes, int] = {}
    doubled = np.zeros(int(offsets[-1]), dtype=np.bool_)
    for item, start in zip(sets, offsets, strict=False):
        for record, person in zip(item.records, item.persons + start, strict=True):
            digest = hashlib.sha256(np.ascontiguousarray(record).tobytes()).digest()
            first = owner.setdefault(digest, int(person))
            if first != person:
                doubled[[first, int(person)]] = True
    return doubled
