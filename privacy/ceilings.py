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
    for slope, height in _lines(curve):
        best = np.minimum(best, slope * fpr + height)
    return np.asarray(np.clip(best, 0.0, 1.0))


def ceilings(curve: Sequence[tuple[float, float]], fprs: Sequence[float]) -> dict[str, float]:
    """Return the highest AUC, and TPR at each of `fprs`, that the pairs permit.

    The highest ROC is a chain of straight pieces; its area is summed between all crossings of their
    lines, so that it is exact. A grid would cut corners, and the ceiling would lie too low.
    """
    if not curve:
        return {}
    corners = _crossings([*_lines(curve), (0.0, 1.0)])
    area = float(np.trapezoid(highest_tpr(curve, corners), corners))
    at = highest_tpr(curve, np.array(fprs, dtype=np.float64))
    return {"auc": area, **{f"tpr_at_{f:g}": float(t) for f, t in zip(fprs, at, strict=True)}}


def _lines(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return (slope, height at FPR 0) of both lines that each pair puts above the ROC."""
    lines = []
    for epsilon, delta in curve:
        lines.append((float(np.exp(epsilon)), delta))
        lines.append((float(np.exp(-epsilon)), float(1 - np.exp(-epsilon) * (1 - delta))))
    return lines


def _crossings(lines: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Return sorted FPRs from 0 to 1 that hold every corner of the lower envelope of `lines`."""
    slopes, heights = np.array(lines).T
    steeper = slopes[:, None] - slopes
    higher = heights - heights[:, None]
    apart = np.abs(steeper) > 0
    at = higher[apart] / steeper[apart]
    return np.unique(np.concatenate([[0.0, 1.0], at[(at > 0) & (at < 1)]]))
