"""The limit of detection: the smallest share of trained-on units whose copies are still found."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from privacy.copies import Detector
from privacy.exact_copies import Verbatim
from privacy.neighbourhoods import Nearest, joined
from privacy.report import DetectionLimit
from privacy.specimens import Bench

Leak = Literal["verbatim", "jittered", "outlier", "augmented"]
LEAKS: tuple[Leak, ...] = ("verbatim", "jittered", "outlier", "augmented")
FRACTIONS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1)
_SURE = 2
# Half of the persons held out, 2 ** -8 is above the exact detector's share of any alarm level here.
_TOO_FEW_FOR_ARMS = 8


def detection_limit(
    leak: Leak,
    bench: Bench,
    detector: Detector,
    *,
    candidate: tuple[Mapping[str, Nearest], Verbatim],
    level: float,
    repeats: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
) -> DetectionLimit:
    """Plant copies among the candidate's own samples, and see how few are still found.

    A share counts as found where at least 95 % of `repeats` were flagged below `level`; with five, that
    is all of them, which a share found four times in five reaches in a third of batteries. Two shares
    in a row that were always found end the search: more copies are not harder to see.
    """
    found_near, verbatim = candidate
    if detector.inspect(found_near, verbatim).p_value < level:
        return DetectionLimit(
            leak=leak,
            fraction=None,
            changes=bench.changes(leak),
            reason="the candidate is flagged without any planted copy",
        )
    trained = int(detector.population.trained.sum())
    counts: list[int] = []
    rates: list[float] = []
    for fraction in FRACTIONS:
        count = max(1, int(fraction * trained + 1e-9))  # never more than the share aimed at
        if count > bench.planted_count(leak) or rates[-_SURE:] == [1.0] * _SURE:
            break
        if count in counts:
            continue
        found = 0
        for _ in range(repeats):
            picked = rng.choice(bench.planted_count(leak), count, replace=False)
            near, matches = bench.planted(leak, picked, population=detector.population)
            both = {name: joined(found_near[name], near[name]) for name in near}
            person = np.concatenate([verbatim.person, matches.person])
            copies = detector.inspect(
                both,
                Verbatim(person, verbatim.twins),
                enough=level,
                exact=count > _TOO_FEW_FOR_ARMS,
            )
            found += copies.p_value < level
        counts.append(count)
        rates.append(found / repeats)
        progress(len(counts), len(FRACTIONS))
    tried = [count / trained for count in counts]  # what was planted, not what was aimed at
    good = [i for i in range(len(rates)) if min(rates[i:]) >= 0.95]
    return DetectionLimit(
        leak=leak,
        fraction=tried[good[0]] if good else None,
        fractions=tuple(tried),
        rates=tuple(rates),
        repeats=repeats,
        changes=bench.changes(leak),
        reason=None if good else f"no tried share was flagged in 95 % of {repeats} tries",
    )
