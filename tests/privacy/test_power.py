"""What an audit could have seen: reference values, and simulated audits that see it as often."""

import numpy as np
import pytest
from scipy import stats

from privacy.errors import InvalidParameter
from privacy.power import arm_needed_for_auc, detectable_auc, detectable_rate
from privacy.statistics import auc_interval, clopper_pearson


@pytest.mark.parametrize(
    ("arm", "expected"), [(250, 0.564), (500, 0.545), (1000, 0.532), (2500, 0.520)]
)
def test_the_detectable_auc_has_its_reference_values(arm, expected):
    assert detectable_auc(arm, arm, error=0.05) == pytest.approx(expected, abs=6e-4)


def test_an_attack_of_the_detectable_auc_is_seen_in_four_of_five_audits():
    rng = np.random.default_rng(1)
    coins = np.repeat([1, 0], [150, 250])
    shift = np.sqrt(2) * stats.norm.ppf(detectable_auc(150, 250, error=0.05))
    seen = [
        auc_interval(rng.normal(size=400) + shift * coins, coins, error=0.05).low > 0.5
        for _ in range(400)
    ]
    low, high = stats.binom.ppf([0.001, 0.999], 400, 0.8) / 400
    assert low - 0.02 <= np.mean(seen) <= high + 0.02


def test_as_many_units_as_needed_let_a_private_release_pass_in_four_of_five_audits():
    rng = np.random.default_rng(2)
    arm = arm_needed_for_auc(0.6, error=0.05)
    coins = np.repeat([1, 0], arm)
    passed = [
        auc_interval(rng.normal(size=2 * arm), coins, error=0.05).high < 0.6 for _ in range(400)
    ]
    assert stats.binom.ppf(0.001, 400, 0.78) <= np.sum(passed) <= stats.binom.ppf(0.999, 400, 0.82)


def test_arms_as_large_as_needed_detect_just_what_is_tolerated():
    arm = arm_needed_for_auc(0.55, error=0.025)
    assert (
        detectable_auc(arm, arm, error=0.025)
        <= 0.55
        < detectable_auc(arm - 1, arm - 1, error=0.025)
    )


@pytest.mark.parametrize(("trials", "chance"), [(100, 0.5), (1000, 0.01), (40, 0.1)])
def test_a_detectable_rate_is_shown_with_exactly_the_stated_chance(trials, chance):
    rate = detectable_rate(trials, chance=chance, error=0.05)
    shown = [k for k in range(trials + 1) if clopper_pearson(k, trials, error=0.05)[0] > chance]
    assert stats.binom.sf(shown[0] - 1, trials, rate) == pytest.approx(0.8)


def test_too_few_trials_can_show_nothing():
    assert detectable_rate(4, chance=0.5, error=0.05) == 1.0
    assert detectable_rate(0, chance=0.5, error=0.05) == 1.0
    assert detectable_auc(1, 1, error=0.05) == 1.0


def test_arms_without_units_and_tolerances_that_nobody_can_meet_are_refused():
    with pytest.raises(InvalidParameter, match="Arms of 0 and 10"):
        detectable_auc(0, 10, error=0.05)
    with pytest.raises(InvalidParameter, match=r"tolerance 0\.5 was refused"):
        arm_needed_for_auc(0.5, error=0.05)
