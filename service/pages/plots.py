"""Numbers for small inline SVG charts: points in a box, with round ticks. Templates draw them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 8.0, 30.0
_TICKS = 4

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in the drawing's units, and its number."""

    at: float
    words: str


@dataclass(frozen=True)
class Chart:
    """What a chart template draws; `lines` are the points attributes of polylines."""

    lines: list[str]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    words: str
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Whisker:
    """One value with its interval, as places on a scale from 0 to 100."""

    at: float | None
    low: float | None
    high: float | None


def line_chart(lines: Sequence[Sequence[Point]], *, x_name: str) -> Chart:
    """Return a chart of one line or several; every line has at least one point."""
    xs = [x for line in lines for x, _ in line]
    ys = [y for line in lines for _, y in line if math.isfinite(y)]
    low, high = _round_range(min(ys, default=0.0), max(ys, default=1.0))
    first, last = min(xs), max(*xs, min(xs) + 1e-9)

    def place(x: float, y: float) -> str:
        across = LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{_down(y, low, high):.1f}"

    shown = [" ".join(place(x, y) for x, y in line if math.isfinite(y)) for line in lines]
    step = (high - low) / _TICKS
    y_ticks = [low + step * index for index in range(_TICKS + 1)]
    newest = lines[0][-1]
    return Chart(
        lines=shown,
        x_ticks=[Tick(LEFT, f"{first:,.0f}"), Tick(WIDTH - RIGHT, f"{last:,.0f}")],
        y_ticks=[Tick(_down(value, low, high), f"{value:.3g}") for value in y_ticks],
        x_name=x_name,
        words=f"from {lines[0][0][1]:.3g} to {newest[1]:.3g} at {x_name} {newest[0]:,.0f}",
    )


def whisker(value: float | None, interval: Sequence[float] | None) -> Whisker:
    """Return a share from 0 to 1 with its interval, in per cent; values below 0 lie at 0."""
    low, high = (interval[0], interval[1]) if interval else (None, None)
    return Whisker(_percent(value), _percent(low), _percent(high))


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * min(max(float(value), 0.0), 1.0), 2)


def _down(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _round_range(low: float, high: float) -> tuple[float, float]:
    """Return a range with round ends that holds both numbers."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    unit = 10 ** math.floor(math.log10((high - low) / _TICKS))
    for factor in (1, 2, 2.5, 5, 10):
        step = unit * factor
        start = math.floor(low / step) * step
        if start + _TICKS * step >= high:
            return start, start + _TICKS * step
    return low, high
