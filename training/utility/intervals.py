"""A mean over seeds with its interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; without an interval, `reason` says why."""

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    seeds: int
    ci_over: str | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return the fields; `reason` only where there is one."""
        fields = asdict(self)
        if self.reason is None:
            del fields["reason"]
        return fields


def over_seeds(
    values: Sequence[float | None],
    *,
    one_seed: tuple[float, float] | None = None,
    over: str = "seeds",
) -> Interval:
    """Return mean and Student's t interval over seeds; `over` says what a seed varies.

    A single value takes `one_seed`, the bootstrap over its test persons, for an interval.
    """
    known = [value for value in values if value is not None]
    if not known:
        return Interval(None, None, None, 0, reason="not defined for this task")
    mean = float(np.mean(known))
    if len(known) == 1:
        if one_seed is None:
            return Interval(mean, None, None, 1, reason="one seed has no spread")
        return Interval(mean, *one_seed, 1, ci_over="test persons")
    half = float(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known))
    return Interval(mean, mean - half, mean + half, len(known), ci_over=over)
