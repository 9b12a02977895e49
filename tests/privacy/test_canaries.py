"""Coins of canaries are fair and keyed; what they show is bounded like any single run."""

import numpy as np
import pytest
from scipy import stats

from privacy import canaries
from privacy.errors import InvalidParameter
from privacy.reference_attacks import calibrated_scores
from privacy.statistics import auc

KEY = b"k" * 32
ORDER = {"epsilon_claimed": 2.0, "delta": 1e-5, "guesses": (20, 50, 100, 200), "error": 0.02}


def test_coins_are_fair_and_follow_from_the_key():
    """False alarm 1e-6."""
    coins = canaries.toss_canary_coins(20_000, key=KEY)
    assert stats.binomtest(int(coins.sum()), len(coins), 0.5).pvalue > 1e-6
    assert np.array_equal(coins[:50], canaries.toss_canary_coins(50, key=KEY))
    other = canaries.toss_canary_coins(20_000, key=b"o" * 32)
    assert stats.binomtest(int((coins == other).sum()), len(coins), 0.5).pvalue > 1e-6


def test_a_short_key_is_refused():
    with pytest.raises(InvalidParameter, match="32 random bytes"):
        canaries.toss_canary_coins(3, key=b"short")


def test_a_twin_that_knows_its_canaries_refutes_the_claim():
    rng = np.random.default_rng(0)
    coins = canaries.toss_canary_coins(400, key=KEY)
    found = canaries.measure_twin(
        {"loss": coins + 0.01 * rng.normal(size=400)}, coins, rng=rng, **ORDER
    )
    assert found.refutes_claim
    assert 2.0 < found.epsilon_lower_bound <= found.epsilon_max_certifiable
    names = {metric.name for metric in found.metrics()}
    assert names == {"twin_epsilon_lower_bound", "twin_epsilon_max_certifiable", "twin_auc_loss"}


def test_noise_refutes_nothing():
    """Errs in 2 % of twins: at most 5 of 60 (99.9 % quantile of Bin(60, 0.02))."""
    rng = np.random.default_rng(1)
    positive = 0
    for number in range(60):
        coins = canaries.toss_canary_coins(200, key=bytes([number]) * 32)
        scores = {"loss": rng.normal(size=200), "size": rng.normal(size=200)}
        positive += canaries.measure_twin(scores, coins, rng=rng, **ORDER).epsilon_lower_bound > 0
    assert positive <= stats.binom.ppf(0.999, 60, 0.02)


@pytest.mark.parametrize("scores", [{}, {"a": np.ones(3)}, {"a": np.full(4, np.nan)}])
def test_missing_scores_are_refused(scores):
    with pytest.raises(InvalidParameter, match="one finite number for each"):
        canaries.measure_twin(scores, np.array([0, 1, 0, 1]), rng=np.random.default_rng(0), **ORDER)


def scored_by_models(rng, *, people=600, models=4):
    """Return scores in which difficulty hides membership, of a target and reference models."""
    coins = rng.integers(0, 2, people)
    difficulty = 5 * rng.normal(size=people)
    target = difficulty + coins + 0.5 * rng.normal(size=people)
    references = difficulty + 0.5 * rng.normal(size=(models, people))
    return coins, target, references


def test_calibration_by_reference_models_uncovers_what_difficulty_hides():
    rng = np.random.default_rng(2)
    coins, target, references = scored_by_models(rng)
    population = np.flatnonzero(coins == 0)[:100]
    found = calibrated_scores({"loss": target}, {"loss": references}, population=population)
    assert auc(target, coins) < 0.62
    assert set(found) == {"lira_loss", "rmia_loss"}
    for scores in found.values():
        assert auc(scores, coins) > 0.8


def test_calibration_keeps_gaps_as_gaps_and_refuses_a_single_model():
    rng = np.random.default_rng(3)
    _, target, references = scored_by_models(rng, people=30)
    target[4] = np.nan
    found = calibrated_scores({"a": target}, {"a": references}, population=np.arange(10, 20))
    assert all(np.isnan(v[4]) and np.isfinite(np.delete(v, 4)).all() for v in found.values())
    with pytest.raises(InvalidParameter, match="2 models"):
        calibrated_scores({"a": target}, {"a": references[:1]}, population=np.arange(5))
