"""Judge planted specimens by the code that judges candidates, and find the limit of detection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.copies import DETECTORS, Copies, Detector, copy_metrics
from privacy.detection_limits import LEAKS, detection_limit
from privacy.diagnostics import judge_diagnostic
from privacy.evidence import Evidence, Finding, Visits
from privacy.exact_copies import match_verbatim, natural_twins, unique_records
from privacy.gains import judge_attack
from privacy.membership import Settings, distance_scores, measure, pool_of
from privacy.neighbourhoods import Population, Survey
from privacy.policy import Policy, Tier, judge_membership, judge_near_copies
from privacy.report import DetectionLimit, Gate, GateStatus, SpecimenResult, Verdict
from privacy.specimens import Bench, Materials, Specimen
from privacy.verdicts import verdict_of

Floats = NDArray[np.floating]

# An innocent specimen counts as accused only below this: at the alarm level of candidates, one sound
# report in a few hundred would be called broken by chance.
INNOCENT_LEVEL = 0.002
# The arms detector alone needs about this many copied units.
ARMS_ALONE = 16
# The ratio detector must see grain that hardly shows wherever it calls anything this near a copy.
NEAR_ENOUGH = 0.1
MOST_TWINS = 0.5  # expected among the samples
DIAGNOSTIC_UNITS = (
    100  # held-out ones, beside those lent to specimens, from which it must see everything
)
_SPECIMENS = 9
_SCORE_NOISE = 0.1
# Of specimens: what shuffles decide gates nothing there.
_FEW_SHUFFLES = 200


@dataclass(frozen=True)
class Terms:
    """What was fixed beforehand: the policy, the tier asked for, what to measure."""

    policy: Policy
    tier: Tier
    settings: Settings


@dataclass(frozen=True)
class Examination:
    """How the audit did on specimens, the limits it reached, and why it could not run (or None)."""

    results: tuple[SpecimenResult, ...]
    limits: tuple[DetectionLimit, ...]
    reason: str | None


class Show(Protocol):
    """Where progress goes: a stage, a sentence, and the share of the stage that is done."""

    def __call__(self, stage: str, text: str, *, share: float) -> None:
        """Take note."""


def examine(
    evidence: Evidence,
    survey: Survey,
    materials: Materials | str,
    detector: Detector,
    *,
    audits: Mapping[str, ModuleType],
    terms: Terms,
    rng: np.random.Generator,
    show: Show,
) -> Examination:
    """Judge every specimen and find the limits of detection.

    `audits` are those of the candidate that must see a release of the whole training set, by a
    generator that knows it by heart.
    `detector` is the candidate's own; specimens get one for a population without their persons.
    """
    if isinstance(materials, str):
        limits = tuple(DetectionLimit(leak=k, fraction=None, reason=materials) for k in LEAKS)
        return Examination((), limits, materials)
    unique = unique_records(evidence, survey.population)
    twins = natural_twins(evidence)
    bench = Bench(evidence, survey, materials, unique=unique, twins=twins, rng=rng)
    judge = _Judge(bench, terms, evidence=evidence, audits=audits, like=detector, rng=rng)
    results: list[SpecimenResult] = []
    for specimen in bench.specimens():
        results.append(judge.result(specimen))
        show("self-test", f"self-test: {specimen.title}", share=len(results) / _SPECIMENS)
    verbatim = match_verbatim(evidence.samples, unique, like=evidence.records, twins=twins)
    found: list[DetectionLimit] = []
    for leak in LEAKS:
        before = len(found) / len(LEAKS)

        def progress(done: int, total: int, leak: str = leak, before: float = before) -> None:
            show("limit", f"limit of detection: {leak}", share=before + done / total / len(LEAKS))

        found.append(
            detection_limit(
                leak,
                bench,
                detector,
                candidate=(survey.samples, verbatim),
                level=terms.policy.errors.near_copies,
                repeats=terms.policy.grid.self_test_repeats,
                rng=rng,
                progress=progress,
            )
        )
    trained = int(detector.population.trained.sum())
    judged = tuple(
        excused(
            result,
            found,
            sharp=_is_sharp(detector),
            share=(result.copied_count or 0) / max(1, trained),
        )
        for result in results
    )
    return Examination(judged, tuple(found), None)


def _is_sharp(detector: Detector) -> bool:
    """Return whether some space calls near records copies, and no natural twins stand in its way."""
    return any(
        threshold >= NEAR_ENOUGH and detector.expected_by_nature(name) < MOST_TWINS
        for name, threshold in detector.thresholds.items()
    )


def excused(
    result: SpecimenResult, limits: Sequence[DetectionLimit], *, sharp: bool, share: float
) -> SpecimenResult:
    """Return the result, with an excuse if copies were missed where power was lacking.

    Power is lacking below twice the limit of detection of that leak: at the limit itself one leak in
    twenty is missed by chance. Missing the whole training set or accusing an innocent has no
    excuse, nor has a detector that is `sharp` (see NEAR_ENOUGH) and misses copies all but equal.
    """
    if result.passed or not result.name.startswith("copies_"):
        return result
    leak = result.name.removeprefix("copies_")
    limit = next((limit for limit in limits if limit.leak == leak), None)
    excuse = None
    if not sharp and (result.copied_count or 0) <= ARMS_ALONE:
        excuse = (
            f"with too few units for the ratio detector, more than {ARMS_ALONE} copies are needed"
        )
    elif leak == "faint":
        excuse = None if sharp else "records here come too near each other to call any a copy"
    elif limit is None or limit.fraction is None:
        excuse = f"no limit of detection: {limit.reason if limit else 'it was not looked for'}"
    elif 2 * limit.fraction > share:
        excuse = f"the limit of detection is {limit.fraction:.1%} of units, near what was planted"
    return result.model_copy(update={"excuse": excuse})


class _Judge:
    """Measures and judges one specimen after another against the same population."""

    def __init__(
        self,
        bench: Bench,
        terms: Terms,
        *,
        evidence: Evidence,
        audits: Mapping[str, ModuleType],
        like: Detector,
        rng: np.random.Generator,
    ) -> None:
        self._terms, self._rng = terms, rng
        self._evidence, self._audits = evidence, audits
        self._detector = Detector(
            bench.population,
            bench.calibration,
            sample_count=like.sample_count,
            config=like.config,
            rng=rng,
        )

    def result(self, specimen: Specimen) -> SpecimenResult:
        """Return the verdict on a specimen, and whether it is the right one."""
        copies = self._detector.inspect(specimen.survey.samples, specimen.verbatim)
        gates = list(self._copies(specimen, copies))
        audits = {"near_copies"}
        if not specimen.leaky or specimen.audits:
            membership = self._membership(specimen)
            gates += membership
            audits |= {gate.audit for gate in membership}
        verdict = verdict_of(gates)
        named = {gate.audit for gate in gates if gate.status is GateStatus.FAIL}
        by = self._demanded(specimen)
        seen = {name for name in by if self._sees(name, copies)}
        right = (audits <= named and seen == by) if specimen.leaky else verdict is not Verdict.FAIL
        return SpecimenResult(
            name=specimen.name,
            title=specimen.title,
            kind="leaky" if specimen.leaky else "innocent",
            verdict=verdict,
            named_audits=tuple(sorted(named)),
            expected=_expected(audits, by) if specimen.leaky else "anything but FAIL",
            passed=right,
            sample_count=specimen.sample_count,
            copied_count=specimen.copied_count,
        )

    def _demanded(self, specimen: Specimen) -> set[str]:
        """Return the detectors that must see a leak alone, as far as shuffles can show it."""
        finest = 1 / (self._detector.config.permutations + 1)
        level = self._terms.policy.errors.near_copies / DETECTORS
        return {name for name in specimen.by if name != "arms" or finest < level}

    def _sees(self, detector: str, copies: Copies) -> bool:
        value = {"arms": copies.p_arms, "ratio": copies.p_ratio, "verbatim": copies.p_verbatim}
        found = value[detector]
        return found is not None and found < self._terms.policy.errors.near_copies / DETECTORS

    def _copies(self, specimen: Specimen, copies: Copies) -> Sequence[Gate]:
        policy = self._terms.policy
        if not specimen.leaky:
            errors = policy.errors.model_copy(update={"near_copies": INNOCENT_LEVEL})
            policy = policy.model_copy(update={"errors": errors})
        error = self._terms.settings.bound_error
        metrics = copy_metrics(copies, detector=self._detector, error=error, unit="units")
        finding = Finding(audit="near_copies", metrics=metrics)
        return judge_near_copies(finding, None, policy=policy, tier=self._terms.tier)

    def _membership(self, specimen: Specimen) -> Sequence[Gate]:
        pool = pool_of(specimen.survey.population)
        if pool.too_small():
            return ()
        if specimen.audits:
            return self._by_audits(specimen)
        scores = distance_scores(specimen.survey, pool)
        finding = measure(
            "sample_membership", scores, pool, settings=self._terms.settings, rng=self._rng
        )
        policy, tier = self._terms.policy, self._terms.tier
        gates = list(judge_membership(finding, policy=policy, tier=tier, ceiling={}))
        if specimen.samples is not None:  # the very audits of tables must spare an innocent
            evidence = replace(
                self._evidence,
                samples=specimen.samples,
                sample_labels=specimen.sample_labels,
                visits=_whose(self._evidence, specimen.sample_persons),
            )
            gates += self._run(self._of_tables, evidence, specimen)
        return gates

    @property
    def _of_tables(self) -> Mapping[str, ModuleType]:
        """Return the audits that are about one modality only, and so not judged by a stand-in."""
        return {n: a for n, a in self._audits.items() if hasattr(a, "MODALITIES")}

    def _by_audits(self, specimen: Specimen) -> Sequence[Gate]:
        """Return the gates of the candidate's own audits, each run on the whole training set."""
        evidence = known_by_heart(self._evidence, specimen.survey.population, rng=self._rng)
        return self._run(self._audits, evidence, specimen)

    def _run(
        self, audits: Mapping[str, ModuleType], evidence: Evidence, specimen: Specimen
    ) -> Sequence[Gate]:
        """Return the gates of `audits` on a specimen whose samples and scores `evidence` holds."""
        policy, tier = self._terms.policy, self._terms.tier
        settings = replace(self._terms.settings, permutations=_FEW_SHUFFLES)
        gates: list[Gate] = []
        population = specimen.survey.population
        held_out = int(population.held_out.sum())
        for name, audit in audits.items():
            is_diagnostic = name in policy.audits.diagnostics
            if is_diagnostic and held_out < DIAGNOSTIC_UNITS:
                continue  # with so few units it may miss even everything by chance
            finding = audit.run(
                evidence,
                specimen.survey,
                settings=settings,
                detector=self._detector,
                rng=self._rng,
            )
            if is_diagnostic:  # one that has too little to go on says nothing
                judged = judge_diagnostic(finding, policy=policy, tier=tier)
                gates += [gate for gate in judged if gate.status is not GateStatus.NOT_APPLICABLE]
            else:
                gates += judge_attack(finding, policy=policy, tier=tier, ceiling={})
        return gates


def known_by_heart(
    evidence: Evidence, population: Population, *, rng: np.random.Generator
) -> Evidence:
    """Return the evidence of a generator that hands out its training set and knows it by heart."""
    trained = population.rows[population.trained[population.persons]]
    knows = np.zeros(len(evidence.records))
    knows[trained] = 1.0
    return replace(
        evidence,
        samples=evidence.records[trained],
        sample_labels=evidence.labels[trained],
        visits=_whose(evidence, evidence.persons[trained]),
        record_scores={
            name: knows + _SCORE_NOISE * rng.normal(size=len(knows))
            for name in evidence.record_scores
        },
        gradient_features=_shrunk(evidence, knows, rng),
    )


def _whose(evidence: Evidence, persons: NDArray[np.integer]) -> Visits | None:
    """Return how the rows of a specimen follow one another, where those of the evidence do."""
    return None if evidence.visits is None else replace(evidence.visits, sample_persons=persons)


def _shrunk(evidence: Evidence, knows: Floats, rng: np.random.Generator) -> Floats:
    """Return gradient features all of which nearly vanish at records known by heart."""
    if not evidence.gradient_features.size:
        return evidence.gradient_features
    noise = rng.normal(size=evidence.gradient_features.shape)
    shrunk: Floats = 1.0 - knows[:, None] + _SCORE_NOISE * noise
    return shrunk


def _expected(audits: set[str], by: set[str]) -> str:
    alone = f", seen by {' and '.join(sorted(by))} each alone" if by else ""
    return f"FAIL, naming {' and '.join(sorted(audits))}{alone}"
