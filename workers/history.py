"""Keep what a job has told so far: how long each stage took, and the curves of public numbers.

A heartbeat shows the newest message only. The history rides along with it, bounded in size, so that
a page can draw a curve and a log of stages without a table of its own.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

MOST_STAGES = 40
MOST_POINTS = 120
_NAMED = ("stages", "curves")


class History:
    """The stages and curves of one job, over its attempts."""

    def __init__(
        self,
        earlier: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from what an earlier attempt kept, `Job.progress`."""
        kept = earlier or {}
        self._stages: list[dict[str, Any]] = [
            {**stage, "seconds": stage.get("seconds") or 0.0} for stage in kept.get("stages", [])
        ]
        self._curves: dict[str, list[list[float]]] = {
            name: [list(point) for point in points]
            for name, points in kept.get("curves", {}).items()
        }
        self._attempt = attempt
        self._clock = clock
        self._entered: float | None = None

    def extended(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a progress message with the history of all before it, itself included."""
        self._enter(str(message.get("stage", "")))
        for name, value in (message.get("metrics") or {}).items():
            if value is not None:
                self._add(name, float(message.get("step", 0)), float(value))
        return {**message, "stages": list(self._stages), "curves": dict(self._curves)}

    def _enter(self, stage: str) -> None:
        now = self._clock()
        # A battery's stages differ in what follows the colon only: they are one stage here.
        name = stage.partition(":")[0]
        if self._entered is not None and self._stages[-1]["stage"] == name:
            return
        if self._entered is not None:
            self._stages[-1]["seconds"] = round(now - self._entered, 1)
        self._entered = now
        self._stages.append({"stage": name, "seconds": None, "attempt": self._attempt})
        del self._stages[:-MOST_STAGES]

    def _add(self, name: str, step: float, value: float) -> None:
        """Add a point; every second one goes once there are too many."""
        points = self._curves.setdefault(name, [])
        if points and step < points[-1][0]:
            points.clear()  # a resumed stage tells its steps again
        points.append([step, value])
        if len(points) > MOST_POINTS:
            self._curves[name] = points[:-1:2] + points[-1:]
