"""Equivalence and its words: what is not shown cannot be said."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from privacy.reader_equivalence import (
    Conclusion,
    Design,
    cases_needed,
    check_wording,
    power,
    tost,
)
from privacy.reader_variance import Estimate, auc_kernel, u_statistic


def estimate(value: float, error: float, freedom: float = 1e6) -> Estimate:
    return Estimate(value, error, freedom, 10, "given")


@pytest.mark.parametrize(
    ("value", "error", "conclusion"),
    [
        (0.51, 0.02, Conclusion.EQUIVALENT),
        (0.55, 0.02, Conclusion.SLIGHT),
        (0.70, 0.02, Conclusion.DIFFERENT),
        (0.59, 0.02, Conclusion.DIFFERENT),
        (0.52, 0.08, Conclusion.UNDECIDED),
        (0.30, 0.02, Conclusion.DIFFERENT),  # worse than guessing is no equivalence either
    ],
)
def test_the_conclusion_follows_from_interval_and_margin_alone(value, error, conclusion) -> None:
    found = tost(estimate(value, error), margin=0.1)
    assert found.conclusion is conclusion
    assert (found.p_value < 0.05) == (conclusion in {Conclusion.EQUIVALENT, Conclusion.SLIGHT})


def test_a_small_study_says_undecided_and_never_that_there_is_no_difference() -> None:
    sentence = tost(estimate(0.5, 0.2), margin=0.1).sentence
    assert sentence.startswith("Undecided")
    assert "no effect is not evidence that there is none" in sentence
    for conclusion in Conclusion:
        values = {"equivalent": 0.5, "equivalent_but_not_chance": 0.55, "different": 0.8}
        found = tost(
            estimate(values.get(conclusion, 0.5), 0.2 if conclusion == "undecided" else 0.02),
            margin=0.1,
        )
        assert found.conclusion is conclusion
        check_wording(found.sentence, found.conclusion)


@pytest.mark.parametrize(
    "claim",
    [
        "The images are indistinguishable.",
        "Readers could not be fooled? They were deceived.",
        "There was no significant difference.",
        "It passed a visual Turing test.",
        "Synthetic images cannot be told from real ones.",
    ],
)
def test_claims_are_refused_until_equivalence_was_shown(claim: str) -> None:
    for conclusion in (None, Conclusion.UNDECIDED, Conclusion.DIFFERENT):
        with pytest.raises(InvalidParameter, match="state the interval instead"):
            check_wording(claim, conclusion)
    check_wording(claim, Conclusion.EQUIVALENT)


def test_a_margin_that_would_make_the_claim_empty_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"A margin of 0\.3 was refused"):
        tost(estimate(0.5, 0.01), margin=0.3)
    with pytest.raises(InvalidParameter, match="An alpha of"):
        tost(estimate(0.5, 0.01), margin=0.1, alpha=0.2)


def test_power_grows_with_cases_and_the_fewest_cases_just_suffice() -> None:
    needed = cases_needed(Design(10, 30), margin=0.1)
    assert needed is not None
    assert power(Design(10, needed), margin=0.1) >= 0.8 > power(Design(10, needed - 1), margin=0.1)
    assert power(Design(3, 10), margin=0.05) == 0
    assert cases_needed(Design(2, 30), margin=0.001) is None


def test_the_expected_error_is_that_of_simulated_studies_at_chance() -> None:
    design = Design(8, 40, case_sd=0.7, reader_sd=0.0)
    rng = np.random.default_rng(6)
    areas = []
    for _ in range(200):
        looks = rng.normal(0, 0.7, (1, 80)) + rng.normal(size=(8, 80))
        areas.append(auc_kernel(looks[:, :40], looks[:, 40:]).mean())
    assert np.std(areas) == pytest.approx(design.expected().standard_error, rel=0.15)


@pytest.mark.slow
def test_equivalence_is_claimed_falsely_no_oftener_than_alpha() -> None:
    """At a true area on the margin itself, at most 5 % of studies may claim equivalence."""
    rng = np.random.default_rng(7)
    shift = np.sqrt(2 * (1 + 0.5**2)) * 0.2533471  # area .6: Phi(shift / sqrt(2 (1 + case_sd²)))
    claims = 0
    for _ in range(1500):
        looks = rng.normal(0, 0.5, (1, 200)) + rng.normal(size=(8, 200))
        looks[:, :100] += shift + rng.normal(0, 0.1, (8, 1))
        found = tost(u_statistic(auc_kernel(looks[:, :100], looks[:, 100:])), margin=0.1)
        claims += found.conclusion in {Conclusion.EQUIVALENT, Conclusion.SLIGHT}
    assert claims / 1500 <= 0.065
