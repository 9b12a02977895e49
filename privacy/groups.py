"""Membership within groups: each label by itself, and the most unusual tenth, beside everybody.

An average over everybody hides a small group whose members are recognised. Intervals are Bonferroni
over the groups; one further max-statistic permutation test runs over attacks times groups.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Finding, Metric
from privacy.families import family_of
from privacy.membership import Pool, Settings
from privacy.neighbourhoods import Population, Survey
from privacy.statistics import cross_selected_auc, max_statistic_test

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

MIN_PER_ARM = 100
"""Members and non-members that a label needs, for an interval that says something."""
UNUSUAL_PER_ARM = 50
"""The same for the most unusual tenth: fewer, and chance alone could fail a release."""
_MIN_PER_CELL = {MIN_PER_ARM: 20, UNUSUAL_PER_ARM: 10}
UNUSUAL = "unusual"
P_VALUE = "group_leak_p_value"


def with_groups(
    finding: Finding,
    scores: Mapping[str, Floats],
    pool: Pool,
    *,
    population: Population,
    settings: Settings,
    rng: np.random.Generator,
    unusual: Mask | None = None,
) -> Finding:
    """Return the finding with `auc_label_N`, `auc_unusual` and `group_leak_p_value` added.

    A person belongs to every label that one of their records has. Nothing is added where nothing was
    measured at all. Groups with too few persons are named with a reason instead of a number; the others
    share the error of an interval.
    """
    attacks = family_of(scores).attacks
    if not attacks or pool.too_small():
        return finding
    labels = {f"label_{label}": mask for label, mask in _labels(population, pool).items()}
    if len(labels) < 2:
        labels = {}
    rare = {} if unusual is None or not unusual.any() else {UNUSUAL: unusual}
    named = labels | rare
    too_few = {
        name: _too_few(pool, mask, needed=UNUSUAL_PER_ARM if name in rare else MIN_PER_ARM)
        for name, mask in named.items()
    }
    judged = {name: mask for name, mask in named.items() if not too_few[name]}
    metrics = [
        _area(name, mask, attacks, pool, error=settings.bound_error / len(judged))
        if name in judged
        else Metric(name=f"auc_{name}", value=None, direction="context", reason=too_few[name])
        for name, mask in named.items()
    ]
    if groups := judged | rare:
        metrics.append(_joint_test(attacks, pool, groups, settings=settings, rng=rng))
    return finding.model_copy(update={"metrics": (*finding.metrics, *metrics)})


def unusual_tenth(survey: Survey, pool: Pool) -> NDArray[np.bool_] | None:
    """Return which tenth of the pool is farthest from the reference set, blind to coins.

    None without a reference set, or where nothing was searched.
    """
    if not survey.spaces:
        return None
    distance = survey.calibration[survey.spaces[0].name].to_reference[pool.persons]
    if not len(distance) or not np.isfinite(distance).all():
        return None
    return np.asarray(distance >= np.quantile(distance, 0.9))


def _labels(population: Population, pool: Pool) -> dict[int, Mask]:
    """Return which persons of the pool have each label."""
    masks: dict[int, Mask] = {}
    for label in np.unique(population.labels):
        owners = population.persons[population.labels == label]
        masks[int(label)] = np.isin(pool.persons, owners)
    return masks


def _too_few(pool: Pool, mask: Mask, *, needed: int) -> str | None:
    arms = [int((mask & (pool.coins == coin)).sum()) for coin in (0, 1)]
    cells = [
        int((mask & (pool.coins == coin) & (pool.folds == fold)).sum())
        for coin in (0, 1)
        for fold in (1, 2)
    ]
    if min(arms) >= needed and min(cells) >= _MIN_PER_CELL[needed]:
        return None
    return f"{arms[1]} members and {arms[0]} non-members; {needed} of each are needed"


def _area(
    name: str, mask: Mask, scores: Mapping[str, Floats], pool: Pool, *, error: float
) -> Metric:
    """Return the group's AUC, by the attack that did best on the group's other fold."""
    interval, _ = cross_selected_auc(
        {k: v[mask] for k, v in scores.items()}, pool.coins[mask], pool.folds[mask], error=error
    )
    return Metric(
        name=f"auc_{name}",
        value=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        confidence=1 - error,
        direction="context",
        n=interval.n,
        baseline=0.5,
    )


def _joint_test(
    scores: Mapping[str, Floats],
    pool: Pool,
    groups: Mapping[str, Mask],
    *,
    settings: Settings,
    rng: np.random.Generator,
) -> Metric:
    """Return one p-value for "no attack tells anybody in any group, nor everybody, from others".

    Whoever is outside a group shares one lowest score there, so that ranks and top lists within the
    group decide. Strata are label sets, split by `unusual`: shuffles then keep every group's number
    of members, as the statistic within a group needs.
    """
    tossed = pool.tossed
    family = {name: values[tossed] for name, values in scores.items()}
    for group, mask in groups.items():
        family |= {
            f"{name} in {group}": np.where(mask, values, values.min() - 1.0)[tossed]
            for name, values in scores.items()
        }
    strata = 2 * pool.strata + groups.get("unusual", np.zeros(len(pool.strata), dtype=bool))
    p_value = max_statistic_test(
        family, pool.coins[tossed], strata[tossed], repeats=settings.permutations, rng=rng
    )
    return Metric(name=P_VALUE, value=p_value, direction="lower_is_riskier", n=int(tossed.sum()))
