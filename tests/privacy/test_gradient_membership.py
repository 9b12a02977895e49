"""The gradient audit learns on one half of the coins and is measured on the other half alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.audits import gradient_membership
from privacy.errors import EvidenceMissing, InvalidParameter
from privacy.evidence import Arm
from privacy.logistic import fit_logistic
from privacy.membership import Pool, Settings
from privacy.neighbourhoods import Survey, population_of
from tests.privacy.audit_material import innocent

SETTINGS = Settings(
    bound_error=0.025,
    epsilon_error=0.02,
    delta=1e-5,
    fpr=(0.01, 0.05, 0.1),
    guesses=(10, 20, 50, 100),
    permutations=400,
)


def known_by(evidence):
    return np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN)).astype(float)


def with_gradients(evidence, features):
    return replace(evidence, gradient_features=features)


def found_in(evidence, rng):
    survey = Survey(population_of(evidence), (), {}, {}, {}, {})
    return gradient_membership.run(evidence, survey, settings=SETTINGS, detector=None, rng=rng)


def features_of(evidence, rng, *, gap):
    """Return ten noisy layers, in one of which members' gradients are smaller by `gap`."""
    layers = rng.normal(size=(len(evidence.records), 10))
    layers[:, 6] -= gap * known_by(evidence)
    return layers


def test_what_hides_in_one_layer_is_learnt_from_the_coins():
    rng = np.random.default_rng(0)
    evidence = innocent(rng, persons=1600)
    found = found_in(with_gradients(evidence, features_of(evidence, rng, gap=2.0)), rng)
    assert found.metric("auc").ci_low > 0.8
    assert found.metric("leak_p_value").value < 0.01
    assert found.metric("auc_norm").ci_low < 0.55  # the plain size shows nothing
    assert found.metric("epsilon_lower_bound").value > 0.5
    assert found.details["features"] == 10


def test_only_persons_whose_coin_no_attack_has_seen_are_counted():
    rng = np.random.default_rng(1)
    evidence = innocent(rng, persons=1600)
    found = found_in(with_gradients(evidence, features_of(evidence, rng, gap=1.0)), rng)
    pool = np.isin(evidence.arms, (Arm.AUDIT_IN, Arm.AUDIT_OUT, Arm.REFERENCE_B))
    assert found.details["members"] + found.details["non_members"] == int(
        (pool & (evidence.folds == 2)).sum()
    )
    tossed = np.isin(evidence.arms, (Arm.AUDIT_IN, Arm.AUDIT_OUT)) & (evidence.folds == 2)
    assert found.metric("epsilon_lower_bound").n == int(tossed.sum())


def test_coins_of_the_second_half_never_reach_the_regression():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(400, 4))
    folds, coins = rng.integers(1, 3, 400), rng.integers(0, 2, 400)
    pool = Pool(np.arange(400), coins, folds, np.zeros(400, int), np.ones(400, bool))
    flipped = replace(pool, coins=np.where(folds == 2, 1 - coins, coins))
    one, other = (
        gradient_membership.learned_scores(features, p, ridge=1.0) for p in (pool, flipped)
    )
    for name in one:
        assert np.array_equal(one[name], other[name])


@pytest.mark.slow
def test_noise_of_many_layers_gives_uniform_p_values_and_no_epsilon():
    """As many features as a network has layers: an attack that overfits must not show here.

    False alarms: KS at 1e-4; positive bounds at most the 99.9 % quantile of Bin(60, 0.02).
    """
    rng = np.random.default_rng(3)
    base = innocent(rng, persons=1200, samples=10)
    p_values, positives = [], 0
    for _ in range(60):
        arms = base.arms.copy()
        pool = np.isin(arms, (Arm.AUDIT_IN, Arm.AUDIT_OUT))
        arms[pool] = rng.choice([Arm.AUDIT_IN, Arm.AUDIT_OUT], int(pool.sum()))
        evidence = replace(base, arms=arms, folds=rng.integers(1, 3, len(arms)))
        features = rng.normal(size=(len(base.records), 50))
        found = found_in(with_gradients(evidence, features), rng)
        p_values.append(found.metric("leak_p_value").value)
        positives += found.metric("epsilon_lower_bound").value > 0
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4
    assert positives <= stats.binom.ppf(0.999, 60, 0.02)


def test_too_few_persons_say_so_instead_of_a_number():
    rng = np.random.default_rng(4)
    evidence = innocent(rng, persons=90)
    found = found_in(with_gradients(evidence, features_of(evidence, rng, gap=2.0)), rng)
    assert found.metric("auc").value is None
    assert "needed" in found.metric("auc").reason


def test_records_without_gradients_are_refused():
    rng = np.random.default_rng(5)
    evidence = innocent(rng, persons=90)
    with pytest.raises(EvidenceMissing, match="one row for each"):
        found_in(with_gradients(evidence, np.zeros((3, 2))), rng)


def test_the_regression_agrees_with_its_own_gradient_and_with_a_closed_form():
    rng = np.random.default_rng(6)
    rows = np.repeat([0.0, 1.0], [40, 60])[:, None]
    targets = np.concatenate([np.repeat([1, 0], [10, 30]), np.repeat([1, 0], [45, 15])])
    fit = fit_logistic(rows, targets, ridge=1e-9)
    # One binary feature: the fitted odds are the observed ones.
    expected = [np.log(10 / 30), np.log(45 / 15)]
    assert fit.logits(np.array([[0.0], [1.0]])) == pytest.approx(expected, abs=1e-3)
    strong = fit_logistic(rng.normal(size=(50, 3)), rng.integers(0, 2, 50), ridge=1e9)
    assert np.abs(strong.weights).max() < 1e-6


def test_a_regression_without_both_targets_is_refused():
    with pytest.raises(InvalidParameter, match="both targets"):
        fit_logistic(np.zeros((4, 1)), np.ones(4, int))
