"""How well any attack can possibly do against a claimed guarantee.

An (epsilon, delta) pair bounds the ROC of every membership attack on one unit (Wasserman and Zhou
2010; Kairouz, Oh and Viswanath 2015). A list of mechanisms has a whole curve of such pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from privacy import accounting
from privacy.mechanisms import Mechanism, PrivacyTarget

_EPSILONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def privacy_curve(
    target: PrivacyTarget | None, mechanisms: Sequence[Mechanism]
) -> tuple[tuple[float, float], ...]:
    """Return (epsilon, delta) pairs that hold for this candidate; empty without a claim."""
    if mechanisms:
        return tuple((e, accounting.delta(tuple(mechanisms), e)) for e in _EPSILONS)
    return ((target.epsilon, target.delta),) if target else ()


def highest_tpr(
    curve: Sequence[tuple[float, float]], fpr: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the highest true-positive rate that the pairs permit at each `fpr`."""
    best = np.ones_like(fpr)
    for epsilon, delta in curve:
        best = np.minimum(best, np.exp(epsilon) * fpr + delta)
        best = np.minimum(best, 1 - np.exp(-epsilon) * (1 - delta - fpr))
    return np.asarray(np.clip(best, 0.0, 1.0))


def ceilings(curve: Sequence[tuple[float, float]], fprs: Sequence[float]) -> dict[str, float]:
    """Return the highest AUC, and TPR at each of `fprs`, that the pairs permit."""
    if not curve:
        return {}
    grid = np.unique(np.concatenate([np.linspace(0, 1, 2001), np.geomspace(1e-6, 1, 500)]))
    area = float(np.trapezoid(highest_tpr(curve, grid), grid))
    at = highest_tpr(curve, np.array(fprs, dtype=np.float64))
    return {"auc": area, **{f"tpr_at_{f:g}": float(t) for f, t in zip(fprs, at, strict=True)}}
