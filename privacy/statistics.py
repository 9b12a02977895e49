"""Turn attack scores and coins into numbers that carry their own uncertainty.

Everything here is about persons: one score and one coin each (1 = trained on, 0 = held out), coins
independent and fair. Sources are named function by function; numpy and scipy only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from privacy.errors import InvalidParameter

Floats = NDArray[np.floating]
Coins = NDArray[np.integer]

# Below this many expected false positives a true-positive rate says nothing (guarantees: policy).
MIN_FALSE_POSITIVES = 10
# How surely a threshold lets at least the nominal share of non-members through.
_THRESHOLD_RISK = 0.3
TOP_K = (10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds; `n` is what it was measured on."""

    value: float
    low: float
    high: float
    n: int


def clopper_pearson(successes: int, trials: int, *, error: float) -> tuple[float, float]:
    """Return exact bounds of a proportion; each side alone errs with probability ≤ `error`.

    Clopper and Pearson 1934. No trials give (0, 1): nothing was learnt.
    """
    if not 0 <= successes <= trials:
        raise InvalidParameter(
            f"{successes} successes in {trials} trials were refused: not a count."
        )
    if trials == 0:
        return 0.0, 1.0
    low = stats.beta.ppf(error, successes, trials - successes + 1) if successes else 0.0
    full = successes == trials
    high = 1.0 if full else stats.beta.ppf(1 - error, successes + 1, trials - successes)
    return float(low), float(high)


def auc(scores: Floats, coins: Coins) -> float:
    """Return the probability that a member scores above a non-member (ties count one half)."""
    ranks = stats.rankdata(scores)
    members = coins == 1
    inside, outside = int(members.sum()), int((~members).sum())
    if inside == 0 or outside == 0:
        raise InvalidParameter("An AUC was refused: one arm is empty. Both arms need a person.")
    wins = ranks[members].sum() - inside * (inside + 1) / 2
    return float(wins / (inside * outside))


def auc_interval(scores: Floats, coins: Coins, *, error: float) -> Interval:
    """Return the AUC with DeLong bounds; each side errs with probability about `error`.

    DeLong, DeLong and Clarke-Pearson 1988, by placements, on the logit scale (Pepe 2003) and with
    Student's quantile (Welch 1947): without these the lower bound of an AUC of 0.85 fails twice as
    often as it says. Near 0 and 1, where no variance is left, bounds are those of a share of members,
    or of non-members, of which nobody was misplaced.
    """
    members = coins == 1
    inside, outside = scores[members], scores[~members]
    value = auc(scores, coins)
    of_members, of_others = _placements(inside, outside), _placements(outside, inside)
    flawless = error ** (1 / min(len(inside), len(outside)))
    low, high = flawless, 1 - flawless
    if 0 < value < 1:
        sd = np.sqrt(_spread(of_members) + _spread(of_others)) or _null_sd(inside, outside)
        quantile = stats.t.ppf(1 - error, _degrees_of_freedom(of_members, of_others))
        reach = quantile * sd / (value * (1 - value))
        low = min(low, float(special.expit(special.logit(value) - reach)))
        high = max(high, float(special.expit(special.logit(value) + reach)))
    low, high = min(low, value), max(high, value)
    return Interval(value, low, high, len(scores))


def _placements(these: Floats, others: Floats) -> Floats:
    """Return, for each of `these`, the share of `others` that lie below (ties count one half)."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, these, side="left")
    up_to = np.searchsorted(ordered, these, side="right")
    return np.asarray((below + up_to) / (2 * len(others)))


def _null_sd(inside: Floats, outside: Floats) -> float:
    """Return the standard deviation of an AUC where nothing leaks, for scores that are all equal."""
    pairs = len(inside) * len(outside)
    return float(np.sqrt((len(inside) + len(outside) + 1) / (12 * pairs)))


def _spread(placements: Floats) -> float:
    """Return the variance of the mean of `placements`."""
    return float(np.var(placements, ddof=1) / len(placements)) if len(placements) > 1 else 0.25


def _degrees_of_freedom(first: Floats, second: Floats) -> float:
    """Return Welch's degrees of freedom of the sum of both variances; at least 1."""
    parts = [(_spread(p), len(p) - 1) for p in (first, second)]
    weight = sum(s**2 / max(1, n) for s, n in parts)
    return (
        max(1.0, sum(s for s, _ in parts) ** 2 / weight) if weight > 0 else max(1, len(first) - 1)
    )


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold set on one fold, and the rates that it reaches on the other."""

    nominal_fpr: float
    tpr: Interval
    fpr: Interval


def tpr_at_fpr(
    scores: Floats, coins: Coins, folds: Coins, *, fpr: float, error: float
) -> OperatingPoint | None:
    """Return the true-positive rate on fold 2, at the threshold that fold 1 sets for `fpr`.

    None where fold 2 holds fewer than 10 / `fpr` non-members: too few to say anything. The bounds
    are Clopper-Pearson, exact given the threshold, which fold 2 did not choose. Scores should be
    `untied`: equal ones all count as hits.
    """
    train_out = scores[(folds == 1) & (coins == 0)]
    test_in, test_out = scores[(folds == 2) & (coins == 1)], scores[(folds == 2) & (coins == 0)]
    if len(train_out) * fpr < 1 or len(test_out) * fpr < MIN_FALSE_POSITIVES or not len(test_in):
        return None
    threshold = cautious_threshold(train_out, fpr)
    return OperatingPoint(
        fpr,
        tpr=_rate(test_in >= threshold, error),
        fpr=_rate(test_out >= threshold, error),
    )


def cautious_threshold(non_members: Floats, fpr: float) -> float:
    """Return the highest score seen that over `fpr` of all non-members reach, with chance ≥ 0.7.

    The share above the k-th largest of n is Beta(k, n - k + 1). The plain quantile is too high half
    of the time; the rate measured there is then that of a smaller `fpr`, and its upper bound fails
    more often than it says.
    """
    count = len(non_members)
    ranks = np.arange(1, count + 1)
    risks = stats.beta.cdf(fpr, ranks, count - ranks + 1)
    return float(np.sort(non_members)[-ranks[risks <= _THRESHOLD_RISK][0]])


def untied(scores: Floats, rng: np.random.Generator) -> Floats:
    """Return ranks of scores, equal ones in random order, which sees no coin."""
    ranks = np.empty(len(scores))
    ranks[np.lexsort((rng.random(len(scores)), scores))] = np.arange(len(scores))
    return ranks


def _rate(hits: NDArray[np.bool_], error: float) -> Interval:
    low, high = clopper_pearson(int(hits.sum()), len(hits), error=error)
    return Interval(float(hits.mean()), low, high, len(hits))


def held_out_needed(fpr: float) -> int:
    """Return how many held-out persons give 10 expected false positives on fold 2 (half are there)."""
    return int(np.ceil(2 * MIN_FALSE_POSITIVES / fpr))


def strongest(scores: Mapping[str, Floats], coins: Coins) -> str:
    """Return the name of the attack with the highest AUC; the first one among equals."""
    return max(scores, key=lambda name: auc(scores[name], coins))


def cross_selected_auc(
    scores: Mapping[str, Floats], coins: Coins, folds: Coins, *, error: float
) -> tuple[Interval, tuple[str, str]]:
    """Return the AUC of the strongest attack, chosen on one fold and measured on the other.

    Both directions are averaged; the folds hold different persons, so squared reaches add, each side
    by itself (Zou and Donner 2008). Choosing elsewhere than measuring keeps the maximum over attacks
    from inflating the number.
    """
    chosen: list[str] = []
    parts: list[Interval] = []
    for choose, measure in ((1, 2), (2, 1)):
        there, here = folds == choose, folds == measure
        name = strongest({k: v[there] for k, v in scores.items()}, coins[there])
        chosen.append(name)
        parts.append(auc_interval(scores[name][here], coins[here], error=error))
    value = (parts[0].value + parts[1].value) / 2
    reach_low = np.hypot(parts[0].value - parts[0].low, parts[1].value - parts[1].low) / 2
    reach_high = np.hypot(parts[0].high - parts[0].value, parts[1].high - parts[1].value) / 2
    interval = Interval(
        value, max(0.0, value - float(reach_low)), min(1.0, value + float(reach_high)), len(coins)
    )
    return interval, (chosen[0], chosen[1])


def permuted(coins: Coins, strata: Coins, *, repeats: int, rng: np.random.Generator) -> Floats:
    """Return (repeats + 1, persons) float32 coins: the true row first, then shuffles in strata."""
    rows = np.tile(coins.astype(np.float32), (repeats + 1, 1))
    for stratum in np.unique(strata):
        where = np.flatnonzero(strata == stratum)
        if len(where) > 1:
            rows[1:, where] = rng.permuted(rows[1:, where], axis=1)
    return rows


def max_statistic_test(
    scores: Mapping[str, Floats],
    coins: Coins,
    strata: Coins,
    *,
    repeats: int,
    rng: np.random.Generator,
) -> float:
    """Return one p-value for "no attack of the declared family tells members from non-members".

    Statistics: AUC and members among the k highest scores, for every attack, each standardised
    by its own permutation spread (observed row included, which keeps the test exact), then the
    maximum. Westfall and Young 1993. Ties are broken at random, blind to the coins.
    """
    rows = permuted(coins, strata, repeats=repeats, rng=rng)
    columns: list[Floats] = []
    for values in scores.values():
        columns.append(stats.rankdata(values))
        order = np.lexsort((rng.random(len(values)), -values))
        columns += [
            np.isin(np.arange(len(values)), order[:k]).astype(float)
            for k in TOP_K
            if k <= len(values) // 2
        ]
    statistics = rows @ np.stack(columns, axis=1)
    spread = statistics.std(axis=0)
    standard = (statistics - statistics.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    largest = standard.max(axis=1)
    # Rounding must not turn an exact tie with the observed row into "smaller".
    return float((largest >= largest[0] - 1e-6).mean())
