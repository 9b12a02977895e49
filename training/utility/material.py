"""What is scored: labelled images with their persons, and what the labels mean."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter

_RULE = re.compile(r"^\s*[\w .-]*?(>=|≥)\s*([^<>=\s]+)\s*$")
GRADES = ("0", "1", "2", "3", "4")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images (N, H, W) integers, labels (N,), persons (N,); without persons each image is its own."""

    images: NDArray[np.integer]
    labels: NDArray[np.integer]
    persons: NDArray[np.integer]

    @classmethod
    def of(
        cls,
        images: NDArray[np.integer],
        labels: NDArray[np.integer],
        persons: NDArray[np.integer] | None = None,
    ) -> Self:
        """Return checked material. Raises: InvalidParameter if the lengths differ."""
        chosen = np.arange(len(images)) if persons is None else np.asarray(persons)
        if images.ndim != 3 or not len(images) == len(labels) == len(chosen):
            raise InvalidParameter(
                f"Images of shape {images.shape} with {len(labels)} labels and {len(chosen)} "
                "persons were refused: give (N, H, W) images and N of each."
            )
        return cls(np.asarray(images), np.asarray(labels, dtype=np.int64), chosen)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Labelled":
        """Return some of the records."""
        return Labelled(self.images[rows], self.labels[rows], self.persons[rows])

    def of_persons(self, persons: NDArray[np.integer]) -> "Labelled":
        """Return all records of some persons."""
        return self.take(np.isin(self.persons, persons))


@dataclass(frozen=True)
class Task:
    """What is predicted: the declared labels, whether they are ordered, and a two-way rule.

    `threshold` is an index into the labels: the rule is "label at or above it". Two labels have the
    rule "the second one". Without a rule, AUC is the mean over labels of one against the rest.
    """

    labels: tuple[str, ...]
    is_ordinal: bool = False
    threshold: int | None = None
    name: str = "label"

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        *,
        name: str = "label",
        rule: str | None = None,
        ordinal: bool | None = None,
    ) -> Self:
        """Return the task of a declared label set.

        Labels are ordered if `ordinal` says so; left open, if they are the grades 0 to 4. `rule`
        reads "NAME>=LABEL" and says nothing about the order of the others. Without one, ordered
        grades 0 to 4 get ">= 2", the definition of radiographic osteoarthritis by Kellgren and
        Lawrence grades (Schiphof et al. 2008, doi:10.1136/ard.2007.079897).
        Raises: InvalidParameter for a rule that names no label.
        """
        known = tuple(labels)
        is_ordinal = known == GRADES if ordinal is None else ordinal
        threshold: int | None = None
        if rule is not None:
            threshold = _threshold(rule, known)
        elif is_ordinal and known == GRADES:
            threshold = 2
        elif len(known) == 2:
            threshold = 1
        return cls(labels=known, is_ordinal=is_ordinal, threshold=threshold, name=name)

    @property
    def kinds(self) -> int:
        """Return how many labels there are."""
        return len(self.labels)

    @property
    def binary_rule(self) -> str | None:
        """Return the two-way rule in words, or None where there is none."""
        if self.threshold is None:
            return None
        sign = "=" if self.kinds == 2 else ">="
        return f"{self.name} {sign} {self.labels[self.threshold]}"

    def rule_as_json(self) -> dict[str, str | None]:
        """Return the two-way rule, or null with what AUC then means."""
        if self.binary_rule is not None:
            return {"binary_rule": self.binary_rule}
        reason = "none was given; AUC is the mean over labels of one against the rest"
        return {"binary_rule": None, "binary_rule_reason": reason}


def _threshold(rule: str, labels: tuple[str, ...]) -> int:
    found = _RULE.match(rule)
    if found is None or found[2] not in labels[1:]:
        raise InvalidParameter(
            f"The rule {rule!r} was refused: write NAME>=LABEL with a label above the lowest, one "
            f"of {', '.join(labels[1:])}."
        )
    return labels.index(found[2])
