"""What an audit of this size could have seen: sizes of effects, and sizes of arms.

A quiet audit says little unless it could have spoken. Each function answers for one attack whose
score was fixed beforehand; a choice among several needs a little more.
"""

import math

from scipy import special, stats

from privacy.errors import InvalidParameter

POWER = 0.8


def detectable_auc(inside: int, outside: int, *, error: float, power: float = POWER) -> float:
    """Return the smallest AUC whose lower bound lies above 1/2 with chance `power`; 1 if none does.

    Normal theory with the variance that the rank sum has where nothing leaks (Mann and Whitney 1947).
    It hardly differs from the variance at AUCs as small as these.
    """
    if inside < 1 or outside < 1:
        raise InvalidParameter(
            f"Arms of {inside} and {outside} were refused: each needs at least one unit."
        )
    sd = math.sqrt((inside + outside + 1) / (12 * inside * outside))
    return min(1.0, 0.5 + (_quantile(1 - error) + _quantile(power)) * sd)


def arm_needed_for_auc(tolerance: float, *, error: float, power: float = POWER) -> int:
    """Return units per arm that keep the AUC's upper bound below `tolerance`, with chance `power`.

    For a release that leaks nothing. Raises: InvalidParameter for a tolerance of 1/2 or less.
    """
    if not 0.5 < tolerance <= 1:
        raise InvalidParameter(
            f"The tolerance {tolerance:g} was refused: no audit can show an AUC of 0.5 or less. "
            "Give one above 0.5."
        )
    reach = (_quantile(1 - error) + _quantile(power)) / (tolerance - 0.5)
    # (2 n + 1) / (12 n²) = 1 / reach², solved for n.
    return math.ceil((reach**2 + math.sqrt(reach**4 + 12 * reach**2)) / 12)


def detectable_rate(trials: int, *, chance: float, error: float, power: float = POWER) -> float:
    """Return the smallest success rate whose exact lower bound exceeds `chance`, with chance `power`.

    For a true-positive rate: `trials` members, `chance` the false-positive rate. For one run: `trials`
    guesses, `chance` 1/2. Returns 1 where not even successes alone would do.
    """
    if trials < 1 or stats.binom.sf(trials - 1, trials, chance) > error:
        return 1.0
    # The smallest count whose tail under `chance` is at most the error.
    count = int(stats.binom.isf(error, trials, chance)) + 1
    # P(Bin(n, p) ≥ k) is the regularised incomplete beta function of p.
    return float(stats.beta.ppf(power, count, trials - count + 1))


def _quantile(probability: float) -> float:
    return float(special.ndtri(probability))
