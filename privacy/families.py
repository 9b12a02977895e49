"""The declared family of attacks: what is counted for multiplicity, and what gave no number.

A release can give its members away by lying too near to them and by keeping away from them, so every
declared score is two attacks: itself, and its negation under the name `not_NAME`. Selection, permutation
tests and Bonferroni run over both. An attack that scores too few units, or all alike, was not computed:
it is named, and no gate passes without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Metric

Floats = NDArray[np.floating]

OPPOSITE = "not_"
MISSING = "missing_"
NOT_COMPUTED = "attacks_not_computed"
MOST_MISSING = 0.01
"""Share of units without a score above which an attack counts as not computed."""


@dataclass(frozen=True)
class Family:
    """Finite (units,) scores of every declared attack that was computed; why the others were not."""

    declared: dict[str, Floats]
    idle: dict[str, str]

    @property
    def attacks(self) -> dict[str, Floats]:
        """Return every declared attack and its negation."""
        return self.declared | {OPPOSITE + name: -v for name, v in self.declared.items()}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return how many attacks were not computed, with the reason; nothing where all were."""
        if not self.idle:
            return ()
        why = "; ".join(f"{name.replace('_', ' ')}: {why}" for name, why in self.idle.items())
        return (
            Metric(
                name=NOT_COMPUTED,
                value=float(len(self.idle)),
                direction="context",
                reason=f"not every declared attack was computed ({why})",
            ),
        )


def family_of(scores: Mapping[str, Floats]) -> Family:
    """Return the family that is measured; scores are (units,), not finite where there is none.

    Up to 1 % of units without a score get the median of the others, blind to coins, and missing itself
    becomes an attack: a score that overflows on the very units that were memorised gives them away.
    """
    declared: dict[str, Floats] = {}
    idle: dict[str, str] = {}
    for name, given in scores.items():
        values = np.asarray(given, dtype=np.float64)
        known = np.isfinite(values)
        missing = int((~known).sum())
        if missing > MOST_MISSING * len(values) or not known.any():
            idle[name] = f"no score for {missing} of {len(values)} units"
        elif np.ptp(values[known]) == 0:
            idle[name] = "the same score for every unit"
        else:
            declared[name] = np.where(known, values, np.median(values[known]))
            if missing:
                declared[MISSING + name] = (~known).astype(np.float64)
    return Family(declared, idle)
