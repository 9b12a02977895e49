"""Lower bounds on epsilon from guesses: how private a run can at most have been.

One run (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846; Mahloujifar, Melis and Chaudhuri 2024,
arXiv:2410.22235): a fair, independent coin decides who is trained on; r coins, fixed beforehand,
are guessed from the output, and too many right guesses refute a claim. Two worlds: many independent
runs, guessed one by one.

**Why two proofs need no correction, and two families of claims neither.** Each proof bounds from
above the chance, under a claim, of at least so many right guesses. The smaller of two such bounds
is one as well. A claim that is true is refuted only when that chance, for the mechanism as it is, is
at most the error: one event, whatever claims and proofs are looked at. Only another number of
guesses, or another attack, is another event; those share the error (Bonferroni).

What the numbers mean: `value` holds for any mechanism. `gaussian_value` is larger and holds for
mechanisms whose trade-off curve is Gaussian. `claim_p_value` asks about the claimed curve itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from privacy.errors import InvalidParameter
from privacy.statistics import clopper_pearson
from privacy.tradeoffs import LeastChance, gaussian, gaussian_dp_epsilon, of_pairs

Floats = NDArray[np.floating]
Coins = NDArray[np.integer]
Curve = Sequence[tuple[float, float]]

LARGEST_EPSILON = 64.0
LARGEST_MU = 16.0
_PRECISION = 1e-6
_SMALLEST_P_VALUE = 1e-12


@dataclass(frozen=True)
class Guessing:
    """`correct` of `guesses` coins were guessed right, among `persons` that were tossed."""

    persons: int
    guesses: int
    correct: int

    def __post_init__(self) -> None:
        """Refuse what no run can have given."""
        if not 0 <= self.correct <= self.guesses <= self.persons or self.persons < 1:
            raise InvalidParameter(
                f"{self.correct} correct of {self.guesses} guesses over {self.persons} persons were "
                "refused: need correct ≤ guesses ≤ persons."
            )


def one_run_p_value(guessing: Guessing, *, epsilon: float, delta: float) -> float:
    """Return a bound on the chance of so many correct guesses if the run was (epsilon, delta)-DP.

    Steinke et al. 2023, theorem 5.2: a binomial tail, and what delta may add to it.
    """
    guesses, correct = guessing.guesses, guessing.correct
    chance = float(special.expit(epsilon))
    tail = float(stats.binom.sf(correct - 1, guesses, chance))
    if correct == 0 or delta == 0.0:
        return min(1.0, tail)
    steps = np.arange(1, correct + 1)
    mass = np.cumsum(stats.binom.pmf(correct - steps, guesses, chance))
    return min(1.0, tail + 2.0 * guessing.persons * delta * float(np.max(mass / steps)))


def refutes_curve(guessing: Guessing, curve: LeastChance, *, error: float) -> bool:
    """Return whether so many correct guesses have chance < `error` under a trade-off curve.

    Mahloujifar et al. 2024 for two choices, applied to tails. With p_j the chance of j
    correct guesses of n among m, let right_i = Σ_{j≥i} p_j j/m and wrong_i = Σ_{j≥i} p_j (n-j)/m. The curve
    forces wrong_{i-1} ≥ least(right_i). Were the tail at `correct` as likely as `error`, the sums from
    there down to 0 would have to fit into right_0 + wrong_0 = n/m; if they do not, it is not.
    """
    persons, guesses, correct = guessing.persons, guessing.guesses, guessing.correct
    whole = guesses / persons
    right = error * correct / persons
    wrong = error * (guesses - correct) / persons
    for count in range(correct - 1, -1, -1):
        raised = max(wrong, curve(right))
        if raised == wrong:
            break
        right = min(1.0, right + count / (guesses - count) * (raised - wrong))
        wrong = raised
        if right + wrong > whole:
            return True
    return right + wrong > whole


def curve_p_value(guessing: Guessing, pairs: Curve) -> float:
    """Return a bound on the chance of so many correct guesses if all (epsilon, delta) `pairs` hold.

    The smaller of both proofs' bounds; down to 1e-12.
    """
    steinke = min(one_run_p_value(guessing, epsilon=e, delta=d) for e, d in pairs)
    curve = of_pairs(pairs)
    if not refutes_curve(guessing, curve, error=min(0.999, steinke)):
        return steinke
    low, high = math.log(_SMALLEST_P_VALUE), math.log(min(0.999, steinke))
    for _ in range(30):
        middle = (low + high) / 2
        refuted = refutes_curve(guessing, curve, error=math.exp(middle))
        low, high = (low, middle) if refuted else (middle, high)
    return math.exp(high)


def one_run_epsilon(guessing: Guessing, *, delta: float, error: float) -> float:
    """Return the largest epsilon that Steinke's test refutes at level `error`, or 0."""
    return _largest(
        lambda epsilon: one_run_p_value(guessing, epsilon=epsilon, delta=delta) <= error,
        above=0.0,
        limit=LARGEST_EPSILON,
    )


def one_run_gaussian_epsilon(guessing: Guessing, *, delta: float, error: float) -> float:
    """Return the epsilon at `delta` of the largest mu-Gaussian curve that is refuted, or 0."""
    mu = _largest(
        lambda mu: refutes_curve(guessing, gaussian(mu), error=error), above=0.0, limit=LARGEST_MU
    )
    return gaussian_dp_epsilon(mu, delta)


def _refutes_pair(guessing: Guessing, *, epsilon: float, delta: float, error: float) -> bool:
    """Return whether one of the two proofs refutes (epsilon, delta)-DP, whatever the mechanism."""
    if one_run_p_value(guessing, epsilon=epsilon, delta=delta) <= error:
        return True
    return refutes_curve(guessing, of_pairs([(epsilon, delta)]), error=error)


def _largest(refuted: Callable[[float], bool], *, above: float, limit: float) -> float:
    """Return the largest refuted value, rounded down; `above` where not even that is refuted."""
    if not refuted(above):
        return above
    low, high = above, above + 1.0
    while refuted(high):
        if high >= limit:
            return limit
        low, high = high, 2 * high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def any_epsilon(guessing: Guessing, *, delta: float, error: float, above: float = 0.0) -> float:
    """Return the largest epsilon > `above` that either proof refutes, else `above`."""
    return _largest(
        lambda epsilon: _refutes_pair(guessing, epsilon=epsilon, delta=delta, error=error),
        above=above,
        limit=LARGEST_EPSILON,
    )


@dataclass(frozen=True)
class EpsilonBound:
    """Lower bounds on epsilon that are all true with probability 1 - `error`, and their ceilings.

    `value`, from `correct` of `guesses` by `attack`, holds for any mechanism; `gaussian_value` for a
    Gaussian trade-off curve. `claim_p_value` is None without a claimed curve.
    """

    value: float
    attack: str
    guesses: int
    correct: int
    max_certifiable: float
    gaussian_value: float
    gaussian_max_certifiable: float
    claim_p_value: float | None
    persons: int
    error: float


def epsilon_lower_bound(
    scores: Mapping[str, Floats],
    coins: Coins,
    *,
    delta: float,
    grid: Sequence[int],
    error: float,
    rng: np.random.Generator,
    claim: Curve = (),
) -> EpsilonBound:
    """Return lower bounds on epsilon that are wrong with probability ≤ `error`, all together.

    For each attack and each declared number r of guesses, the r/2 highest scores are guessed to be
    members and the r/2 lowest to be non-members. Bonferroni over attacks times grid. Scores must
    not have seen the coins. Ceilings are what all guesses right would have given.
    """
    persons = len(coins)
    usable = sorted({2 * (r // 2) for r in grid if 2 <= r <= persons})
    if not usable or not scores:
        raise InvalidParameter(
            f"An epsilon bound was refused: {persons} persons, {len(scores)} attacks, "
            f"guesses {list(grid)}. It needs an attack and at least {min(grid)} persons."
        )
    share = error / (len(usable) * len(scores))
    tried = [
        (name, Guessing(persons, r, right))
        for name, values in scores.items()
        for r, right in zip(usable, _right_guesses(values, coins, usable, rng), strict=True)
    ]
    # The most telling first, so that most of the others end after one look.
    tried.sort(key=lambda t: stats.binom.logsf(t[1].correct - 1, t[1].guesses, 0.5))
    value, mu, attack, best = 0.0, 0.0, *tried[0]
    for name, guessing in tried:
        found = any_epsilon(guessing, delta=delta, error=share, above=value)
        if found > value:
            value, attack, best = found, name, guessing
        mu = _largest(_gaussian_test(guessing, share), above=mu, limit=LARGEST_MU)
    ceilings = [_ceilings(persons, r, delta, share) for r in usable]
    return EpsilonBound(
        value=value,
        attack=attack,
        guesses=best.guesses,
        correct=best.correct,
        max_certifiable=max(c[0] for c in ceilings),
        gaussian_value=gaussian_dp_epsilon(mu, delta),
        gaussian_max_certifiable=max(c[1] for c in ceilings),
        claim_p_value=_claim_p_value([g for _, g in tried], claim) if claim else None,
        persons=persons,
        error=error,
    )


def _gaussian_test(guessing: Guessing, error: float) -> Callable[[float], bool]:
    return lambda mu: refutes_curve(guessing, gaussian(mu), error=error)


def _right_guesses(
    values: Floats, coins: Coins, sizes: Sequence[int], rng: np.random.Generator
) -> list[int]:
    """Return how many of r guesses are right, for each r; equal scores in random order."""
    order = np.lexsort((rng.random(len(coins)), values))
    return [
        int(coins[order[-(r // 2) :]].sum() + (1 - coins[order[: r // 2]]).sum()) for r in sizes
    ]


@lru_cache(maxsize=512)
def _ceilings(persons: int, guesses: int, delta: float, error: float) -> tuple[float, float]:
    """Return both bounds for all guesses right."""
    perfect = Guessing(persons, guesses, guesses)
    return (
        any_epsilon(perfect, delta=delta, error=error),
        one_run_gaussian_epsilon(perfect, delta=delta, error=error),
    )


def _claim_p_value(tried: Sequence[Guessing], claim: Curve) -> float:
    """Return Bonferroni's p-value for the claimed curve over everything that was tried."""
    curve, smallest = of_pairs(claim), 1.0 / len(tried)
    for guessing in tried:
        promising = refutes_curve(guessing, curve, error=smallest) or any(
            one_run_p_value(guessing, epsilon=e, delta=d) < smallest for e, d in claim
        )
        if promising:
            smallest = min(smallest, curve_p_value(guessing, claim))
    return min(1.0, smallest * len(tried))


@dataclass(frozen=True)
class TwoWorlds:
    """What fixed guesses did in independent runs with the unit (`hits`) and without (`false_hits`).

    The rule that guesses must come from other runs. Canaries of one run are not independent runs.
    """

    hits: int
    runs_with: int
    false_hits: int
    runs_without: int


def two_world_epsilon(seen: TwoWorlds, *, delta: float, error: float) -> float:
    """Return an epsilon that runs in two worlds refute, wrong with probability ≤ `error`, or 0.

    Jagielski, Ullman and Oprea 2020 (arXiv:2006.07709): Clopper-Pearson for both rates, each at half
    the error; both directions of the claim follow from the same two bounds.
    """
    tpr, fpr = _rates(seen, error)
    bounds = [0.0]
    for sure, rare in ((tpr, fpr), (1 - fpr, 1 - tpr)):
        if sure > delta and rare > 0:
            bounds.append(math.log((sure - delta) / rare))
    return max(bounds)


def two_world_gaussian_epsilon(seen: TwoWorlds, *, delta: float, error: float) -> float:
    """Return the same for a mechanism whose curve is Gaussian; Nasr et al. 2023, arXiv:2302.07956."""
    tpr, fpr = _rates(seen, error)
    mu = float(special.ndtri(tpr) - special.ndtri(fpr))
    return gaussian_dp_epsilon(mu, delta) if math.isfinite(mu) else 0.0


def _rates(seen: TwoWorlds, error: float) -> tuple[float, float]:
    """Return a lower bound of the hit rate and an upper bound of the false one."""
    tpr, _ = clopper_pearson(seen.hits, seen.runs_with, error=error / 2)
    _, fpr = clopper_pearson(seen.false_hits, seen.runs_without, error=error / 2)
    return tpr, fpr
