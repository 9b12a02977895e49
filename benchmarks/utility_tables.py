"""Means, intervals and ratios over the seeds of the utility benchmark."""

from collections.abc import Sequence
from typing import Any

from training.utility.intervals import over_seeds
from training.utility.measures import METRICS
from training.utility.scoring import MEAN, Scored


def summarised(scored: Sequence[Scored], *, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Return mean and interval of every metric: bare names are the headline classifier's."""
    if not scored:
        return {}
    first = scored[0]
    table: dict[str, dict[str, Any]] = {}
    for metric in METRICS:
        for name in (*first.measured, MEAN):
            of_one = first.measured[name].intervals[metric] if name != MEAN else None
            values = [one.value(name, metric) for one in scored]
            found = over_seeds(values, one_seed=of_one).as_json()
            table[f"{prefix}{name}.{metric}"] = found
            if name == first.headline:
                table[f"{prefix}{metric}"] = found
    return table


RATIO_NOTE = (
    "A ratio is the synthetic score / the mean score of the same classifier, in the same number of "
    "steps, on real images. Its interval is over the generator's seeds (or test persons) alone: it "
    "leaves out how far the real baseline varies. Scores do not start at 0 where nothing was "
    "learnt (AUC and two-way balanced accuracy at 0.5), so a ratio flatters weak generators."
)


def ratios(
    synthetic: Sequence[Scored], real: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return each metric as a share of the same classifier's on real images.

    The interval is over the seeds of the generator; the real baseline enters by its mean.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, entry in summarised(synthetic).items():
        base = real.get(name, {}).get("mean")
        if not base or entry["mean"] is None:
            table[name] = {"mean": None, "ci_low": None, "ci_high": None, "seeds": entry["seeds"]}
            table[name]["reason"] = "the score is undefined or the real baseline is missing or 0"
            continue
        shares = {key: _share(entry[key], base) for key in ("mean", "ci_low", "ci_high")}
        table[name] = {**entry, **shares}
    return table


def _share(value: float | None, base: float) -> float | None:
    return None if value is None else value / base
