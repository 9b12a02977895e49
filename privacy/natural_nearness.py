"""How near real records of different persons come by nature: a law for ratios, and the nearest pairs.

Two ways of telling which nearness of a sample is a finding. Ratios of distances follow a power law,
which says what is to be expected far beyond the nearest pair that was seen. Where no such law is known
(cells of a table), the nearest pairs themselves are the measure: of as many fresh rows, how many come
nearer than the second nearest pair?
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

_FEWEST_LOOKS = 200


@dataclass(frozen=True)
class PowerLaw:
    """P(ratio < x) = share * (x / edge) ** exponent, for x below `edge`."""

    share: float
    edge: float
    exponent: float
    lowest: Floats

    def threshold(self, probability: float) -> float:
        """Return the ratio that a fresh record falls below with `probability`."""
        return float(min(self.edge, self.edge * (probability / self.share) ** (1 / self.exponent)))

    def count_below(self, threshold: float) -> int:
        """Return how many of the real records lie below `threshold`."""
        return int((self.lowest < threshold).sum())


def fit_power_law(ratios: Floats, *, tail: float = 0.2, trim: float = 0.02) -> PowerLaw | None:
    """Fit the lower tail of real-to-real ratios; None below 200 of them.

    The few lowest are trimmed, so that natural duplicates do not hide the law (they come back
    through `count_below`), and the exponent is taken at its lower 95 % bound, so that the
    extrapolation errs towards more chance matches.
    """
    if len(ratios) < _FEWEST_LOOKS:
        return None
    ordered = np.sort(ratios)
    last, first = int(tail * len(ordered)), max(2, int(trim * len(ordered)))
    low, edge = float(ordered[first]), float(ordered[last])
    if not 0 < low < edge < 1:
        return None
    mean_log = float(np.log(edge / ordered[first:last]).mean())
    span = float(np.log(edge / low))
    exponent = _truncated_exponent(mean_log, span)
    lower = exponent * (1 - 1.645 / np.sqrt(last - first))
    if lower <= 0.5:
        return None
    return PowerLaw(tail, edge, lower, ordered)


def _truncated_exponent(mean_log: float, span: float) -> float:
    """Return the maximum-likelihood rate of an exponential cut off at `span`, by bisection."""

    def expected(rate: float) -> float:
        return float(1 / rate - span / np.expm1(min(rate * span, 700.0)))

    low, high = 1e-3, 1e4
    for _ in range(100):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if expected(middle) > mean_log else (low, middle)
    return low


@dataclass(frozen=True)
class NearestPairs:
    """Real records and whom each of them is nearest to: lowest first, pairs of persons counted once.

    `threshold` is the nearness of one more pair than the `pairs` that lie below it, and `looks` as many
    independent records as tell so much: both persons of a pair, and all of their rows, see it.
    """

    threshold: float
    pairs: int
    looks: float

    def chance_of(self, inside: int, outside: int, *, samples: int, share: float) -> float:
        """Return how likely fresh records come so near to `inside` or more of some `share` of persons.

        `outside` of the others were met as well. The threshold is an order statistic of real records,
        so where samples are exchangeable with them the law of the count is negative hypergeometric,
        here its limit for rare matches, whatever the law of distances (Wilks 1941).
        """
        others = self.looks + samples * (1 - share)
        odds = others / (others + samples * share)
        return float(stats.nbinom.sf(inside - 1, self.pairs + 1 + outside, odds))


def nearest_pairs(ratios: Floats, pairs: Ints, *, ranks: Sequence[int]) -> tuple[NearestPairs, ...]:
    """Return the pairs of each rank (1 = nearest), as far as there are as many.

    Shapes: ratios, pairs (records,), the latter a number of the two persons, in either order.
    """
    if len(ratios) < _FEWEST_LOOKS:
        return ()
    order = np.argsort(ratios, kind="stable")
    _, first = np.unique(pairs[order], return_index=True)
    lowest = order[np.sort(first)]
    found = []
    for rank in ranks:
        if rank > len(lowest):
            continue
        threshold = float(ratios[lowest[rank - 1]])
        seen_by = max(2 * rank, int((ratios <= threshold).sum()))
        found.append(NearestPairs(threshold, rank - 1, len(ratios) * rank / seen_by))
    return tuple(found)
