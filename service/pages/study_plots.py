"""Where things stand in the plots of a reader study; templates/study_plots.html draws them."""

from collections.abc import Mapping, Sequence
from typing import Any

ROC_SIZE = 260
_EDGE = 34
FOREST_WIDTH = 520
_NAMES = 110
_ROW = 22


def plots(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the coordinates of every plot that a result has numbers for."""
    readers = result["readers"]
    curves = [reader["roc"] for reader in readers if "roc" in reader]
    return {
        "roc": _roc(curves) if curves else None,
        "forest": _forest(result),
        "criteria": _criteria(readers) if curves else None,
    }


def _roc(curves: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any]:
    return {
        "size": ROC_SIZE,
        "edge": _EDGE,
        "curves": [
            " ".join(f"{_across(x):.1f},{_up(y):.1f}" for x, y in points) for points in curves
        ],
    }


def _forest(result: Mapping[str, Any]) -> dict[str, Any]:
    """One row a reader, then the mean; the margin is a band, guessing a line."""
    primary = result["primary"]
    rows = [
        {
            "name": f"Reader {reader['reader']}",
            "words": _words(reader["figure"], reader["interval"]),
            **_place(place, reader["figure"], reader["interval"]),
        }
        for place, reader in enumerate(result["readers"])
    ]
    mean = {
        "name": "All readers",
        "words": _words(primary["value"], primary["interval"]),
        **_place(len(rows), primary["value"], primary["interval"]),
    }
    low, high = (_wide(primary["chance"] + sign * primary["margin"]) for sign in (-1, 1))
    return {
        "width": FOREST_WIDTH,
        "height": (len(rows) + 1) * _ROW + 46,
        "bottom": (len(rows) + 1) * _ROW + 14,
        "rows": rows,
        "mean": mean,
        "band": {"x": low, "width": high - low},
        "chance": _wide(primary["chance"]),
        "ticks": [{"x": _wide(value), "words": f"{value:g}"} for value in (0, 0.25, 0.5, 0.75, 1)],
    }


def _criteria(readers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put sensitivity d' across and criterion c up, both cut at 3."""
    points = [
        {
            "x": _EDGE + (ROC_SIZE - _EDGE - 10) * (_cut(reader["sensitivity"]) + 3) / 6,
            "y": 10 + (ROC_SIZE - _EDGE - 10) * (3 - _cut(reader["criterion"])) / 6,
            "words": (
                f"Reader {reader['reader']}: d' {reader['sensitivity']:.2f}, "
                f"c {reader['criterion']:.2f}"
            ),
        }
        for reader in readers
    ]
    middle = {"x": _EDGE + (ROC_SIZE - _EDGE - 10) / 2, "y": 10 + (ROC_SIZE - _EDGE - 10) / 2}
    return {"size": ROC_SIZE, "edge": _EDGE, "points": points, "middle": middle}


def _place(row: int, value: float, interval: Sequence[float]) -> dict[str, float]:
    return {
        "y": 20 + row * _ROW,
        "x": _wide(value),
        "low": _wide(interval[0]),
        "high": _wide(interval[1]),
    }


def _words(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _wide(value: float) -> float:
    return _NAMES + (FOREST_WIDTH - _NAMES - 130) * min(1.0, max(0.0, value))


def _across(share: float) -> float:
    return _EDGE + (ROC_SIZE - _EDGE - 10) * share


def _up(share: float) -> float:
    return 10 + (ROC_SIZE - _EDGE - 10) * (1 - share)


def _cut(value: float) -> float:
    return min(3.0, max(-3.0, value))
