"""Membership scores of persons -> the measurements that every membership audit reports.

Attacks differ in what they score; what is measured on the scores does not, so it lives here once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from privacy.epsilon_findings import epsilon_finding, not_bounded
from privacy.evidence import Arm, Finding, Metric
from privacy.families import Family, family_of
from privacy.logistic import fit_logistic
from privacy.neighbourhoods import Population, Survey
from privacy.power import detectable_auc, detectable_rate
from privacy.statistics import (
    Interval,
    auc,
    auc_interval,
    cautious_threshold,
    clopper_pearson,
    cross_selected_auc,
    held_out_needed,
    max_statistic_test,
    tpr_at_fpr,
    untied,
)

Floats = NDArray[np.floating]
MIN_PER_CELL = 20
DETECTABLE_AUC = "detectable_auc"
SMALLEST = 1e-6  # keeps the logarithm of a distance of zero finite
_ROC_POINTS = 200


@dataclass(frozen=True)
class Settings:
    """What the policy fixed beforehand for every membership audit.

    `claim` is the claimed trade-off curve, pairs of (epsilon, delta); empty where nothing is claimed.
    """

    bound_error: float
    epsilon_error: float
    delta: float
    fpr: tuple[float, ...]
    guesses: tuple[int, ...]
    permutations: int
    claim: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Pool:
    """Who is scored: the audit pool, and reference half b beside it. All arrays are (scored,).

    Everybody's arm is an independent draw, so persons of half b are fair non-members for AUC and
    TPR. No coin was `tossed` for them in this run, so permutations and epsilon leave them out.
    """

    persons: NDArray[np.integer]
    coins: NDArray[np.integer]
    folds: NDArray[np.integer]
    strata: NDArray[np.integer]
    tossed: NDArray[np.bool_]

    @property
    def coin_pool(self) -> "Pool":
        """Return the persons whose coin was tossed for this run."""
        return self.where(self.tossed)

    def where(self, chosen: NDArray[np.bool_]) -> "Pool":
        """Return the persons that are chosen. Shapes: (pool,)."""
        return Pool(
            self.persons[chosen],
            self.coins[chosen],
            self.folds[chosen],
            self.strata[chosen],
            self.tossed[chosen],
        )

    def too_small(self) -> str | None:
        """Return why nothing can be measured, or None."""
        smallest = min(
            int(((self.coins == coin) & (self.folds == fold) & self.tossed).sum())
            for coin in (0, 1)
            for fold in (1, 2)
        )
        if smallest >= MIN_PER_CELL:
            return None
        return (
            f"an arm of a fold holds {smallest} of the {MIN_PER_CELL} units that are needed; "
            f"an audit pool of about {5 * MIN_PER_CELL} would do"
        )


def pool_of(population: Population) -> Pool:
    """Return the persons that membership audits score; none who shares a record with another."""
    arms = (Arm.AUDIT_IN, Arm.AUDIT_OUT, Arm.REFERENCE_B)
    persons = np.flatnonzero(np.isin(population.arms, arms) & ~population.excluded)
    return Pool(
        persons=persons,
        coins=(population.arms[persons] == Arm.AUDIT_IN).astype(np.int64),
        folds=population.folds[persons],
        strata=population.strata[persons],
        tossed=population.arms[persons] != Arm.REFERENCE_B,
    )


def fold_two(pool: Pool, rng: np.random.Generator) -> Pool:
    """Return the persons of fold 2, with folds of their own drawn anew, blind to coins."""
    judged = pool.where(pool.folds == 2)
    return replace(judged, folds=rng.integers(1, 3, len(judged.persons)))


def learned_from_coins(features: Floats, pool: Pool, *, ridge: float) -> Floats:
    """Return scores of fold 2 by a regression on the coins of fold 1. Shapes: (pool, F) -> (judged,).

    All NaN where fold 1 is too small to learn from, or where a feature of fold 2 is not finite.
    """
    usable, second = np.asarray(np.isfinite(features).all(axis=1)), pool.folds == 2
    rows = (pool.folds == 1) & usable
    fewest = min(int((pool.coins[rows] == coin).sum()) for coin in (0, 1))
    if fewest < MIN_PER_CELL or not usable[second].all():
        return np.full(int(second.sum()), np.nan)
    regression = fit_logistic(features[rows], pool.coins[rows], ridge=ridge)
    return regression.logits(features[second])


def distance_scores(survey: Survey, pool: Pool) -> dict[str, Floats]:
    """Return the scores that need only distances: nearest and, with a reference set, calibrated."""
    name = survey.spaces[0].name
    to_samples = survey.samples[name].to_samples[pool.persons]
    to_reference = survey.calibration[name].to_reference[pool.persons]
    scores = {"nearest": -to_samples}
    if np.isfinite(to_reference).all():
        with np.errstate(divide="ignore"):  # without a sample in reach: minus infinity
            scores["calibrated"] = np.log((to_reference + SMALLEST) / (to_samples + SMALLEST))
    return scores


def per_person(values: Floats, population: Population, pool: Pool, *, largest: bool) -> Floats:
    """Return (pool,) the mean (or the largest) of each person's finite record values, else NaN."""
    finite = np.isfinite(values)
    count = len(population.arms)
    persons = population.persons[finite]
    if largest:
        out = np.full(count, -np.inf)
        np.maximum.at(out, persons, values[finite])
        return np.asarray(np.where(np.isinf(out), np.nan, out)[pool.persons])
    totals = np.bincount(persons, weights=values[finite], minlength=count)
    counts = np.bincount(persons, minlength=count)
    return np.asarray(np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)[pool.persons])


def measure(
    audit: str,
    scores: Mapping[str, Floats],
    pool: Pool,
    *,
    settings: Settings,
    rng: np.random.Generator,
) -> Finding:
    """Return AUC, TPR at each declared FPR, leak test and epsilon bound for the declared attacks.

    Every attack counts in both directions (`privacy.families`).
    """
    family = family_of(scores)
    attacks = family.attacks
    reason = pool.too_small()
    if not attacks:
        reason = reason or "no attack has scores that differ, for every unit of the audit pool"
    if reason:
        return _not_measured(audit, reason, settings, family)
    ranked = {name: untied(values, rng) for name, values in attacks.items()}
    area, chosen = cross_selected_auc(attacks, pool.coins, pool.folds, error=settings.bound_error)
    coin_pool = pool.coin_pool
    in_pool = {name: values[pool.tossed] for name, values in attacks.items()}
    p_value = max_statistic_test(
        in_pool, coin_pool.coins, coin_pool.strata, repeats=settings.permutations, rng=rng
    )
    epsilon = epsilon_finding(
        in_pool,
        coin_pool.coins,
        delta=settings.delta,
        grid=settings.guesses,
        error=settings.epsilon_error,
        claim=settings.claim,
        rng=rng,
    )
    metrics = [
        _metric("auc", area, settings.bound_error, baseline=0.5),
        *(_tpr_metric(ranked, pool, fpr, settings.bound_error) for fpr in settings.fpr),
        Metric(
            name="leak_p_value", value=p_value, direction="lower_is_riskier", n=len(coin_pool.coins)
        ),
        *epsilon.metrics,
        _detectable_auc(pool, settings.bound_error),
        *family.metrics,
        *(
            _metric(
                f"auc_{name}",
                auc_interval(values, pool.coins, error=settings.bound_error),
                settings.bound_error,
                baseline=0.5,
                direction="context",
            )
            for name, values in family.declared.items()
        ),
    ]
    details: dict[str, object] = {
        "attacks": sorted(family.declared),
        "attacks_without_scores": sorted(family.idle),
        "chosen_on_fold": {"1": chosen[0], "2": chosen[1]},
        **epsilon.details,
        "members": int(pool.coins.sum()),
        "non_members": int((1 - pool.coins).sum()),
        "detectable_tpr": _detectable_tpr(pool, settings),
        "roc": {
            name: _roc(values, pool.coins)
            for name, values in attacks.items()
            if name in family.declared or name in chosen
        },
    }
    return Finding(audit=audit, metrics=tuple(metrics), details=details)


def _not_measured(audit: str, reason: str, settings: Settings, family: Family) -> Finding:
    names = ["auc", *(f"tpr_at_{fpr:g}" for fpr in settings.fpr), "leak_p_value"]
    metrics = [Metric(name=name, value=None, reason=reason) for name in names]
    return Finding(
        audit=audit,
        metrics=(
            *metrics,
            *not_bounded(reason).metrics,
            Metric(name=DETECTABLE_AUC, value=None, direction="context", reason=reason),
            *family.metrics,
        ),
        details={"attacks": [], "attacks_without_scores": sorted(family.idle)},
    )


def _detectable_auc(pool: Pool, error: float) -> Metric:
    """Return the AUC that an attack fixed beforehand would have shown to be above 1/2 (power 80 %)."""
    inside, outside = int(pool.coins.sum()), int((1 - pool.coins).sum())
    return Metric(
        name=DETECTABLE_AUC,
        value=detectable_auc(inside, outside, error=error),
        direction="context",
        n=inside + outside,
        baseline=0.5,
    )


def _detectable_tpr(pool: Pool, settings: Settings) -> dict[str, float]:
    """Return the true-positive rates that would have been shown to exceed each declared FPR."""
    members = int(pool.coins.sum())
    return {
        f"{fpr:g}": detectable_rate(members, chance=fpr, error=settings.bound_error)
        for fpr in settings.fpr
    }


def _metric(
    name: str,
    interval: Interval,
    error: float,
    *,
    baseline: float,
    direction: str = "higher_is_riskier",
) -> Metric:
    return Metric.model_validate(
        {
            "name": name,
            "value": interval.value,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "confidence": 1 - error,
            "direction": direction,
            "n": interval.n,
            "baseline": baseline,
        }
    )


def _tpr_metric(scores: Mapping[str, Floats], pool: Pool, fpr: float, error: float) -> Metric:
    """Choose attack and threshold on one fold, measure on the other; both directions are pooled.

    Each half is binomial given the other fold's threshold, and folds hold different persons.
    """
    hits = trials = false_hits = false_trials = 0
    for folds in (pool.folds, 3 - pool.folds):
        name = max(scores, key=lambda a: _fold_one_tpr(scores[a], pool.coins, folds, fpr))
        point = tpr_at_fpr(scores[name], pool.coins, folds, fpr=fpr, error=error)
        if point is None:
            held_out = int(((folds == 2) & (pool.coins == 0)).sum())
            return Metric(
                name=f"tpr_at_{fpr:g}",
                value=None,
                reason=(
                    f"{held_out} held-out units in a fold give fewer than 10 false positives; "
                    f"about {held_out_needed(fpr)} held out in all are needed"
                ),
            )
        hits, trials = hits + round(point.tpr.value * point.tpr.n), trials + point.tpr.n
        false_hits += round(point.fpr.value * point.fpr.n)
        false_trials += point.fpr.n
    low, high = clopper_pearson(hits, trials, error=error)
    interval = Interval(hits / trials, low, high, trials)
    return _metric(f"tpr_at_{fpr:g}", interval, error, baseline=false_hits / false_trials)


def _fold_one_tpr(
    scores: Floats, coins: NDArray[np.integer], folds: NDArray[np.integer], fpr: float
) -> float:
    here = folds == 1
    threshold = cautious_threshold(scores[here & (coins == 0)], fpr)
    return float((scores[here & (coins == 1)] >= threshold).mean())


def _roc(scores: Floats, coins: NDArray[np.integer]) -> dict[str, list[float]]:
    """Return at most 200 points of the ROC, ties taken together, denser near the origin."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    tpr = np.cumsum(coins[order])[last] / max(1, coins.sum())
    fpr = np.cumsum(1 - coins[order])[last] / max(1, (1 - coins).sum())
    if len(last) > _ROC_POINTS:
        dense = np.unique(np.geomspace(1, len(last), _ROC_POINTS).astype(int) - 1)
        fpr, tpr = fpr[dense], tpr[dense]
    return {"fpr": [0.0, *fpr.tolist()], "tpr": [0.0, *tpr.tolist()], "auc": [auc(scores, coins)]}
