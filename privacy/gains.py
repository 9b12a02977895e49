"""What an attacker gains from a person having been trained on: rates, their difference, and gates.

The tolerated gain follows from the tier's AUC. Whoever succeeds on members more often than on
non-members tells them apart that well, and on the Gaussian trade-off curve of the tier's AUC,
AUC = Phi(mu / sqrt(2)), nobody gains more than 2 Phi(mu / 2) - 1 (Dong, Roth and Su 2022).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from privacy.evidence import Finding, Metric
from privacy.policy import Policy, Tier, judge_membership
from privacy.report import Gate, GateStatus
from privacy.statistics import clopper_pearson

Bools = NDArray[np.bool_]

GAIN = "_gain"
_ACCUSES_ONLY = "inference"


def gain_metrics(
    succeeded: Mapping[str, Bools],
    coins: NDArray[np.integer],
    *,
    error: float,
    reason: str | None,
    expected: Sequence[str],
) -> tuple[Metric, ...]:
    """Return, for each attack, gain with interval and both rates; without numbers, why not.

    `succeeded` is attack -> (persons,); each side of all intervals together errs at most by `error`.
    """
    if reason:
        return tuple(Metric(name=f"{name}{GAIN}", value=None, reason=reason) for name in expected)
    each = error / max(1, len(succeeded))
    found: list[Metric] = []
    for name, hits in succeeded.items():
        inside, outside = hits[coins == 1], hits[coins == 0]
        rate, control = float(inside.mean()), float(outside.mean())
        low, high = clopper_pearson(int(inside.sum()), len(inside), error=each / 2)
        least, most = clopper_pearson(int(outside.sum()), len(outside), error=each / 2)
        gain = rate - control
        found += [
            Metric(
                name=f"{name}{GAIN}",
                value=gain,
                ci_low=gain - float(np.hypot(rate - low, most - control)),
                ci_high=gain + float(np.hypot(high - rate, control - least)),
                confidence=1 - each,
                n=len(hits),
                baseline=0.0,
            ),
            _rate(f"{name}_members", inside),
            _rate(f"{name}_non_members", outside),
        ]
    return tuple(found)


def _rate(name: str, hits: Bools) -> Metric:
    return Metric(name=name, value=float(hits.mean()), direction="context", n=len(hits))


def tolerated_gain(tier: Tier) -> float:
    """Return the largest gain that the tier's AUC permits."""
    mu = float(np.sqrt(2) * stats.norm.ppf(tier.auc))
    return float(2 * stats.norm.cdf(mu / 2) - 1)


def judge_gains(finding: Finding, *, tier: Tier) -> tuple[Gate, ...]:
    """Return one gate per gain: fails above tolerance, passes below it, else undecided.

    Inference may accuse and never clears: half of all guesses are right of anybody, so that a pool of
    hundreds leaves intervals too wide to pass by more than luck.
    """
    tolerance = round(tolerated_gain(tier), 3)
    found = [metric for metric in finding.metrics if metric.name.endswith(GAIN)]
    return tuple(_gain_gate(metric, finding.audit, tolerance) for metric in found)


def _gain_gate(metric: Metric, audit: str, tolerance: float) -> Gate:
    status, why = GateStatus.INCONCLUSIVE, "the upper confidence bound is above the tolerance"
    if metric.ci_low is not None and metric.ci_low > tolerance:
        status, why = GateStatus.FAIL, "even the lower confidence bound is above the tolerance"
    elif metric.name.startswith(_ACCUSES_ONLY) and metric.value is not None:
        status, why = GateStatus.NOTHING_SEEN, "may accuse and never clears"
    elif metric.ci_high is not None and metric.ci_high <= tolerance:
        status, why = GateStatus.PASS, "passes where the upper confidence bound is below it"
    words = metric.name.removesuffix(GAIN).replace("_", " ")
    return Gate(
        name=f"{audit}_{metric.name}",
        audit=audit,
        title=f"What being trained on adds to {words} (success on members minus non-members)",
        status=status,
        value=metric.value,
        bound=metric.ci_high,
        tolerance=tolerance,
        reason=metric.reason or why,
    )


def judge_attack(
    finding: Finding, *, policy: Policy, tier: Tier, ceiling: Mapping[str, float]
) -> tuple[Gate, ...]:
    """Return the gates of an audit that compares members with non-members, whichever way it does."""
    if any(metric.name.endswith(GAIN) for metric in finding.metrics):
        return judge_gains(finding, tier=tier)
    return judge_membership(finding, policy=policy, tier=tier, ceiling=ceiling)
