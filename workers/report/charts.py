"""Coordinates of the page's few drawings; the template turns them into SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.ceilings import highest_tpr
from privacy.evidence import Finding
from privacy.report import AuditReport
from privacy.statistics import clopper_pearson

ROC_SIZE, ROC_MARGIN = 320, 44
_FLOOR = 0.005  # log axes start here: rates below it cannot be read off a few hundred persons
_BAND_POINTS = 40
_BAND_ERROR = 0.025


@dataclass(frozen=True)
class Line:
    """A named polyline; `points` is an SVG path."""

    name: str
    css: str
    path: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at `at` pixels."""

    at: float
    text: str


@dataclass(frozen=True)
class Roc:
    """ROC curves on log axes, with a confidence band and the ceiling of the claim."""

    title: str
    lines: tuple[Line, ...]
    band: str
    band_name: str
    ticks: tuple[Tick, ...]
    size: int = ROC_SIZE
    margin: int = ROC_MARGIN


@dataclass(frozen=True)
class Bar:
    """A value as a horizontal bar, `length` 0-100."""

    length: float
    value: float
    text: str
    css: str


def epsilon_bars(report: AuditReport) -> tuple[Bar, ...]:
    """Return lower bound, most certifiable and claimed epsilon on one scale."""
    values = (
        (report.epsilon_lower_bound, "Evidence shows at least", "low"),
        (report.epsilon_max_certifiable, "The most this audit could have shown", "most"),
        (report.epsilon_claimed, "Claimed to be at most", "claim"),
    )
    present = [value for value, _, _ in values if value is not None]
    top = max([*present, 1.0])
    return tuple(
        Bar(100 * value / top, value, text, css) for value, text, css in values if value is not None
    )


def _axis(rate: NDArray[np.floating] | float) -> NDArray[np.floating]:
    """Map a rate to 0-1 on a log axis that starts at the floor."""
    clipped = np.clip(np.asarray(rate, dtype=np.float64), _FLOOR, 1.0)
    return np.asarray(1 - np.log(clipped) / np.log(_FLOOR))


def _path(fpr: Sequence[float], tpr: Sequence[float]) -> str:
    x = ROC_MARGIN + ROC_SIZE * _axis(np.array(fpr, dtype=np.float64))
    y = 10 + ROC_SIZE * (1 - _axis(np.array(tpr, dtype=np.float64)))
    return "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def roc_of(finding: Finding, report: AuditReport) -> Roc | None:
    """Return the ROC drawing of a membership audit, or None if nothing was measured."""
    curves = finding.details.get("roc")
    if not isinstance(curves, dict) or not curves:
        return None
    chosen = finding.details["chosen_on_fold"]
    best = chosen["1"] if isinstance(chosen, dict) else next(iter(curves))
    grid = np.geomspace(_FLOOR, 1, 200)
    lines = [Line("no better than guessing", "guess", _path(grid.tolist(), grid.tolist()))]
    if report.privacy_curve:
        permitted = highest_tpr(report.privacy_curve, grid)
        lines.append(
            Line("ceiling of the claim", "ceiling", _path(grid.tolist(), permitted.tolist()))
        )
    for i, name in enumerate(sorted(curves)):
        fpr, tpr = curves[name]["fpr"], curves[name]["tpr"]
        lines.append(Line(name.replace("_", " "), f"attack a{i % 6}", _path(fpr, tpr)))
    members, others = (int(str(finding.details[key])) for key in ("members", "non_members"))
    ticks = tuple(Tick(float(_axis(rate)), f"{rate:g}") for rate in (0.01, 0.03, 0.1, 0.3, 1.0))
    return Roc(
        title=f"{members} trained on, {others} held out",
        lines=tuple(lines),
        band=_band(curves[best], members),
        band_name=best.replace("_", " "),
        ticks=ticks,
    )


def _band(curve: dict[str, list[float]], members: int) -> str:
    """Return the closed path of pointwise Clopper-Pearson bounds of the true-positive rate."""
    fpr = np.geomspace(_FLOOR, 1, _BAND_POINTS)
    where = np.searchsorted(np.array(curve["fpr"]), fpr, side="right") - 1
    bounds = [
        clopper_pearson(round(curve["tpr"][i] * members), members, error=_BAND_ERROR) for i in where
    ]
    upper = _path(fpr.tolist(), [high for _, high in bounds])
    lower = _path(fpr[::-1].tolist(), [low for low, _ in bounds[::-1]])
    return upper + " L" + lower[1:] + " Z"
