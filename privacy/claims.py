"""What findings say of the claimed epsilon: the claim itself, the best lower bound, how likely it holds."""

from collections.abc import Mapping

from privacy import accounting
from privacy.epsilon_findings import NAMES as EPSILON_NAMES
from privacy.evidence import Evidence, Finding, Metric, SplitOrigin
from privacy.membership import Settings

_DEFAULT_DELTA = 1e-5

_NO_COINS = (
    "nobody tossed a fair coin for each unit before training, and a bound from one run needs that"
)


def believable(finding: Finding, evidence: Evidence) -> Finding:
    """Return the finding without epsilon bounds where no coin decided who was trained on."""
    if evidence.split is SplitOrigin.COINS:
        return finding
    metrics = (
        Metric(name=m.name, value=None, reason=_NO_COINS) if m.name in EPSILON_NAMES else m
        for m in finding.metrics
    )
    return finding.model_copy(update={"metrics": tuple(metrics)})


def claimed_epsilon(evidence: Evidence) -> float | None:
    """Return epsilon at the target's delta, derived from mechanisms where they are given."""
    if evidence.mechanisms:
        delta = delta_of(evidence)
        return accounting.epsilon(evidence.mechanisms, delta)
    return evidence.target.epsilon if evidence.target else None


def epsilon_of(findings: Mapping[str, Finding]) -> tuple[float | None, float | None, str | None]:
    """Return the best lower bound, the most certifiable one, and why there is none."""
    every = [metric for finding in findings.values() for metric in finding.metrics]
    bounds = [metric for metric in every if metric.name == "epsilon_lower_bound"]
    most = [m.value for m in every if m.name == "epsilon_max_certifiable" and m.value is not None]
    values = [metric.value for metric in bounds if metric.value is not None]
    if not values:
        return None, None, bounds[0].reason if bounds else "no membership audit ran"
    return max(values), max(most) if most else None, None


def claim_test(findings: Mapping[str, Finding], settings: Settings) -> tuple[float, float] | None:
    """Return the smallest chance of the right guesses under the claim, and the level of one audit."""
    found = [finding.metric("claim_p_value").value for finding in findings.values()]
    values = [value for value in found if value is not None]
    return (min(values), settings.epsilon_error) if values else None


def delta_of(evidence: Evidence) -> float:
    """Return the delta at which epsilon is stated."""
    return evidence.target.delta if evidence.target else _DEFAULT_DELTA
