"""What a reader study may claim, in words that only a passed equivalence test unlocks.

"Not significantly different" is what a study too small to see anything says as well. So the claim needs
the whole interval inside a margin that was fixed beforehand (two one-sided tests, Schuirmann 1987), and
every sentence about a study is built, and may be checked, here.
"""

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from scipy import stats

from privacy.errors import InvalidParameter
from privacy.reader_variance import Components, Estimate, from_components

CHANCE = 0.5
MOST_MARGIN = 0.2
"""An area of .7 is no longer "hard to tell": a wider margin would make the claim empty."""


class Conclusion(StrEnum):
    """What the interval and the margin allow to say; there is no third way between them."""

    EQUIVALENT = "equivalent"
    SLIGHT = "equivalent_but_not_chance"  # inside the margin, yet chance is outside the interval
    DIFFERENT = "different"
    UNDECIDED = "undecided"


WITHIN = frozenset({Conclusion.EQUIVALENT, Conclusion.SLIGHT})

_CLAIMS = re.compile(
    r"indistinguishab|not distinguishab|cannot be (told|distinguished)|could not be distinguished"
    r"|(fool|deceiv)(s|ed|ing)?\b|no (significant )?difference|turing test",
    re.IGNORECASE,
)
"""What people write when they mean equivalence, or mistake a missing difference for it."""


@dataclass(frozen=True)
class Equivalence:
    """The test of a study's primary figure against chance ± margin."""

    estimate: Estimate
    margin: float
    alpha: float
    interval: tuple[float, float]
    p_value: float
    conclusion: Conclusion

    @property
    def sentence(self) -> str:
        """Return the one sentence that may stand for this study."""
        low, high = self.interval
        figure = (
            f"readers averaged {self.estimate.value:.3f} (.5 is guessing), "
            f"{100 * (1 - 2 * self.alpha):g} % interval {low:.3f} to {high:.3f}"
        )
        allowed = f"{CHANCE - self.margin:g} to {CHANCE + self.margin:g}"
        match self.conclusion:
            case Conclusion.EQUIVALENT:
                return (
                    f"Equivalent to guessing: {figure}, wholly inside the margin {allowed} that was "
                    "fixed before the first answer."
                )
            case Conclusion.SLIGHT:
                return (
                    f"Equivalent to guessing within the margin, though not exactly guessing: {figure}, "
                    f"wholly inside {allowed} but not around .5."
                )
            case Conclusion.DIFFERENT:
                return (
                    f"Readers told real from synthetic: {figure}; guessing lies outside the interval, "
                    f"and the interval is not inside the margin {allowed}."
                )
        return (
            f"Undecided: {figure}, which reaches beyond the margin {allowed}. This study is too small "
            "to say whether readers can tell; finding no effect is not evidence that there is none."
        )


def tost(estimate: Estimate, *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Test whether the estimate is within `margin` of chance: two one-sided tests at `alpha`."""
    check_margin(margin, alpha)
    low, high = estimate.interval(1 - 2 * alpha)
    inside = CHANCE - margin < low and high < CHANCE + margin
    outer_low, outer_high = estimate.interval(1 - alpha)  # a two-sided test of chance itself
    off_chance = not outer_low <= CHANCE <= outer_high
    if inside:
        conclusion = Conclusion.SLIGHT if off_chance else Conclusion.EQUIVALENT
    else:
        conclusion = Conclusion.DIFFERENT if off_chance else Conclusion.UNDECIDED
    return Equivalence(
        estimate=estimate,
        margin=margin,
        alpha=alpha,
        interval=(low, high),
        p_value=_larger_p_value(estimate, margin),
        conclusion=conclusion,
    )


def check_margin(margin: float, alpha: float) -> None:
    """Refuse a margin or an error rate that would make the claim empty.  Raises: InvalidParameter."""
    if not 0 < margin <= MOST_MARGIN:
        raise InvalidParameter(
            f"A margin of {margin:g} was refused: choose more than 0, at most {MOST_MARGIN:g}."
        )
    if not 0 < alpha <= 0.1:
        raise InvalidParameter(
            f"An alpha of {alpha:g} was refused: choose more than 0, at most .1."
        )


def check_wording(text: str, conclusion: Conclusion | None) -> None:
    """Refuse words that claim equivalence where none was shown.  Raises: InvalidParameter.

    `conclusion` is None while there is no result at all.
    """
    found = _CLAIMS.search(text)
    if found is None or conclusion in WITHIN:
        return
    why = "there is no result yet" if conclusion is None else f"the result is {conclusion.value!r}"
    raise InvalidParameter(
        f"The words {found[0]!r} were refused: {why}. Only a study whose whole interval lies inside "
        "its pre-registered margin may say so; state the interval instead."
    )


@dataclass(frozen=True)
class Design:
    """A study to come: how many, and how much cases and readers are expected to differ.

    `case_sd` is what all readers see alike in a case, in units of a single look's own noise; `reader_sd`
    how far readers' true areas differ. .5 and .03 are assumptions, to be replaced by an own pilot.
    """

    readers: int
    cases_per_class: int
    case_sd: float = 0.5
    reader_sd: float = 0.03

    def expected(self) -> Estimate:
        """Return the estimate that such a study would bring at chance, on average.

        Var(AUC) at chance is (2n + 1) / (12 n²) for n cases a class; two readers of the same cases have
        the grade correlation (6 / pi) asin(rho / 2) of that, rho = case_sd² / (case_sd² + 1).
        """
        if self.readers < 2 or self.cases_per_class < 2:
            raise InvalidParameter(
                f"A study of {self.readers} readers and {self.cases_per_class} cases of a class was "
                "refused: at least 2 of both are needed."
            )
        n = self.cases_per_class
        single = (2 * n + 1) / (12 * n * n)
        shared = self.case_sd**2 / (self.case_sd**2 + 1)
        covariance = single * 6 / math.pi * math.asin(shared / 2)
        mean_square = self.reader_sd**2 + single - covariance
        return from_components(
            CHANCE, Components(mean_square, single, covariance), readers=self.readers
        )


def power(design: Design, *, margin: float, alpha: float = 0.05) -> float:
    """Return the chance that a study at chance shows equivalence within `margin`."""
    check_margin(margin, alpha)
    expected = design.expected()
    reach = margin / expected.standard_error - float(stats.t.ppf(1 - alpha, expected.freedom))
    return max(0.0, 2 * float(stats.t.cdf(reach, expected.freedom)) - 1)


def cases_needed(
    design: Design, *, margin: float, alpha: float = 0.05, wanted: float = 0.8, most: int = 2000
) -> int | None:
    """Return the fewest cases of a class that give a design the wanted power; None beyond `most`."""

    def reached(cases: int) -> bool:
        return power(replace(design, cases_per_class=cases), margin=margin, alpha=alpha) >= wanted

    low, high = 2, most
    if not reached(most):
        return None
    while low < high:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _larger_p_value(estimate: Estimate, margin: float) -> float:
    """Return the larger of the two one-sided p-values: equivalence holds where it is below alpha."""
    error, away = estimate.standard_error, abs(estimate.value - CHANCE)
    if error == 0:
        return 0.0 if away < margin else 1.0
    return float(stats.t.cdf((away - margin) / error, estimate.freedom))
