"""From the answers of a reader study to its result: one document, the same for page, API and report.

Pure: no clock, no database. Exclusions follow the locked plan and nothing else. Readers are numbered, so
that the document names nobody. Every sentence passes `check_wording`; what a study cannot say is in it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import krippendorff
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from privacy.errors import InvalidParameter
from privacy.reader_equivalence import CHANCE, Equivalence, check_wording, tost
from privacy.reader_statistics import LEAST_REAL, LEVELS, Calls, calls, roc_points, weighted_kappa
from privacy.reader_variance import (
    Estimate,
    accuracy_kernel,
    auc_kernel,
    jackknife_covariance,
    obuchowski_rockette,
    u_statistic,
)
from service.domain.studies import REAL, Phase, StudyAnswer, StudyCase, StudyPlan, real_is_left

Floats = NDArray[np.float64]

LIMITS = (
    "This study says nothing about privacy: a copy of a training image would look perfectly real.",
    "It says nothing about variety: one good image shown again and again would do as well.",
    "It speaks of readers and cases like these, seen as they were shown here.",
    "A computer may tell apart what people cannot.",
    "Whoever holds a link answers as its reader: who did, and looked, is the inviting auditor's word.",
)
"""What a result does not mean; part of every result."""


@dataclass(frozen=True)
class Read:
    """Who is analysed and why others are not; `rows` maps a reader's id to a row."""

    rows: dict[str, int]
    excluded: list[dict[str, Any]]
    too_fast: int
    answers: list[StudyAnswer] = field(default_factory=list)


def analyse(
    plan: StudyPlan,
    *,
    cases: Sequence[StudyCase],
    readers: Sequence[str],
    answers: Sequence[StudyAnswer],
) -> dict[str, Any]:
    """Return the result; `readers` are ids in the order of their invitation.

    Raises: InvalidParameter if fewer than two readers can be analysed.
    """
    read = apply_exclusions(plan, readers, answers)
    judged = _judgements(plan, cases, read)
    primary = u_statistic(judged.kernel)
    test = tost(primary, margin=plan.margin, alpha=plan.alpha)
    sentences = _sentences(plan, test, analysed=len(read.rows))
    for sentence in sentences:
        check_wording(sentence, test.conclusion)
    return {
        "kind": "reader_study_result",
        "schema_version": 1,
        "primary": _primary(plan, judged, test),
        "readers": [
            {"reader": readers.index(name) + 1, **_reader(plan, judged, row)}
            for name, row in read.rows.items()
        ],
        "rates": _rates(judged),
        "grading": _grading(plan, cases, read),
        "exclusions": {"readers": read.excluded, "answers_too_fast": read.too_fast},
        "counts": {
            "readers_planned": plan.readers,
            "readers_invited": len(readers),
            "readers_analysed": len(read.rows),
            "cases_per_class": plan.cases_per_class,
            "is_fully_crossed": bool(~np.isnan(judged.kernel).any()),
        },
        "conclusion": test.conclusion.value,
        "sentences": sentences,
        "limits": list(LIMITS),
    }


def apply_exclusions(
    plan: StudyPlan, readers: Sequence[str], answers: Sequence[StudyAnswer]
) -> Read:
    """Leave out answers that came too fast and readers who judged too little, as the plan says."""
    slow = [answer for answer in answers if answer.seconds >= plan.least_seconds]
    needed = plan.cases_per_class * (1 if plan.has_pairs else 2)
    rows: dict[str, int] = {}
    excluded: list[dict[str, Any]] = []
    for number, name in enumerate(readers, start=1):
        own = sum(a.reader_id == name and a.phase is Phase.JUDGING for a in slow)
        if own >= plan.least_share * needed:
            rows[name] = len(rows)
        else:
            excluded.append({"reader": number, "answers": own, "needed": needed})
    if len(rows) < 2:
        raise InvalidParameter(
            f"The analysis was refused: {len(rows)} reader(s) judged at least "
            f"{100 * plan.least_share:g} % of the cases; two are needed. Let more readers finish."
        )
    return Read(rows, excluded, len(answers) - len(slow), slow)


@dataclass(frozen=True)
class _Judged:
    """Phase B as arrays. Single cases: ratings (readers, cases of a class), NaN unread. Pairs: right."""

    kernel: Floats
    real: Floats | None = None
    synthetic: Floats | None = None


def _judgements(plan: StudyPlan, cases: Sequence[StudyCase], read: Read) -> _Judged:
    n, by_number = plan.cases_per_class, {case.number: case for case in cases}
    ratings = np.full((2, len(read.rows), n), np.nan)
    for answer in read.answers:
        row = read.rows.get(answer.reader_id)
        if row is None or answer.phase is not Phase.JUDGING:
            continue
        case = by_number[answer.case_number]
        if plan.has_pairs:
            left = real_is_left(plan, answer.reader_id, case.pair)
            ratings[0, row, case.pair - 1] = float((answer.value == 1) == left)
        else:
            ratings[int(case.truth != REAL), row, case.pair - 1] = answer.value
    if plan.has_pairs:
        return _Judged(kernel=ratings[0])
    return _Judged(auc_kernel(ratings[0], ratings[1]), ratings[0], ratings[1])


def _primary(plan: StudyPlan, judged: _Judged, test: Equivalence) -> dict[str, Any]:
    estimate = test.estimate
    return {
        "endpoint": plan.endpoint,
        **_shown(estimate, level=1 - 2 * test.alpha),
        "interval_95": list(estimate.interval(0.95)),
        "margin": test.margin,
        "alpha": test.alpha,
        "chance": CHANCE,
        "equivalence_p_value": test.p_value,
        "check": _check(judged),
    }


def _check(judged: _Judged) -> dict[str, Any] | None:
    """Return the second method's figures where it applies: two that disagree deserve a question."""
    if np.isnan(judged.kernel).any():
        return None
    return _shown(obuchowski_rockette(judged.kernel), level=0.95)


def _shown(estimate: Estimate, *, level: float) -> dict[str, Any]:
    freedom = estimate.freedom
    return {
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "degrees_of_freedom": freedom if np.isfinite(freedom) else None,
        "interval": list(estimate.interval(level)),
        "level": level,
        "method": estimate.method,
    }


def _reader(plan: StudyPlan, judged: _Judged, row: int) -> dict[str, Any]:
    """Return one reader's figures; their interval treats cases as random and this reader as given."""
    if plan.has_pairs or judged.real is None or judged.synthetic is None:
        right = judged.kernel[row][~np.isnan(judged.kernel[row])]
        found = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        return {"figure": float(right.mean()), "interval": [float(found.low), float(found.high)]}
    real, synthetic = _rated(judged.real[row]), _rated(judged.synthetic[row])
    kernel = auc_kernel(real[None], synthetic[None])
    error = float(np.sqrt(jackknife_covariance(kernel)[0, 0]))
    area, half = float(kernel.mean()), float(stats.norm.ppf(0.975)) * error
    own: Calls = calls(real, synthetic)
    return {
        "figure": area,
        "interval": [max(0.0, area - half), min(1.0, area + half)],
        "real_called_real": own.real_rate,
        "synthetic_called_real": own.synthetic_rate,
        "sensitivity": own.sensitivity,
        "criterion": own.criterion,
        "roc": [list(point) for point in roc_points(real, synthetic)],
        "confidence": {
            "real": [int((real == level).sum()) for level in range(1, LEVELS + 1)],
            "synthetic": [int((synthetic == level).sum()) for level in range(1, LEVELS + 1)],
        },
    }


def _rated(ratings: Floats) -> Floats:
    rated: Floats = ratings[~np.isnan(ratings)]
    return rated


def _rates(judged: _Judged) -> dict[str, Any] | None:
    """Return both rates and the balanced share correct, readers and cases random."""
    if judged.real is None or judged.synthetic is None:
        return None
    real, synthetic = (_called(ratings) for ratings in (judged.real, judged.synthetic))
    return {
        "real_called_real": _shown(u_statistic(real), level=0.95),
        "synthetic_called_real": _shown(u_statistic(synthetic), level=0.95),
        "share_correct": _shown(u_statistic(accuracy_kernel(real, 1 - synthetic)), level=0.95),
    }


def _called(ratings: Floats) -> Floats:
    called: Floats = np.where(np.isnan(ratings), np.nan, ratings >= LEAST_REAL)
    return called


def _grading(plan: StudyPlan, cases: Sequence[StudyCase], read: Read) -> dict[str, Any] | None:
    """Return the agreement of phase A, in real and synthetic cases apart."""
    if not plan.has_grading:
        return None
    grades = np.full((len(read.rows), len(cases)), np.nan)
    for answer in read.answers:
        row = read.rows.get(answer.reader_id)
        if row is not None and answer.phase is Phase.GRADING:
            grades[row, answer.case_number - 1] = answer.value
    ordered = sorted(cases, key=lambda case: case.number)
    is_real = np.array([case.truth == REAL for case in ordered])
    labels = np.array([float(case.label) for case in ordered])
    return {
        "scale": list(plan.scale),
        "all": _agreement(plan, grades, labels),
        "real": _agreement(plan, grades[:, is_real], labels[is_real]),
        "synthetic": _agreement(plan, grades[:, ~is_real], labels[~is_real]),
    }


def _agreement(plan: StudyPlan, grades: Floats, labels: Floats) -> dict[str, Any]:
    count = len(plan.scale)
    pairs = [
        weighted_kappa(grades[one], grades[other], grades=count)
        for one in range(len(grades))
        for other in range(one)
    ]
    with_label = (
        [weighted_kappa(row, labels, grades=count) for row in grades]
        if (plan.scale_is_the_label)
        else []
    )
    return {
        "krippendorff_alpha": _alpha(grades),
        "mean_kappa_between_readers": _mean(pairs),
        "kappa_with_label": with_label,
        "mean_kappa_with_label": _mean(with_label),
    }


def _alpha(grades: Floats) -> float | None:
    """Return Krippendorff's ordinal alpha, or None where no case was graded twice or all alike."""
    twice = (~np.isnan(grades)).sum(axis=0) > 1
    known = grades[:, twice][~np.isnan(grades[:, twice])]
    if len(np.unique(known)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(krippendorff.alpha(reliability_data=grades, level_of_measurement="ordinal"))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _sentences(plan: StudyPlan, test: Equivalence, *, analysed: int) -> list[str]:
    found = [test.sentence]
    if analysed < plan.readers:
        found.append(
            f"Fewer readers than registered: {analysed} of {plan.readers} could be analysed, so the "
            "interval is wider than was planned."
        )
    return found
