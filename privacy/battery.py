"""Run every audit and its self-test on one candidate, and write the report.

The audits come in as modules, so that this file knows none of them by import. Cost is dominated by
one search of samples against records, shared by audits and self-test alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from privacy import accounting
from privacy.ceilings import ceilings, privacy_curve
from privacy.copies import Config as CopyConfig
from privacy.copies import Detector
from privacy.errors import EvidenceMissing
from privacy.evidence import Arm, Evidence, Finding
from privacy.membership import Settings
from privacy.neighbourhoods import Population, population_of, survey
from privacy.policy import (
    Policy,
    decide,
    judge_epsilon,
    judge_membership,
    judge_near_copies,
    judge_self_test,
    verdict_of,
)
from privacy.report import AuditReport, Gate, SpecimenResult
from privacy.self_test import Examination, Terms, examine
from privacy.specimens import Materials, choose_materials
from privacy.statements import disclaimers, not_tested

Progress = Callable[[str, int, int], None]

_DEFAULT_DELTA = 1e-5
# Rough shares of the time, so that one bar with one estimate runs over the whole battery.
_STAGES = {"search": 60, "self-test": 10, "limit": 30}


class Meter:
    """Turns progress of stages into progress of the whole, in thousandths."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0.0

    def show(self, stage: str, text: str, *, share: float) -> None:
        """Report that `share` (0-1) of `stage` is done; never runs backwards."""
        names = list(_STAGES)
        before = sum(_STAGES[n] for n in names[: names.index(stage)])
        now = 10 * (before + _STAGES[stage] * min(1.0, share))
        self._done = max(self._done, now)
        if self._progress is not None:
            self._progress(text, int(self._done), 1000)


@dataclass(frozen=True)
class Order:
    """What was asked for: policy, tier and attempt, and what the caller knows of provenance."""

    policy: Policy
    tier: str
    attempt: int
    provenance: Mapping[str, str]
    problems: Sequence[str]


def run(
    audits: Mapping[str, ModuleType],
    evidence: Evidence,
    *,
    order: Order,
    rng: np.random.Generator,
    progress: Progress | None,
) -> AuditReport:
    """Audit one candidate and its specimens; see `privacy.audits.run_battery`."""
    check_shapes(evidence)
    policy, meter = order.policy, Meter(progress)
    settings = membership_settings(evidence, policy, order.attempt)
    terms = Terms(policy, policy.tier(order.tier), settings)
    population = population_of(evidence)
    materials = choose_materials(population, rng=rng)
    keep = materials.keep if isinstance(materials, Materials) else np.empty(0, dtype=np.int64)
    seen = survey(evidence, keep=keep, population=population, progress=_search_progress(meter))
    detector = Detector(
        population,
        seen.calibration,
        sample_count=len(evidence.samples),
        config=CopyConfig(permutations=policy.grid.permutations),
        rng=rng,
    )
    findings = {
        name: audits[name].run(evidence, seen, settings=settings, detector=detector, rng=rng)
        for name in wanted(policy, evidence)
    }
    examination = examine(
        evidence, seen, materials, detector, terms=terms, rng=rng, show=meter.show
    )
    report = _report(evidence, population, order, terms, findings=findings, examined=examination)
    meter.show("limit", "report", share=1.0)
    return report


def _report(
    evidence: Evidence,
    population: Population,
    order: Order,
    terms: Terms,
    *,
    findings: Mapping[str, Finding],
    examined: Examination,
) -> AuditReport:
    """Judge the findings and write everything down."""
    policy = order.policy
    curve = privacy_curve(evidence.target, evidence.mechanisms)
    ceiling = ceilings(curve, policy.grid.fpr)
    claimed = claimed_epsilon(evidence)
    bound, certifiable, why_none = epsilon_of(findings)
    gates = _audit_gates(findings, examined, terms, ceiling)
    by_audit = {n: verdict_of([g for g in gates if g.audit == n]) for n in findings}
    gates += judge_epsilon(lower_bound=bound, claimed=claimed, tier=terms.tier, reason=why_none)
    gates.append(judge_self_test(examined.results, examined.reason))
    verdict, sentence = decide(gates, order.problems)
    return AuditReport(
        modality=evidence.modality,
        unit=evidence.unit,
        tier=order.tier,
        policy_version=policy.version,
        policy_digest=policy.digest,
        attempt=order.attempt,
        verdict=verdict,
        verdict_reason=sentence,
        verdicts=by_audit,
        gates=tuple(gates),
        findings=tuple(findings.values()),
        self_test=examined.results,
        self_test_passed=passed_self_test(examined.results),
        leaky_specimen=examined.results[0] if examined.results else None,
        limit_of_detection=examined.limits,
        epsilon_claimed=claimed,
        delta=evidence.target.delta if evidence.target else None,
        epsilon_lower_bound=bound,
        epsilon_max_certifiable=certifiable,
        epsilon_reason=why_none,
        epsilon_confidence=1 - policy.errors.epsilon,
        ceiling=ceiling,
        privacy_curve=curve,
        mechanisms=evidence.mechanisms,
        units=_units(evidence),
        records=_records(evidence, population),
        provenance=dict(order.provenance),
        not_tested=not_tested(evidence, tuple(findings)),
        disclaimers=disclaimers(evidence.unit),
    )


def _audit_gates(
    findings: Mapping[str, Finding],
    examined: Examination,
    terms: Terms,
    ceiling: Mapping[str, float],
) -> list[Gate]:
    gates: list[Gate] = []
    for name, finding in findings.items():
        if name == "near_copies":
            gates += judge_near_copies(
                finding, examined.limits, policy=terms.policy, tier=terms.tier
            )
        else:
            gates += judge_membership(
                finding, policy=terms.policy, tier=terms.tier, ceiling=ceiling
            )
    return gates


def passed_self_test(results: Sequence[SpecimenResult]) -> bool | None:
    """Return whether every specimen was judged rightly; None where nobody can tell."""
    if any(result.judged_wrongly for result in results):
        return False
    return True if results and all(result.passed for result in results) else None


def check_shapes(evidence: Evidence) -> None:
    """Refuse evidence whose arrays disagree."""
    records, samples, persons = len(evidence.records), len(evidence.samples), len(evidence.arms)
    wrong = [
        name
        for name, array, length in (
            ("labels", evidence.labels, records),
            ("persons", evidence.persons, records),
            ("sample_labels", evidence.sample_labels, samples),
            ("folds", evidence.folds, persons),
            ("excluded", evidence.excluded, persons),
            *((f"record_scores[{k}]", v, records) for k, v in evidence.record_scores.items()),
        )
        if len(array) != length
    ]
    if wrong:
        raise EvidenceMissing(f"The evidence was refused: wrong length of {', '.join(wrong)}.")
    if not records or not samples:
        raise EvidenceMissing(
            f"The evidence was refused: {records} records and {samples} samples. Give both."
        )
    if evidence.records.shape[1:] != evidence.samples.shape[1:]:
        raise EvidenceMissing(
            f"The evidence was refused: records of shape {evidence.records.shape[1:]}, samples of "
            f"shape {evidence.samples.shape[1:]}. They must be of one size."
        )


def wanted(policy: Policy, evidence: Evidence) -> tuple[str, ...]:
    """Return the audits that this evidence allows and the policy asks for."""
    with_scores = policy.audits.with_scores if evidence.record_scores else ()
    return (*policy.audits.required, *with_scores)


def membership_settings(evidence: Evidence, policy: Policy, attempt: int) -> Settings:
    """Return what the policy fixes for membership audits; they share the error of epsilon."""
    count = len([name for name in wanted(policy, evidence) if name != "near_copies"])
    return Settings(
        bound_error=policy.bound_error(attempt),
        epsilon_error=policy.errors.epsilon / max(1, count),
        delta=evidence.target.delta if evidence.target else _DEFAULT_DELTA,
        fpr=policy.grid.fpr,
        guesses=policy.grid.guesses,
        permutations=policy.grid.permutations,
    )


def claimed_epsilon(evidence: Evidence) -> float | None:
    """Return epsilon at the target's delta, derived from mechanisms where they are given."""
    if evidence.target is None:
        return None
    if evidence.mechanisms:
        return accounting.epsilon(evidence.mechanisms, evidence.target.delta)
    return evidence.target.epsilon


def epsilon_of(findings: Mapping[str, Finding]) -> tuple[float | None, float | None, str | None]:
    """Return the best lower bound, the most certifiable one, and why there is none."""
    bounds = [f.metric("epsilon_lower_bound") for n, f in findings.items() if n != "near_copies"]
    most = [f.metric("epsilon_max_certifiable") for n, f in findings.items() if n != "near_copies"]
    values = [m.value for m in bounds if m.value is not None]
    if not values:
        return None, None, bounds[0].reason if bounds else "no membership audit ran"
    return max(values), max(m.value for m in most if m.value is not None), None


def _search_progress(meter: Meter) -> Progress:
    started: dict[str, float] = {}

    def report(text: str, done: int, total: int) -> None:
        started[text] = done / max(1, total)
        # Six searches; the first one, in pixels, takes most of the time.
        weights = {0: 0.55, 1: 0.15}
        share = sum(weights.get(i, 0.075) * d for i, d in enumerate(started.values()))
        meter.show("search", text, share=share)

    return report


def _units(evidence: Evidence) -> dict[str, int]:
    kept = evidence.arms[~evidence.excluded]
    counts = {arm.name.lower(): int((kept == arm).sum()) for arm in Arm}
    return counts | {"excluded": int(evidence.excluded.sum()), "total": len(evidence.arms)}


def _records(evidence: Evidence, population: Population) -> dict[str, int]:
    arms = population.arms[population.persons]
    counts = {arm.name.lower(): int((arms == arm).sum()) for arm in Arm}
    return counts | {"total": len(evidence.records), "synthetic": len(evidence.samples)}
