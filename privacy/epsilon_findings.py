"""The one-run bounds on epsilon as measurements that a report shows.

`epsilon_lower_bound` holds for any mechanism and is what a claim is judged by; its `_gaussian`
companion supposes a Gaussian trade-off curve; `claim_p_value` is the chance of so many right guesses
under the claimed curve itself, corrected for all attacks and numbers of guesses. All three share one
error probability without a further correction (`privacy.epsilon_bounds` says why).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from privacy.epsilon_bounds import EpsilonBound, epsilon_lower_bound
from privacy.evidence import Finding, Metric
from privacy.power import POWER, detectable_rate

Floats = NDArray[np.floating]
Direction = Literal["higher_is_riskier", "lower_is_riskier", "context"]
UNFAIR = 1e-6  # arms this uneven were not made by fair coins
NAMES = (
    "epsilon_lower_bound",
    "epsilon_max_certifiable",
    "epsilon_lower_bound_gaussian",
    "epsilon_max_certifiable_gaussian",
    "claim_p_value",
)


def epsilon_finding(
    scores: Mapping[str, Floats],
    coins: NDArray[np.integer],
    *,
    delta: float,
    grid: Sequence[int],
    error: float,
    claim: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> Finding:
    """Return the bounds, or no number where the arms cannot be fair independent coins."""
    members = int(coins.sum())
    if stats.binomtest(members, len(coins), 0.5).pvalue < UNFAIR:
        return not_bounded(
            f"{members} of {len(coins)} units of the pool were trained on: no fair coin was "
            "tossed for them, and a bound from one run needs that"
        )
    bound = epsilon_lower_bound(
        scores, coins, delta=delta, grid=grid, error=error, rng=rng, claim=claim
    )
    details: dict[str, object] = {
        "epsilon_attack": bound.attack,
        "epsilon_guesses": bound.guesses,
        "epsilon_correct": bound.correct,
        "epsilon_grid": list(grid),
        "epsilon_detectable_accuracy": _detectable_accuracy(grid, len(coins), error, len(scores)),
    }
    return Finding(audit="epsilon", metrics=_metrics(bound), details=details)


def not_bounded(reason: str) -> Finding:
    """Return the same metrics without numbers."""
    return Finding(
        audit="epsilon",
        metrics=tuple(
            Metric(name=n, value=None, reason=reason, direction=_direction(n)) for n in NAMES
        ),
    )


def _metrics(bound: EpsilonBound) -> tuple[Metric, ...]:
    values = (
        bound.value,
        bound.max_certifiable,
        bound.gaussian_value,
        bound.gaussian_max_certifiable,
        bound.claim_p_value,
    )
    return tuple(
        Metric(
            name=name,
            value=value,
            direction=_direction(name),
            confidence=1 - bound.error if name.startswith("epsilon_lower") else None,
            n=bound.persons,
            reason="no epsilon is claimed" if value is None else None,
        )
        for name, value in zip(NAMES, values, strict=True)
    )


def _direction(name: str) -> Direction:
    if name == "claim_p_value":
        return "lower_is_riskier"
    return "higher_is_riskier" if name == "epsilon_lower_bound" else "context"


def _detectable_accuracy(
    grid: Sequence[int], persons: int, error: float, attacks: int
) -> dict[str, float]:
    """Return, for each number of guesses, the share right that gives a bound above 0 (power 80 %)."""
    usable = [r for r in grid if 2 <= r <= persons]
    share = error / max(1, len(usable) * attacks)
    return {str(r): detectable_rate(r, chance=0.5, error=share, power=POWER) for r in usable}
