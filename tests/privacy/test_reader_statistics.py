"""Figures of single readers: known values, the package's alpha, and scales that are refused."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from privacy.errors import InvalidParameter
from privacy.reader_statistics import calls, roc_points, weighted_kappa


def test_rates_sensitivity_and_criterion_are_those_of_the_textbook() -> None:
    found = calls([6, 6, 5, 4, 1], [1, 2, 6, 3, 3])
    assert (found.real_rate, found.synthetic_rate) == (0.8, 0.2)
    hits, alarms = stats.norm.ppf(4.5 / 6), stats.norm.ppf(1.5 / 6)  # log-linear, Hautus 1995
    assert found.sensitivity == pytest.approx(hits - alarms)
    assert found.criterion == pytest.approx(-(hits + alarms) / 2)


def test_whoever_calls_everything_real_has_no_sensitivity_and_a_low_criterion() -> None:
    found = calls([6] * 30, [6] * 30)
    assert found.sensitivity == pytest.approx(0)
    assert found.criterion < -2
    assert math.isfinite(found.criterion)


def test_the_curve_begins_at_nothing_called_real_and_ends_at_everything() -> None:
    points = roc_points([6, 5, 4], [4, 2, 1])
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    area = sum((right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairwise(points))
    assert area == pytest.approx(stats.mannwhitneyu([6, 5, 4], [4, 2, 1]).statistic / 9)


@pytest.mark.parametrize("wrong", [[0], [7], [2.5]])
def test_a_rating_off_the_scale_is_refused(wrong) -> None:
    with pytest.raises(InvalidParameter, match="whole numbers 1 to 6"):
        calls(wrong, [1])
    with pytest.raises(InvalidParameter, match="no synthetic case was rated"):
        calls([1], [math.nan])


def test_quadratic_kappa_is_that_of_scikit_learn_and_skips_what_was_not_graded() -> None:
    rng = np.random.default_rng(4)
    one = rng.integers(0, 5, 60)
    other = np.clip(one + rng.integers(-1, 2, 60), 0, 4)
    expected = cohen_kappa_score(one, other, weights="quadratic")
    assert weighted_kappa(one, other, grades=5) == pytest.approx(expected)
    holes = np.where(np.arange(60) < 10, math.nan, other)
    expected = cohen_kappa_score(one[10:], other[10:], weights="quadratic")
    assert weighted_kappa(one, holes, grades=5) == pytest.approx(expected)
    assert weighted_kappa([2, 2], [2, 2], grades=5) is None
    with pytest.raises(InvalidParameter, match="the scale ends at 4"):
        weighted_kappa([5], [1], grades=5)
