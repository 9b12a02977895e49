"""Oracles for bounds on epsilon: closed forms, slow references, known truths, pure noise, peers."""

import itertools

import numpy as np
import pytest
from scipy import stats

from privacy.epsilon_bounds import (
    Guessing,
    TwoWorlds,
    any_epsilon,
    curve_p_value,
    epsilon_lower_bound,
    one_run_epsilon,
    one_run_gaussian_epsilon,
    one_run_p_value,
    refutes_curve,
    two_world_epsilon,
    two_world_gaussian_epsilon,
)
from privacy.errors import InvalidParameter
from privacy.tradeoffs import gaussian, gaussian_dp_epsilon, of_pairs

GRID = (10, 20, 50, 100, 200, 500)
MOST = 21  # the 99.9 % quantile of Bin(200, .05)


def coins_and_noise(persons, rng):
    return rng.integers(0, 2, persons), rng.normal(size=persons)


def bound_of(scores, coins, rng, **changes):
    settings = {"delta": 1e-5, "grid": GRID, "error": 0.05} | changes
    return epsilon_lower_bound(scores, coins, rng=rng, **settings)


def slow_one_run_p_value(m, r, v, eps, delta):
    """Steinke, Nasr and Jagielski 2023, appendix D, term by term."""
    q = 1 / (1 + np.exp(-eps))
    beta, alpha, total = stats.binom.sf(v - 1, r, q), 0.0, 0.0
    for i in range(1, v + 1):
        total += stats.binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    return min(1.0, beta + alpha * delta * 2 * m)


@pytest.mark.parametrize("correct", [0, 1, 40, 60, 100])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
def test_one_run_p_value_agrees_with_the_paper_term_by_term(correct, epsilon):
    mine = one_run_p_value(Guessing(500, 100, correct), epsilon=epsilon, delta=1e-4)
    assert mine == pytest.approx(slow_one_run_p_value(500, 100, correct, epsilon, 1e-4), rel=1e-9)


@pytest.mark.parametrize(
    ("guesses", "expected"), [(10, 1.0), (20, 1.8), (50, 2.8), (100, 3.5), (500, 5.1)]
)
def test_all_guesses_right_certify_the_known_ceiling(guesses, expected):
    found = one_run_epsilon(Guessing(guesses, guesses, guesses), delta=1e-5, error=0.05)
    assert found == pytest.approx(expected, abs=0.06)


def test_guesses_that_cannot_have_been_made_are_refused():
    with pytest.raises(InvalidParameter, match="7 correct of 6 guesses over 10 persons"):
        Guessing(10, 6, 7)


def least_wrong_mass(curve, persons, guesses, correct, tail):
    """Return whether a tail this heavy fits under the curve, asking a linear programme.

    The unknowns are the chances p_j of j correct guesses. The curve is given by tangents, so each
    constraint right_i ≤ 1 - f(wrong_{i-1}) is a set of linear ones: no recursion, no induction.
    """
    from scipy.optimize import linprog

    count = np.arange(guesses + 1)
    rows, limits = [], []
    for start in range(1, guesses + 1):
        right = np.where(count >= start, count / persons, 0.0)
        wrong = np.where(count >= start - 1, (guesses - count) / persons, 0.0)
        for slope, height in curve:  # chance in one world ≤ slope · chance in the other + height
            rows.append(right - slope * wrong)
            limits.append(height)
    whole = np.ones(guesses + 1)
    heavy = -(count >= correct).astype(float)
    found = linprog(
        np.zeros(guesses + 1),
        A_ub=np.array([*rows, heavy]),
        b_ub=np.array([*limits, -tail]),
        A_eq=whole[None],
        b_eq=[1.0],
        bounds=(0, 1),
    )
    return found.status == 0


@pytest.mark.parametrize(
    ("persons", "guesses", "correct"), [(30, 20, 15), (12, 12, 10), (60, 8, 8)]
)
@pytest.mark.parametrize("epsilon", [0.2, 0.6, 1.2])
def test_whatever_the_recursion_refutes_no_chances_at_all_can_satisfy(
    persons, guesses, correct, epsilon
):
    delta = 1e-3
    lines = [
        (np.exp(epsilon), delta),
        (np.exp(-epsilon), 1 - np.exp(-epsilon) * (1 - delta)),
    ]
    for tail in (0.001, 0.01, 0.05, 0.2):
        refuted = refutes_curve(
            Guessing(persons, guesses, correct), of_pairs([(epsilon, delta)]), error=tail
        )
        if refuted:
            assert not least_wrong_mass(lines, persons, guesses, correct, tail)


def test_without_delta_the_recursion_is_nearly_the_binomial_tail():
    for right, epsilon in itertools.product((35, 40, 50), (0.0, 0.3)):
        guessing = Guessing(50, 50, right)
        exact = one_run_p_value(guessing, epsilon=epsilon, delta=0.0)
        curve = of_pairs([(epsilon, 0.0)])
        assert not refutes_curve(guessing, curve, error=exact * 0.999)
        assert refutes_curve(guessing, curve, error=min(0.9, 1.8 * exact))


def test_the_curve_of_many_pairs_of_a_gaussian_is_nearly_the_gaussian_itself():
    mu = 1.3
    epsilons = np.linspace(0, 8, 400)
    deltas = stats.norm.cdf(mu / 2 - epsilons / mu) - np.exp(epsilons) * stats.norm.cdf(
        -mu / 2 - epsilons / mu
    )
    many = of_pairs(list(zip(epsilons, deltas, strict=True)))
    for chance in (1e-4, 0.01, 0.3, 0.9, 0.999):
        assert many(chance) <= gaussian(mu)(chance) + 1e-12
        assert many(chance) == pytest.approx(gaussian(mu)(chance), rel=0.02, abs=1e-6)


# jax-privacy 2.0.0, scores chosen to give these counts, Explicit threshold, significance .05,
# delta 1e-5: (canaries, guesses, correct, epsilon_one_run, epsilon_one_run_fdp).
JAX_PRIVACY_2_0_0 = [
    (200, 20, 20, 1.816473, 2.892103),
    (500, 100, 80, 0.956860, 1.556430),
    (500, 500, 350, 0.682993, 1.351995),
    (500, 100, 100, 3.479195, 6.121754),
    (1000, 500, 300, 0.251205, 0.438815),
    (1000, 500, 365, 0.824827, 1.436755),
    (1000, 500, 440, 1.760585, 3.058725),
    (2000, 50, 45, 1.377090, 1.782526),
    (2000, 20, 11, 0.000000, 0.000000),
    (2000, 200, 196, 3.034896, 4.649815),
]


@pytest.mark.parametrize(("persons", "guesses", "correct", "steinke", "gauss"), JAX_PRIVACY_2_0_0)
def test_one_run_bounds_agree_with_the_frozen_values_of_jax_privacy(
    persons, guesses, correct, steinke, gauss
):
    guessing = Guessing(persons, guesses, correct)
    assert one_run_epsilon(guessing, delta=1e-5, error=0.05) == pytest.approx(steinke, abs=1e-3)
    found = one_run_gaussian_epsilon(guessing, delta=1e-5, error=0.05)
    assert found == pytest.approx(gauss, abs=1e-3)


def test_the_better_of_both_proofs_is_never_below_either():
    for right in (60, 75, 90, 100):
        guessing = Guessing(2000, 100, right)
        both = any_epsilon(guessing, delta=1e-4, error=0.05)
        assert both >= one_run_epsilon(guessing, delta=1e-4, error=0.05) - 1e-5
    # Steinke's term in delta grows with all persons, and costs most where few are guessed.
    alone = one_run_epsilon(Guessing(2000, 20, 20), delta=1e-4, error=0.05)
    assert any_epsilon(Guessing(2000, 20, 20), delta=1e-4, error=0.05) > alone + 0.7


@pytest.mark.parametrize(
    ("epsilon", "reference"), [(0.5, 0.33), (1.0, 0.84), (2.0, 1.78), (4.0, 3.48)]
)
def test_randomised_response_is_never_overclaimed_and_rarely_underclaimed(epsilon, reference):
    rng = np.random.default_rng(8)
    chance = np.exp(epsilon) / (1 + np.exp(epsilon))
    bounds = np.array(
        [
            any_epsilon(
                Guessing(1000, 1000, int(rng.binomial(1000, chance))), delta=1e-5, error=0.05
            )
            for _ in range(200)
        ]
    )
    assert (bounds > epsilon).sum() <= MOST
    assert bounds.mean() >= 0.9 * reference


@pytest.mark.parametrize(
    ("mu", "truth", "reference", "reference_gaussian"),
    [(1, 4.3772, 1.03, 1.41), (2, 9.9973, 2.40, 3.57), (4, 24.3816, 3.68, 6.18)],
)
def test_gaussian_canaries_are_never_overclaimed_and_rarely_underclaimed(
    mu, truth, reference, reference_gaussian
):
    rng = np.random.default_rng(9)
    assert gaussian_dp_epsilon(mu, 1e-5) == pytest.approx(truth, abs=1e-3)
    any_values, gaussian_values = [], []
    for _ in range(60):
        coins, noise = coins_and_noise(500, rng)
        found = bound_of({"sum": noise + mu * coins}, coins, rng)
        any_values.append(found.value)
        gaussian_values.append(found.gaussian_value)
    assert max(any_values) <= max(gaussian_values)
    assert (np.array(gaussian_values) > truth).sum() <= stats.binom.ppf(0.999, 60, 0.05)
    assert np.mean(any_values) >= 0.9 * reference
    assert np.mean(gaussian_values) >= 0.9 * reference_gaussian


def test_pure_noise_claims_epsilon_no_more_often_than_declared():
    rng = np.random.default_rng(9)
    positives = gaussian_positives = refuted = 0
    for _ in range(200):
        coins, noise = coins_and_noise(300, rng)
        scores = {"a": noise, "b": rng.normal(size=300), "c": rng.normal(size=300)}
        bound = bound_of(scores, coins, rng, claim=((0.0, 1e-5),))
        positives += bound.value > 0
        gaussian_positives += bound.gaussian_value > 0
        refuted += bound.claim_p_value <= 0.05
    assert max(positives, gaussian_positives, refuted) <= MOST


def test_a_sound_claim_is_refuted_no_more_often_than_declared_and_a_false_one_mostly():
    rng = np.random.default_rng(10)
    mu = 1.0
    epsilons = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
    curves = {
        noise: [
            (e, float(stats.norm.cdf(m / 2 - e / m) - np.exp(e) * stats.norm.cdf(-m / 2 - e / m)))
            for e in epsilons
        ]
        for noise, m in (("sound", mu), ("false", mu / 4))
    }
    refuted = {"sound": 0, "false": 0}
    for _ in range(40):
        coins, noise = coins_and_noise(500, rng)
        for name, curve in curves.items():
            bound = bound_of({"sum": noise + mu * coins}, coins, rng, grid=(50, 200), claim=curve)
            refuted[name] += bound.claim_p_value <= 0.05
    assert refuted["sound"] <= stats.binom.ppf(0.999, 40, 0.05)
    assert refuted["false"] >= 38


def test_the_p_value_of_a_claim_is_where_the_claim_begins_to_be_refuted():
    guessing, pairs = Guessing(400, 100, 75), [(0.0, 0.2), (0.4, 0.05), (1.0, 1e-3)]
    p_value = curve_p_value(guessing, pairs)
    assert refutes_curve(guessing, of_pairs(pairs), error=p_value * 1.001)
    assert not refutes_curve(guessing, of_pairs(pairs), error=p_value * 0.999)
    assert p_value <= min(one_run_p_value(guessing, epsilon=e, delta=d) for e, d in pairs)


def test_no_claim_has_no_p_value():
    rng = np.random.default_rng(12)
    coins, noise = coins_and_noise(100, rng)
    assert bound_of({"a": noise}, coins, rng).claim_p_value is None


def test_a_perfect_attack_certifies_all_that_can_be_certified():
    rng = np.random.default_rng(10)
    coins, noise = coins_and_noise(1000, rng)
    bound = bound_of({"noise": noise, "perfect": coins + 0.01 * noise}, coins, rng)
    assert bound.attack == "perfect"
    assert bound.value == pytest.approx(bound.max_certifiable, abs=1e-5)
    assert bound.gaussian_value == pytest.approx(bound.gaussian_max_certifiable, abs=1e-4)
    assert 3.5 < bound.value < bound.gaussian_value


def test_an_odd_number_of_guesses_promises_no_more_than_can_be_made():
    rng = np.random.default_rng(13)
    coins, noise = coins_and_noise(200, rng)
    odd = bound_of({"a": coins + 0.01 * noise}, coins, rng, grid=(21,))
    even = bound_of({"a": coins + 0.01 * noise}, coins, rng, grid=(20,))
    assert odd == even


def test_an_epsilon_bound_needs_enough_persons():
    rng = np.random.default_rng(11)
    coins, noise = coins_and_noise(6, rng)
    with pytest.raises(InvalidParameter, match="6 persons"):
        bound_of({"a": noise}, coins, rng)


@pytest.mark.parametrize(
    ("runs", "expected"), [(25, 1.84), (50, 2.57), (100, 3.28), (250, 4.21), (1000, 5.60)]
)
def test_perfect_guesses_in_two_worlds_certify_the_known_ceiling(runs, expected):
    perfect = TwoWorlds(hits=runs, runs_with=runs, false_hits=0, runs_without=runs)
    assert two_world_epsilon(perfect, delta=0.0, error=0.05) == pytest.approx(expected, abs=0.006)


def test_counts_of_the_manual_of_privacy_estimates_give_its_clopper_pearson_bound_of_zero():
    # privacy-estimates 0.1.0.post1, README: TP=487 TN=1 FP=512 FN=0, alpha .1, delta 1e-5.
    counts = TwoWorlds(hits=487, runs_with=487, false_hits=512, runs_without=513)
    assert two_world_epsilon(counts, delta=1e-5, error=0.1) == 0.0


def katz(hits, runs, false_hits, other_runs):
    """Return Katz's one-sided 95 % lower bound of a ratio of two proportions (asymptotic)."""
    variance = 1 / hits - 1 / runs + 1 / false_hits - 1 / other_runs
    ratio = (hits / runs) / (false_hits / other_runs)
    return ratio * np.exp(-stats.norm.ppf(0.95) * np.sqrt(variance))


@pytest.mark.parametrize(
    ("hits", "false_hits", "published"), [(100, 10, 4.45958661), (90, 5, 6.39712581)]
)
def test_the_exact_bound_lies_below_the_asymptotic_one_of_a_published_example(
    hits, false_hits, published
):
    # TF-Privacy's documented example, 110 and 80 runs. Ours looks at both directions of the claim.
    assert katz(hits, 110, false_hits, 80) == pytest.approx(published)
    counts = TwoWorlds(hits=hits, runs_with=110, false_hits=false_hits, runs_without=80)
    other = katz(80 - false_hits, 80, 110 - hits, 110)
    found = two_world_epsilon(counts, delta=0.0, error=0.05)
    assert 0 < found < np.log(max(published, other))


def test_two_worlds_of_known_epsilon_are_rarely_overclaimed():
    rng = np.random.default_rng(14)
    runs, mu = 400, 1.5
    tpr, fpr = stats.norm.sf(0.5 - mu), stats.norm.sf(0.5)
    over = over_gaussian = 0
    truth = np.log(tpr / fpr)  # of this threshold, without delta
    values = []
    for _ in range(200):
        counts = TwoWorlds(rng.binomial(runs, tpr), runs, rng.binomial(runs, fpr), runs)
        over += two_world_epsilon(counts, delta=0.0, error=0.05) > max(
            truth, np.log((1 - fpr) / (1 - tpr))
        )
        values.append(two_world_gaussian_epsilon(counts, delta=1e-5, error=0.05))
        over_gaussian += values[-1] > gaussian_dp_epsilon(mu, 1e-5)
    assert max(over, over_gaussian) <= MOST
    assert np.mean(values) > 0.7 * gaussian_dp_epsilon(mu, 1e-5)


def test_a_rule_that_points_the_wrong_way_in_two_worlds_certifies_nothing():
    backwards = TwoWorlds(hits=5, runs_with=100, false_hits=60, runs_without=100)
    assert two_world_epsilon(backwards, delta=0.0, error=0.05) == 0.0
    assert two_world_gaussian_epsilon(backwards, delta=1e-5, error=0.05) == 0.0
