"""Run every audit and its self-test on one candidate, and write the report.

The audits come in as modules, so that this file knows none of them by import. Cost is dominated by
one search of samples against records, shared by audits and self-test alike.
"""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal

import numpy as np

from privacy.ceilings import ceilings, privacy_curve
from privacy.claims import believable, claim_test, claimed_epsilon, delta_of, epsilon_of
from privacy.copies import Config as CopyConfig
from privacy.copies import Detector
from privacy.criteria import criteria
from privacy.diagnostics import judge_diagnostic, judge_groups
from privacy.errors import EvidenceMissing
from privacy.evidence import Arm, Evidence, Finding, Goal
from privacy.gains import judge_attack
from privacy.looked_at import in_all, looked_at
from privacy.membership import Settings
from privacy.meter import Meter, Progress, search_progress
from privacy.neighbourhoods import Population, Survey, population_of, survey
from privacy.policy import (
    Depth,
    Policy,
    judge_epsilon,
    judge_near_copies,
)
from privacy.report import Attack, AuditReport, Gate, SpecimenResult, Verdict
from privacy.self_test import Examination, Terms, examine
from privacy.specimens import Materials, choose_materials
from privacy.statements import conditions, disclaimers, in_units, not_tested
from privacy.verdicts import decide, judge_self_test, verdict_of


@dataclass(frozen=True)
class Order:
    """What was asked for: policy, tier, attempt, depth, and what the caller knows of provenance."""

    policy: Policy
    tier: str
    attempt: int
    provenance: Mapping[str, str]
    problems: Sequence[str]
    depth: Depth = Depth.QUICK
    seed: int | None = None


@dataclass(frozen=True)
class Battery:
    """One battery that has run: its report, and what was measured on the way to it.

    `materials` is a sentence where there are too few records for specimens.
    """

    report: AuditReport
    survey: Survey
    materials: Materials | str
    detector: Detector
    settings: Settings


def run(
    audits: Mapping[str, ModuleType],
    evidence: Evidence,
    *,
    order: Order,
    rng: np.random.Generator,
    progress: Progress | None,
) -> Battery:
    """Audit one candidate and its specimens; see `privacy.audits.run_battery`."""
    check_shapes(evidence)
    audits = {name: audit for name, audit in audits.items() if _applies(audit, evidence)}
    evidence = at_depth(evidence, order.depth)
    policy, meter = order.policy.at(order.depth), Meter(progress)
    running = {name: audits[name] for name in wanted(audits, evidence, policy, depth=order.depth)}
    settings = membership_settings(running, evidence, policy, attempt=order.attempt)
    terms = Terms(policy, policy.tier(order.tier), settings)
    given, evidence = evidence, looked_at(evidence, rng=rng)
    population = population_of(evidence)
    materials = choose_materials(population, rng=rng)
    keep = materials.keep if isinstance(materials, Materials) else np.empty(0, dtype=np.int64)
    seen = survey(evidence, keep=keep, population=population, progress=search_progress(meter))
    detector = Detector(
        population,
        seen.calibration,
        sample_count=len(evidence.samples),
        config=CopyConfig(permutations=policy.grid.permutations),
        rng=rng,
    )
    findings = {
        name: module.run(evidence, seen, settings=settings, detector=detector, rng=rng)
        for name, module in running.items()
    }
    findings = {n: in_all(believable(f, evidence), evidence) for n, f in findings.items()}
    for name in policy.audits.required:
        findings.setdefault(name, Finding(audit=name, metrics=()))  # nothing measured: no pass
    examination = examine(
        evidence,
        seen,
        materials,
        detector,
        audits=_self_tested(running, policy),
        terms=terms,
        rng=rng,
        show=meter.show,
    )
    report = _report(
        given, population, order, terms, findings=findings, examined=examination, audits=audits
    )
    meter.show("limit", "report", share=1.0)
    return Battery(report, seen, materials, detector, settings)


def _report(
    evidence: Evidence,
    population: Population,
    order: Order,
    terms: Terms,
    *,
    findings: Mapping[str, Finding],
    examined: Examination,
    audits: Mapping[str, ModuleType],
) -> AuditReport:
    """Judge the findings and write everything down."""
    policy = order.policy
    curve = privacy_curve(evidence.target, evidence.mechanisms)
    ceiling = ceilings(curve, policy.grid.fpr)
    claimed = claimed_epsilon(evidence)
    bound, certifiable, why_none = epsilon_of(findings)
    # A number that somebody states proves nothing by itself: only mechanisms on record do.
    gates = _audit_gates(findings, examined, terms, ceiling if evidence.mechanisms else {})
    judged = [n for n in findings if n in policy.audits.gating]
    by_audit = {n: verdict_of([g for g in gates if g.audit == n]) for n in judged}
    gates += judge_epsilon(
        lower_bound=bound,
        claimed=claimed,
        tier=terms.tier,
        reason=why_none,
        claim_test=claim_test(findings, terms.settings),
    )
    gates.append(judge_self_test(examined.results, examined.reason))
    verdict, sentence = decide(gates, order.problems)
    if verdict is not Verdict.INVALID:
        sentence = " ".join([sentence, *conditions(evidence)])
    listed = attacks(audits, evidence, policy, ran=findings, depth=order.depth)
    return AuditReport(
        modality=evidence.modality,
        unit=evidence.unit,
        tier=order.tier,
        policy_version=policy.version,
        policy_digest=policy.digest,
        depth=order.depth.value,
        attempt=order.attempt,
        seed=order.seed,
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
        delta=None if claimed is None else terms.settings.delta,
        epsilon_lower_bound=bound,
        epsilon_max_certifiable=certifiable,
        epsilon_reason=why_none,
        epsilon_confidence=1 - policy.errors.epsilon,
        ceiling=ceiling,
        privacy_curve=curve,
        mechanisms=evidence.mechanisms,
        units=count_units(evidence),
        records=count_records(evidence),
        provenance=dict(order.provenance),
        split=evidence.split.value,
        attacks=listed,
        criteria=criteria(listed, gates, unit=evidence.unit, findings=tuple(findings.values())),
        not_tested=not_tested(evidence, listed, looked_at=len(population.arms)),
        disclaimers=disclaimers(evidence, attempt=order.attempt, seed=order.seed),
    )


def _self_tested(running: Mapping[str, ModuleType], policy: Policy) -> Mapping[str, ModuleType]:
    """Return the audits that the self-test runs on the release of the whole training set.

    The membership audits that a pass depends on, and the diagnostics that such a release cannot
    but set off; re-identification by other pictures of a person is none of these.
    """
    return {
        name: module
        for name, module in running.items()
        if (name in policy.audits.gating and module.THREAT_MODEL.goal is not Goal.MEMORIZATION)
        or (name in policy.audits.diagnostics and getattr(module, "SEES_EVERYTHING", False))
    }


def _audit_gates(
    findings: Mapping[str, Finding],
    examined: Examination,
    terms: Terms,
    ceiling: Mapping[str, float],
) -> list[Gate]:
    """Return the gates of all audits that the policy names; others are reported and gate nothing."""
    policy, tier = terms.policy, terms.tier
    gates: list[Gate] = []
    for name, finding in findings.items():
        if name == "near_copies":
            gates += judge_near_copies(finding, examined.limits, policy=policy, tier=tier)
        elif name in policy.audits.gating:
            gates += judge_attack(finding, policy=policy, tier=tier, ceiling=ceiling)
            gates += judge_groups(finding, tier=tier)
        elif name in policy.audits.diagnostics:
            gates += judge_diagnostic(finding, policy=policy, tier=tier)
    return gates


def _applies(audit: ModuleType, evidence: Evidence) -> bool:
    """Return whether an audit is about this modality; most are about every one."""
    return evidence.modality in getattr(audit, "MODALITIES", (evidence.modality,))


def at_depth(evidence: Evidence, depth: Depth) -> Evidence:
    """Return what a battery of this depth looks at: only a full one has time for a copy embedding."""
    if depth is Depth.QUICK:
        return replace(evidence, copy_network=None, no_copy_network="")
    if evidence.modality != "image" or evidence.copy_network or evidence.no_copy_network:
        return evidence
    return replace(evidence, no_copy_network="nobody handed over a copy embedding")


def passed_self_test(results: Sequence[SpecimenResult]) -> bool | None:
    """Return whether every specimen was judged rightly; None where nobody can tell."""
    if any(result.judged_wrongly for result in results):
        return False
    return True if results and all(result.passed for result in results) else None


def check_shapes(evidence: Evidence) -> None:
    """Refuse evidence whose arrays disagree, or hold what is no number."""
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
    for name, array in (("records", evidence.records), ("samples", evidence.samples)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EvidenceMissing(
                f"The evidence was refused: {int((~np.isfinite(array)).sum())} values of the {name} "
                "are no finite numbers, and no distance to them is defined. Fill them in or leave "
                "such records out."
            )


def wanted(
    audits: Mapping[str, ModuleType], evidence: Evidence, policy: Policy, *, depth: Depth
) -> tuple[str, ...]:
    """Return the audits that this evidence and depth allow, those that gate first.

    An audit that the policy does not name runs as well: it is reported and gates nothing.
    """
    skipped = policy.audits.full if depth is Depth.QUICK else ()
    named = (*policy.audits.gating, *policy.audits.diagnostics)
    every = (*named, *(name for name in audits if name not in named))
    return tuple(
        name
        for name in every
        if name in audits and name not in skipped and not lacking(audits[name], evidence)
    )


def attacks(
    audits: Mapping[str, ModuleType],
    evidence: Evidence,
    policy: Policy,
    *,
    ran: Mapping[str, Finding],
    depth: Depth,
) -> tuple[Attack, ...]:
    """Return every attack that exists here: who could mount it, and why it was left out if it was."""
    out = []
    for name, module in sorted(audits.items()):
        role: Literal["gates", "diagnostic", "reported"] = "reported"
        if name in policy.audits.gating:
            role = "gates"
        elif name in policy.audits.diagnostics:
            role = "diagnostic"
        has_run = name in ran and bool(ran[name].metrics)
        missing = ", ".join(word.replace("_", " ") for word in lacking(module, evidence))
        why = f"needs {missing}, which nobody handed over" if missing else ""
        if not missing and depth is Depth.QUICK and name in policy.audits.full:
            why = "takes long: it runs in a full battery only"
        out.append(
            Attack(
                audit=name,
                goal=module.THREAT_MODEL.goal.value,
                knowledge=module.THREAT_MODEL.generator.value,
                description=in_units(module.THREAT_MODEL.description, evidence.unit),
                ran=has_run,
                role=role,
                reason="" if has_run else why or "it reported nothing",
            )
        )
    return tuple(out)


def lacking(audit: ModuleType, evidence: Evidence) -> tuple[str, ...]:
    """Return the fields of the evidence that an audit needs and that hold nothing."""
    fields = (name for name in audit.NEEDS if not _is_given(getattr(evidence, name)))
    return tuple(fields)


def _is_given(value: object) -> bool:
    return value is not None and (not isinstance(value, Sized) or len(value) > 0)


def membership_settings(
    running: Mapping[str, ModuleType], evidence: Evidence, policy: Policy, *, attempt: int
) -> Settings:
    """Return what the policy fixes for membership audits; they share the error of epsilon."""
    count = sum(module.THREAT_MODEL.goal is Goal.MEMBERSHIP for module in running.values())
    return Settings(
        bound_error=policy.bound_error(attempt),
        epsilon_error=policy.errors.epsilon / max(1, count),
        delta=delta_of(evidence),
        fpr=policy.grid.fpr,
        guesses=policy.grid.guesses,
        permutations=policy.grid.permutations,
        claim=privacy_curve(evidence.target, evidence.mechanisms),
    )


def count_units(evidence: Evidence) -> dict[str, int]:
    """Return how many units each arm has, and how many are excluded."""
    kept = evidence.arms[~evidence.excluded]
    counts = {arm.name.lower(): int((kept == arm).sum()) for arm in Arm}
    return counts | {"excluded": int(evidence.excluded.sum()), "total": len(evidence.arms)}


def count_records(evidence: Evidence) -> dict[str, int]:
    """Return how many records each arm has, and how many are synthetic."""
    arms = evidence.arms[evidence.persons]
    counts = {arm.name.lower(): int((arms == arm).sum()) for arm in Arm}
    return counts | {"total": len(evidence.records), "synthetic": len(evidence.samples)}
