"""One progress bar with one estimate over all stages of a battery."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]

# Rough shares of the time, so that one bar with one estimate runs over the whole battery.
_STAGES = {"search": 60, "self-test": 10, "limit": 30}


class Meter:
    """Turns progress of stages into progress of the whole, in thousandths."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0.0

    def show(self, stage: str, text: str, *, share: float) -> None:
        """Report that `share` (0-1) of `stage` is done; never runs backwards."""
        names = list(_STAGES)
        before = sum(_STAGES[n] for n in names[: names.index(stage)])
        now = 10 * (before + _STAGES[stage] * min(1.0, share))
        self._done = max(self._done, now)
        if self._progress is not None:
            self._progress(text, int(self._done), 1000)


def search_progress(meter: Meter) -> Progress:
    """Return what searches report to, one after the other: text, done, total."""
    started: dict[str, float] = {}

    def report(text: str, done: int, total: int) -> None:
        started[text] = done / max(1, total)
        # The first search, in pixels, takes most of the time; the stage's share is cut off at 1.
        weights = {0: 0.55, 1: 0.15}
        share = sum(weights.get(i, 0.075) * d for i, d in enumerate(started.values()))
        meter.show("search", text, share=share)

    return report
