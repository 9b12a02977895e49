"""What single readers did: calls, sensitivity d' and criterion c, ROC curve, agreement of grades.

Ratings go from 1, "certainly synthetic", to 6, "certainly real"; 4 and more is the call "real". Both
kinds of error stand apart: a reader who calls everything real is right on every real case, and
overall accuracy hides it. How sure these figures are is `privacy.reader_variance`'s.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privacy.errors import InvalidParameter

LEVELS = 6
"""Steps of confidence: 1-3 call synthetic, 4-6 call real. Even, so that nobody can abstain."""
LEAST_REAL = 4
"""The least confidence that calls a case real."""


@dataclass(frozen=True)
class Calls:
    """How often one reader called cases real, and what follows from it.

    `sensitivity` is d' (0: cannot tell), `criterion` is c (negative: leans to "real"). Counts get half
    a call added in each class and one case more (log-linear, Hautus 1995), so that they are finite.
    """

    real_called_real: int
    real: int
    synthetic_called_real: int
    synthetic: int

    @property
    def real_rate(self) -> float:
        """Return P(call real | real)."""
        return self.real_called_real / self.real

    @property
    def synthetic_rate(self) -> float:
        """Return P(call real | synthetic)."""
        return self.synthetic_called_real / self.synthetic

    @property
    def sensitivity(self) -> float:
        """Return d'."""
        hits, alarms = self._scores()
        return hits - alarms

    @property
    def criterion(self) -> float:
        """Return c."""
        hits, alarms = self._scores()
        return -(hits + alarms) / 2

    def _scores(self) -> tuple[float, float]:
        normal = NormalDist()
        return (
            normal.inv_cdf((self.real_called_real + 0.5) / (self.real + 1)),
            normal.inv_cdf((self.synthetic_called_real + 0.5) / (self.synthetic + 1)),
        )


def calls(real: ArrayLike, synthetic: ArrayLike) -> Calls:
    """Count the calls of one reader from ratings 1-6; NaN is a case not read.

    Raises: InvalidParameter for a rating off the scale, or a class without any.
    """
    above, below = _ratings(real, "real"), _ratings(synthetic, "synthetic")
    return Calls(
        int((above >= LEAST_REAL).sum()),
        len(above),
        int((below >= LEAST_REAL).sum()),
        len(below),
    )


def roc_points(real: ArrayLike, synthetic: ArrayLike) -> tuple[tuple[float, float], ...]:
    """Return (P(call real | synthetic), P(call real | real)) at each step of confidence, (0, 0) first."""
    above, below = _ratings(real, "real"), _ratings(synthetic, "synthetic")
    return tuple(
        (float((below >= level).mean()), float((above >= level).mean()))
        for level in range(LEVELS + 1, 0, -1)
    )


def weighted_kappa(first: ArrayLike, second: ArrayLike, *, grades: int) -> float | None:
    """Return the quadratic weighted kappa of two gradings 0 ... grades - 1, or None if none can be.

    Cohen 1968: 1 less the ratio of mean squared disagreement observed to that of chance. None when
    both always gave one and the same grade: there is no disagreement to expect.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    both = ~(np.isnan(one) | np.isnan(other))
    one, other = one[both], other[both]
    for values in (one, other):
        if len(values) and (values.min() < 0 or values.max() >= grades):
            raise InvalidParameter(
                f"A grade of {values.max():g} was refused: the scale ends at {grades - 1}."
            )
    if len(one) == 0:
        return None
    observed = float(((one - other) ** 2).mean())
    expected = float(((one[:, None] - other[None, :]) ** 2).mean())
    return None if expected == 0 else 1 - observed / expected


def _ratings(given: ArrayLike, what: str) -> NDArray[np.float64]:
    values = np.asarray(given, np.float64)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        raise InvalidParameter(f"A reader was refused: no {what} case was rated.")
    if values.min() < 1 or values.max() > LEVELS or not np.all(values == np.round(values)):
        raise InvalidParameter(
            f"The ratings of {what} cases were refused: give whole numbers 1 to {LEVELS}."
        )
    return values
