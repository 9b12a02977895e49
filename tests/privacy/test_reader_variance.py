"""Variances of reader studies: published values, slow oracles, and what happens at chance."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from privacy.errors import InvalidParameter
from privacy.reader_variance import (
    Components,
    accuracy_kernel,
    auc_kernel,
    difference,
    from_components,
    jackknife_components,
    obuchowski_rockette,
    one_shot_variance,
    pooled_binomial_interval,
    u_statistic,
)

# Van Dyke et al. 1993 (5 readers, 45 + 69 cases), trapezoidal areas, as printed by OR-DBM MRMC 2.51 and
# RJafroc (Chakraborty, RJafroc book, "OR applications"): area, MS(R), Var, Cov2 -> SE, df, 95 % interval.
VAN_DYKE = {
    "spin echo": (
        (0.89703704, 0.0030826287, 0.00101410277, 0.00048396180),
        (0.033173597, 12.744648, 0.82522360, 0.96885048),
    ),
    "cine": (
        (0.94083736, 0.0013046019, 0.00059047376, 0.00020418785),
        (0.021566368, 12.710190, 0.89413783, 0.98753689),
    ),
}


@pytest.mark.parametrize("condition", VAN_DYKE)
def test_the_published_terms_of_van_dyke_give_the_published_interval(condition: str) -> None:
    (area, mean_square, variance, covariance), published = VAN_DYKE[condition]
    found = from_components(area, Components(mean_square, variance, covariance), readers=5)
    low, high = found.interval(0.95)
    assert (found.standard_error, found.freedom, low, high) == pytest.approx(published, rel=2e-7)


def test_the_published_difference_of_van_dyke_is_found_again() -> None:
    # MS(TR), Cov2, Cov3 of both conditions; a difference doubles each term (two conditions).
    components = Components(2 * 0.00055103062, math.nan, 2 * (0.00034407483 - 0.00023902837))
    found = from_components(-0.043800322, components, readers=5)
    low, high = found.interval(0.95)
    published = (0.020748618, 15.259675, -0.087959499, 0.00035885444)
    assert (found.standard_error, found.freedom, low, high) == pytest.approx(published, rel=1e-6)
    p_value = 2 * stats.t.sf(abs(found.value / found.standard_error), found.freedom)
    assert p_value == pytest.approx(0.051665686, rel=1e-6)


def roe_metz(seed: int, *, readers: int, cases: int, mu: float) -> np.ndarray:
    """Draw ratings of two conditions as Roe and Metz 1997, structure HL; (cases, readers, 2).

    The order of the draws is that of the study whose results RJafroc printed, see the test below.
    """
    rng = np.random.RandomState(seed)  # the published values need this stream
    positive = np.repeat([0.0, 1.0], cases)
    n = len(positive)
    by_case = math.sqrt(0.3) * rng.randn(n)
    by_condition = [math.sqrt(0.3) * rng.randn(n) for _ in range(2)]
    ratings = np.zeros((n, readers, 2), np.float32)
    for reader in range(readers):
        up, down = math.sqrt(0.0082) * rng.randn(2)
        by_reader = math.sqrt(0.2) * rng.randn(n)
        for condition in range(2):
            more, less = math.sqrt(0.0082) * rng.randn(2)
            noise = math.sqrt(0.2) * rng.randn(n)
            shift = (mu + up + more) * positive + (down + less) * (1 - positive)
            ratings[:, reader, condition] = (
                shift + by_case + by_reader + by_condition[condition] + noise
            )
    return ratings


def test_ratings_analysed_by_rjafroc_give_the_same_difference_interval_and_freedom() -> None:
    # Values printed by RJafroc for this draw: Google Health, analysis/reader_study_test.py (Apache-2.0).
    ratings = roe_metz(1987, readers=10, cases=200, mu=0.821)
    kernels = [auc_kernel(ratings[200:, :, c].T, ratings[:200, :, c].T) for c in (1, 0)]
    found = difference(kernels[0], kernels[1])
    low, high = found.interval(0.95)
    assert found.value == pytest.approx(0.00451, abs=1e-6)
    assert (low, high) == pytest.approx((-0.04284442691, 0.05186442691), abs=1e-6)
    assert found.freedom == pytest.approx(85.5241922, abs=1e-4)


def by_enumeration(kernel: np.ndarray) -> float:
    """Return the one-shot variance straight from its definition: every pair of entries."""
    entries = [index for index in np.ndindex(kernel.shape) if not math.isnan(kernel[index])]
    sums: dict[tuple[bool, ...], list[float]] = {}
    for one, other in itertools.product(entries, entries):
        shared = tuple(a == b for a, b in zip(one, other, strict=True))
        sums.setdefault(shared, []).append(kernel[one] * kernel[other])
    apart = np.mean(sums.pop((False,) * kernel.ndim))
    return sum(len(v) / len(entries) ** 2 * (np.mean(v) - apart) for v in sums.values())


@pytest.mark.parametrize("crossed", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 4), (4, 6)])
def test_the_one_shot_variance_is_that_of_its_definition(shape, crossed) -> None:
    rng = np.random.default_rng(3)
    kernel = (
        rng.random(shape) + rng.normal(0, 0.6, (shape[0],) + (1,) * (len(shape) - 1)) > 0.5
    ) * 1.0
    kernel += rng.normal(0, 0.3, (1, shape[1]) + (1,) * (len(shape) - 2))
    if not crossed:
        unread = rng.random(shape[:2]) < 0.3
        kernel[unread] = math.nan
    assert one_shot_variance(kernel) == pytest.approx(by_enumeration(kernel), rel=1e-9)
    assert u_statistic(kernel).value == pytest.approx(np.nanmean(kernel))


def test_both_methods_agree_where_both_apply() -> None:
    ratings = roe_metz(5, readers=8, cases=60, mu=0.5)[:, :, 0]
    kernel = auc_kernel(ratings[60:].T, ratings[:60].T)
    one, other = u_statistic(kernel), obuchowski_rockette(kernel)
    assert one.value == pytest.approx(other.value)
    assert one.standard_error == pytest.approx(other.standard_error, rel=0.03)


def test_an_area_is_that_of_mann_and_whitney_and_ties_count_half() -> None:
    real, synthetic = [[3, 5, 6, 4]], [[1, 5, 2]]
    expected = stats.mannwhitneyu(real[0], synthetic[0]).statistic / 12
    assert auc_kernel(real, synthetic).mean() == pytest.approx(expected)


def test_a_reader_alone_and_a_reader_without_answers_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="1 reader, at least 2"):
        u_statistic(np.ones((1, 4)))
    with pytest.raises(InvalidParameter, match="Leave that reader out"):
        u_statistic(np.array([[1.0, 0.0], [math.nan, math.nan]]))
    with pytest.raises(InvalidParameter, match="not every reader read every case"):
        jackknife_components(np.array([[1.0, 0.0], [math.nan, 1.0]]))


def answers_at_chance(rng: np.random.Generator, *, readers: int, cases: int, case_sd: float):
    """Draw calls "real" of readers who cannot tell, but lean one way and see cases alike."""
    leaning = rng.normal(0, 0.4, (readers, 1))
    look = rng.normal(0, case_sd, (1, 2 * cases))
    called_real = rng.normal(size=(readers, 2 * cases)) < leaning + look
    return called_real[:, :cases], called_real[:, cases:]


def rejections(
    runs: int, *, readers: int, cases: int, case_sd: float, seed: int
) -> tuple[float, float]:
    """Return how often chance is rejected at 5 %: by the U-statistics, by the pooled binomial."""
    rng = np.random.default_rng(seed)
    ours = pooled = 0
    for _ in range(runs):
        real, synthetic = answers_at_chance(rng, readers=readers, cases=cases, case_sd=case_sd)
        low, high = u_statistic(accuracy_kernel(real, ~synthetic)).interval(0.95)
        ours += not low <= 0.5 <= high
        right = int(real.sum() + (~synthetic).sum())
        low, high = pooled_binomial_interval(right, real.size + synthetic.size)
        pooled += not low <= 0.5 <= high
    return ours / runs, pooled / runs


def test_at_chance_our_error_is_nominal_and_that_of_pooled_answers_is_not() -> None:
    # 120 runs; P(more than 14 rejections at a true 5 %) < .002, P(fewer than 13 at a true 21 %) < .01.
    ours, pooled = rejections(120, readers=8, cases=20, case_sd=0.8, seed=11)
    assert ours <= 14 / 120
    assert pooled > ours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("readers", "cases", "case_sd", "pooled_at_least"),
    [
        (15, 30, 0.0, 0.0),
        (15, 30, 0.5, 0.15),
        (15, 30, 0.8, 0.27),
        (5, 50, 0.5, 0.07),
        (3, 20, 0.8, 0.055),
    ],
)
def test_many_studies_at_chance_keep_the_error_rate(
    readers, cases, case_sd, pooled_at_least
) -> None:
    # 2,000 runs: three standard errors of a true 5 % are 1.5 points.
    ours, pooled = rejections(2000, readers=readers, cases=cases, case_sd=case_sd, seed=readers)
    assert ours <= 0.07
    assert ours >= 0.01
    assert pooled >= pooled_at_least
