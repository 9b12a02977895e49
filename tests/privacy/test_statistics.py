"""Oracles for the audit statistics: closed forms, slow references, known truths, pure noise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.ceilings import ceilings, highest_tpr, privacy_curve
from privacy.epsilon_findings import NAMES
from privacy.errors import InvalidParameter
from privacy.mechanisms import GaussianMechanism, PrivacyTarget
from privacy.membership import Pool, Settings, _tpr_metric, measure
from privacy.statistics import (
    auc,
    auc_interval,
    cautious_threshold,
    clopper_pearson,
    cross_selected_auc,
    held_out_needed,
    max_statistic_test,
    tpr_at_fpr,
)
from privacy.tradeoffs import gaussian_dp_auc, gaussian_dp_mu, gaussian_dp_tpr

GRID = (10, 20, 50, 100, 200, 500)


def coins_and_noise(persons, rng):
    return rng.integers(0, 2, persons), rng.normal(size=persons)


def test_no_copy_in_six_thousand_samples_means_at_most_half_a_permille():
    assert clopper_pearson(0, 6000, error=0.05)[1] == pytest.approx(1 - 0.05 ** (1 / 6000))
    assert clopper_pearson(0, 6000, error=0.05)[1] < 0.0005


def test_clopper_pearson_bounds_are_the_binomial_tails():
    low, high = clopper_pearson(7, 50, error=0.025)
    assert stats.binom.sf(6, 50, low) == pytest.approx(0.025)
    assert stats.binom.cdf(7, 50, high) == pytest.approx(0.025)


def test_clopper_pearson_learns_nothing_from_no_trials():
    assert clopper_pearson(0, 0, error=0.05) == (0.0, 1.0)


def test_clopper_pearson_refuses_more_successes_than_trials():
    with pytest.raises(InvalidParameter, match="3 successes in 2 trials"):
        clopper_pearson(3, 2, error=0.05)


def test_auc_counts_pairs_and_halves_of_ties():
    rng = np.random.default_rng(1)
    coins, scores = rng.integers(0, 2, 60), rng.integers(0, 5, 60).astype(float)
    inside, outside = scores[coins == 1], scores[coins == 0]
    pairs = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    assert auc(scores, coins) == pytest.approx(pairs)


@pytest.mark.parametrize(
    ("inside", "outside", "mu"), [(60, 60, 0.7), (20, 20, 0.0), (40, 400, 1.5), (100, 100, 3.0)]
)
def test_each_side_of_the_auc_interval_fails_as_often_as_it_says(inside, outside, mu):
    rng = np.random.default_rng(2)
    truth = stats.norm.cdf(mu / np.sqrt(2))
    coins = np.repeat([1, 0], [inside, outside])
    found = [
        auc_interval(rng.normal(size=len(coins)) + mu * coins, coins, error=0.05)
        for _ in range(400)
    ]
    # Bin(400, .05) lies within this with probability above .999.
    assert sum(i.low > truth for i in found) <= 36
    assert sum(i.high < truth for i in found) <= 36


def test_a_flawless_attack_is_bounded_by_the_share_that_may_have_gone_unseen():
    coins = np.repeat([1, 0], [30, 50])
    found = auc_interval(coins.astype(float), coins, error=0.05)
    assert found.value == found.high == 1.0
    # With this share of members hidden among the others, none of 30 is one of them in 5 % of audits.
    assert found.low == pytest.approx(0.05 ** (1 / 30))


def test_scores_that_are_all_equal_have_an_auc_of_a_half_with_room_on_both_sides():
    coins = np.repeat([1, 0], [30, 50])
    found = auc_interval(np.zeros(80), coins, error=0.05)
    assert found.value == 0.5
    assert found.low < 0.45
    assert found.high > 0.55


def test_choosing_the_strongest_of_many_noise_attacks_does_not_raise_the_auc():
    rng = np.random.default_rng(3)
    values = []
    for _ in range(100):
        coins, folds = rng.integers(0, 2, 200), rng.integers(1, 3, 200)
        scores = {str(i): rng.normal(size=200) for i in range(8)}
        values.append(cross_selected_auc(scores, coins, folds, error=0.05)[0].value)
    assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / 10


def test_true_positive_rate_is_silent_below_ten_expected_false_positives():
    rng = np.random.default_rng(4)
    coins, folds = np.tile([0, 1], 190), np.repeat([1, 2], 190)
    scores = rng.normal(size=380)
    assert tpr_at_fpr(scores, coins, folds, fpr=0.1, error=0.05) is None
    coins, folds = np.tile([0, 1], 200), np.repeat([1, 2], 200)
    assert tpr_at_fpr(rng.normal(size=400), coins, folds, fpr=0.1, error=0.05) is not None
    assert held_out_needed(0.1) == 200


def test_the_threshold_comes_from_fold_one_alone():
    rng = np.random.default_rng(5)
    coins, folds = np.tile([0, 1], 400), np.repeat([1, 2], 400)
    scores = rng.normal(size=800)
    before = tpr_at_fpr(scores, coins, folds, fpr=0.1, error=0.05)
    scores[(folds == 1) & (coins == 1)] += 5  # members of fold 1 must not matter
    after = tpr_at_fpr(scores, coins, folds, fpr=0.1, error=0.05)
    assert before == after
    scores[(folds == 1) & (coins == 0)] += 5  # its non-members must
    assert tpr_at_fpr(scores, coins, folds, fpr=0.1, error=0.05).tpr.value < after.tpr.value


def pool_of_scores(inside, outside, rng):
    coins = np.r_[np.ones(inside, dtype=int), np.zeros(outside, dtype=int)]
    return Pool(
        persons=np.arange(len(coins)),
        coins=coins,
        folds=rng.integers(1, 3, len(coins)),
        strata=np.zeros(len(coins), dtype=int),
        tossed=np.ones(len(coins), dtype=bool),
    )


@pytest.mark.parametrize(
    ("inside", "outside", "fpr", "tolerance"),
    [pytest.param(1000, 2100, 0.01, 0.05, marks=pytest.mark.slow), (250, 480, 0.05, 0.17)],
)
def test_a_leak_at_the_tolerance_passes_no_more_often_than_the_bound_may_err(
    inside, outside, fpr, tolerance
):
    rng = np.random.default_rng(12)
    mu = stats.norm.ppf(tolerance) - stats.norm.ppf(fpr)
    passed = passed_private = 0
    for _ in range(200):
        pool = pool_of_scores(inside, outside, rng)
        noise = rng.normal(size=inside + outside)
        leak = _tpr_metric({"a": noise + mu * pool.coins}, pool, fpr, 0.05)
        passed += leak.value is not None and leak.ci_high < tolerance
        private = _tpr_metric({"a": noise}, pool, fpr, 0.05)
        passed_private += private.value is None or private.ci_high < tolerance
    assert passed <= stats.binom.ppf(0.999, 200, 0.05)
    assert passed_private >= 190  # and what leaks nothing still passes


def test_a_threshold_lets_the_nominal_share_through_with_the_stated_chance():
    rng = np.random.default_rng(13)
    tops = [cautious_threshold(rng.random(240), 0.05) for _ in range(2000)]
    assert np.mean(1 - np.array(tops) >= 0.05) >= 0.67


def test_scores_that_say_nothing_about_anybody_recognise_nobody():
    rng = np.random.default_rng(14)
    pool = pool_of_scores(250, 480, rng)
    settings = Settings(0.05, 0.02, 1e-5, (0.05, 0.1), GRID, 200)
    finding = measure("a", {"same": np.arange(730) == 0}, pool, settings=settings, rng=rng)
    assert finding.metric("tpr_at_0.1").ci_low < 0.1 < finding.metric("tpr_at_0.1").ci_high + 0.05


def test_p_values_of_the_leak_test_are_uniform_where_nothing_leaks():
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(150):
        coins, first = coins_and_noise(80, rng)
        scores = {"a": first, "b": first + rng.normal(size=80), "ties": np.round(first)}
        strata = rng.integers(0, 2, 80)
        p_values.append(max_statistic_test(scores, coins, strata, repeats=199, rng=rng))
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12


def test_the_leak_test_finds_one_leaking_attack_among_noise():
    rng = np.random.default_rng(7)
    coins, noise = coins_and_noise(200, rng)
    scores = {"noise": noise, "leak": rng.normal(size=200) + coins}
    strata = np.zeros(200, dtype=int)
    assert max_statistic_test(scores, coins, strata, repeats=999, rng=rng) == 0.001


@pytest.mark.parametrize(
    ("epsilon", "area", "tpr"), [(1, 0.575, 0.020), (2, 0.639, 0.034), (4, 0.743, 0.081)]
)
def test_gaussian_ceilings_are_the_known_ones(epsilon, area, tpr):
    mu = gaussian_dp_mu(epsilon, 1e-5)
    assert gaussian_dp_auc(mu) == pytest.approx(area, abs=0.001)
    assert gaussian_dp_tpr(mu, 0.01) == pytest.approx(tpr, abs=0.001)


def test_the_ceiling_from_mechanisms_lies_above_the_gaussian_truth_and_close_to_it():
    sigma = 2.0  # sensitivity 1: exactly mu = 1 / sigma
    curve = privacy_curve(None, (GaussianMechanism(stage="s", noise_multiplier=sigma),))
    fpr = np.array([0.01, 0.1, 0.5])
    exact = np.array([gaussian_dp_tpr(1 / sigma, f) for f in fpr])
    found = highest_tpr(curve, fpr)
    assert (found >= exact - 1e-6).all()
    assert (found <= exact + 0.02).all()


def test_no_claim_has_no_ceiling_and_a_bare_claim_has_a_loose_one():
    assert ceilings(privacy_curve(None, ()), (0.1,)) == {}
    loose = ceilings(privacy_curve(PrivacyTarget(epsilon=1.0, delta=1e-5), ()), (0.1,))
    assert loose["tpr_at_0.1"] == pytest.approx(np.e * 0.1 + 1e-5)
    assert loose["auc"] > gaussian_dp_auc(gaussian_dp_mu(1.0, 1e-5))


def test_the_highest_auc_of_a_single_pair_is_its_closed_form():
    epsilon = 1.3  # without delta, the ROC is two straight pieces that meet at 1 / (1 + e^epsilon)
    corner = 1 / (1 + np.exp(epsilon))
    exact = 1 - corner
    assert ceilings([(epsilon, 0.0)], ())["auc"] == pytest.approx(exact, abs=1e-12)


def test_the_highest_auc_of_many_pairs_is_not_below_a_fine_sum_over_the_curve():
    curve = privacy_curve(None, (GaussianMechanism(stage="s", noise_multiplier=1.5),))
    grid = np.linspace(0, 1, 200_001)
    fine = np.trapezoid(highest_tpr(curve, grid), grid)
    assert fine <= ceilings(curve, ())["auc"] <= fine + 1e-6


def sham_finding(rng, claim=()):
    """Return what a membership audit measures where coins are shuffled after the fact."""
    pool = pool_of_scores(200, 200, rng)
    coins = rng.integers(0, 2, 400)
    pool = replace(pool, coins=coins)
    signal = rng.normal(size=400)
    scores = {"near": signal, "calibrated": signal + rng.normal(size=400), "ties": np.round(signal)}
    settings = Settings(0.05, 0.05, 1e-5, (0.05, 0.1), (20, 50, 100, 200), 99, claim)
    return measure("sham", scores, pool, settings=settings, rng=rng)


def test_a_sham_audit_with_shuffled_coins_finds_nothing_beyond_chance():
    rng = np.random.default_rng(15)
    findings = [sham_finding(rng, claim=((0.0, 1e-5),)) for _ in range(50)]
    p_values = [f.metric("leak_p_value").value for f in findings]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    most = stats.binom.ppf(0.999, 50, 0.05)
    assert sum(f.metric("epsilon_lower_bound").value > 0 for f in findings) <= most
    assert sum(f.metric("epsilon_lower_bound_gaussian").value > 0 for f in findings) <= most
    assert sum(f.metric("claim_p_value").value <= 0.05 for f in findings) <= most
    assert sum(f.metric("auc").ci_low > 0.5 for f in findings) <= most


def test_a_membership_audit_says_what_it_could_have_seen():
    rng = np.random.default_rng(16)
    finding = sham_finding(rng)
    most, gaussian = (
        finding.metric(f"epsilon_max_certifiable{end}").value for end in ("", "_gaussian")
    )
    assert 3 < most < gaussian
    assert 0.55 < finding.metric("detectable_auc").value < 0.6
    assert finding.metric("claim_p_value").value is None
    assert finding.metric("claim_p_value").reason == "no epsilon is claimed"
    assert finding.details["detectable_tpr"]["0.1"] > 0.1
    assert 0.5 < finding.details["epsilon_detectable_accuracy"]["200"] < 0.75


def test_arms_that_no_fair_coin_made_get_no_bound_on_epsilon():
    rng = np.random.default_rng(17)
    pool = pool_of_scores(150, 400, rng)
    settings = Settings(0.05, 0.05, 1e-5, (0.1,), GRID, 99, ((1.0, 1e-5),))
    finding = measure("a", {"a": rng.normal(size=550)}, pool, settings=settings, rng=rng)
    for name in NAMES:
        assert finding.metric(name).value is None
        assert "no fair coin" in finding.metric(name).reason
    assert finding.metric("auc").value is not None


def test_too_few_units_leave_every_number_out_with_one_reason():
    rng = np.random.default_rng(18)
    pool = pool_of_scores(15, 15, rng)
    settings = Settings(0.05, 0.05, 1e-5, (0.1,), GRID, 99)
    finding = measure("a", {"a": rng.normal(size=30)}, pool, settings=settings, rng=rng)
    for name in ("auc", "tpr_at_0.1", "leak_p_value", "detectable_auc", *NAMES):
        assert finding.metric(name).value is None
        assert "units that are needed" in finding.metric(name).reason
