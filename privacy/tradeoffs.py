"""Trade-off curves as hypotheses: how much alike a claim forces two worlds to look.

The worlds differ in one unit. For an event that has chance r in one of them, a curve states the
smallest chance that it can have in the other: the inverse of the blow-up function 1 - f, with f the
trade-off function of Dong, Roth and Su 2022 (arXiv:1905.02383). All curves here are symmetric, as
adding and removing one unit are both covered.
"""

import math
from collections.abc import Callable, Sequence

from scipy import special

# chance in one world -> smallest chance in the other
LeastChance = Callable[[float], float]

_LARGEST_MU = 64.0
_STEPS = 60  # halvings: far below any number that is shown


def gaussian(mu: float) -> LeastChance:
    """Return the curve of mu-Gaussian DP: two normal distributions that lie mu apart."""

    def least(chance: float) -> float:
        return float(special.ndtr(special.ndtri(chance) - mu))

    return least


def of_pairs(pairs: Sequence[tuple[float, float]]) -> LeastChance:
    """Return the curve of a mechanism that is (epsilon, delta)-DP for every one of `pairs`.

    Wasserman and Zhou 2010; Kairouz, Oh and Viswanath 2015. Leaving pairs out weakens the claim.
    """
    factors = [(math.exp(-e), math.exp(e), d) for e, d in pairs]

    def least(chance: float) -> float:
        best = 0.0
        for shrink, grow, delta in factors:
            best = max(best, shrink * (chance - delta), 1.0 - delta - grow * (1.0 - chance))
        return best

    return least


def gaussian_dp_mu(epsilon: float, delta: float) -> float:
    """Return the mu of the Gaussian mechanism that is exactly (epsilon, delta)-DP, delta > 0."""
    low, high = 1e-9, 1.0
    while _gaussian_delta(epsilon, high) < delta and high < _LARGEST_MU:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _gaussian_delta(epsilon, middle) > delta else (middle, high)
    return high


def gaussian_dp_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon at `delta` > 0 of a mechanism that is exactly mu-Gaussian DP, or 0.

    Dong, Roth and Su 2022, corollary 1, solved for epsilon; rounded down.
    """
    if mu <= 0 or _gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _gaussian_delta(high, mu) > delta:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _gaussian_delta(middle, mu) > delta else (low, middle)
    return low


def _gaussian_delta(epsilon: float, mu: float) -> float:
    """Return the delta of mu-Gaussian DP at `epsilon`; logarithms keep large epsilon finite."""
    ratio = epsilon / mu
    beyond = float(special.ndtr(mu / 2 - ratio))
    return beyond - math.exp(min(0.0, epsilon + float(special.log_ndtr(-mu / 2 - ratio))))


def gaussian_dp_tpr(mu: float, fpr: float) -> float:
    """Return the highest true-positive rate that mu-Gaussian DP permits at `fpr`."""
    return float(special.ndtr(special.ndtri(fpr) + mu))


def gaussian_dp_auc(mu: float) -> float:
    """Return the highest AUC that mu-Gaussian DP permits."""
    return float(special.ndtr(mu / math.sqrt(2)))
