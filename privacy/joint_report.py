"""Two reports about one set of persons, their rows' and their images', become one.

Findings, gates, verdicts, specimens and limits carry the part that they are about: `table.` or
`images.`. The claim, the self-test and the verdict are about both: the worst of either decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from privacy import pairing
from privacy.battery import Order, count_records, count_units, passed_self_test
from privacy.criteria import NOT_RUN
from privacy.evidence import Evidence, Finding
from privacy.parts import IMAGES, TABLE, WORDS
from privacy.report import (
    Attack,
    AuditReport,
    Criterion,
    DetectionLimit,
    Gate,
    GateStatus,
    SpecimenResult,
    Verdict,
)
from privacy.statements import conditions, not_drawn
from privacy.verdicts import decide, judge_self_test

Named = TypeVar("Named", bound=BaseModel)
Answer = Literal["violated", "not shown", "below tolerance"]

_ABOUT_BOTH = frozenset({"claim", "self_test"})
_GRAVITY = list(GateStatus)  # declared from the gravest on
_VERDICTS = (  # from the worst on
    Verdict.INVALID,
    Verdict.FAIL,
    Verdict.INCONCLUSIVE,
    Verdict.PASS_EMPIRICAL,
    Verdict.PASS_PROVEN,
)
_ANSWERS: tuple[Answer, ...] = ("violated", "not shown", "below tolerance")

HALVED = (
    "Rows and images are audited by a battery each. The error that a lower bound on epsilon, or a test of "
    "the claim, may have is halved between them, so that the larger bound of the two holds with the "
    "confidence stated. Alarms keep their level in either part: an innocent set is accused about as often "
    "as two sets would be. A pass needs every bound of both parts, which needs no correction."
)


@dataclass(frozen=True)
class Paired:
    """What the pairing test found, and how it judged its specimens; none where they are too few."""

    finding: Finding
    specimens: tuple[SpecimenResult, ...]


def joint_report(
    table: AuditReport,
    images: AuditReport,
    paired: Paired,
    *,
    order: Order,
    given: Evidence,
    looked_at: int,
) -> AuditReport:
    """Return one report about both parts; `looked_at` of the units in the table's evidence took part."""
    parts = ((TABLE, table), (IMAGES, images))
    gate = pairing.judge_pairing(paired.finding, policy=order.policy)
    gates = [
        _of(part, each, "name", "audit")
        for part, report in parts
        for each in report.gates
        if each.audit not in _ABOUT_BOTH
    ]
    gates.append(gate)
    gates += _claims(table, images)
    specimens = [_specimen(part, each) for part, report in parts for each in report.self_test]
    specimens += paired.specimens
    gates.append(judge_self_test(specimens, _why_no_self_test(table, images)))
    attacks = [_attack(part, each) for part, report in parts for each in report.attacks]
    attacks.append(pairing.attack_of(paired.finding))
    verdict, sentence = _worst(decide(gates, order.problems), parts)
    if verdict is not Verdict.INVALID:
        unsaid = [each for each in conditions(given) if each not in sentence]
        sentence = " ".join([sentence, *unsaid])
    bounds = [report for report in (table, images) if report.epsilon_lower_bound is not None]
    best = max(bounds, key=lambda report: report.epsilon_lower_bound or 0.0, default=table)
    reach = [r.epsilon_max_certifiable for r in bounds if r.epsilon_max_certifiable is not None]
    changed: dict[str, Any] = {
        "modality": "joint",
        "verdict": verdict,
        "verdict_reason": sentence,
        "verdicts": {f"{p}{name}": v for p, r in parts for name, v in r.verdicts.items()},
        "gates": tuple(gates),
        "findings": (
            *(_of(part, each, "audit") for part, report in parts for each in report.findings),
            paired.finding,
        ),
        "self_test": tuple(specimens),
        "self_test_passed": passed_self_test(specimens),
        "leaky_specimen": _leaky(table, images),
        "limit_of_detection": tuple(
            _limit(part, each) for part, report in parts for each in report.limit_of_detection
        ),
        "epsilon_lower_bound": best.epsilon_lower_bound,
        "epsilon_max_certifiable": max(reach, default=None),
        "epsilon_reason": best.epsilon_reason,
        "epsilon_confidence": 1 - order.policy.errors.epsilon,
        "attacks": tuple(attacks),
        "units": count_units(given),
        "records": count_records(given),
        "criteria": _criteria(table, images, gate),
        "not_tested": (
            *_told(parts, "not_tested"),
            *not_drawn(given, looked_at=looked_at),
            "Rows and images that lead to one person only together with a third thing, such as a date.",
        ),
        "disclaimers": (HALVED, *_told(parts, "disclaimers")),
    }
    return table.model_copy(update=changed)


def _worst(
    together: tuple[Verdict, str], parts: Iterable[tuple[str, AuditReport]]
) -> tuple[Verdict, str]:
    """Return the worst of the verdict on all gates together and of each part's own, and why.

    A part of which nothing could be asked brings in no gate: the other one must not pass for both.
    """
    verdict, sentence = together
    for part, report in parts:
        if _VERDICTS.index(report.verdict) < _VERDICTS.index(verdict):
            verdict = report.verdict
            why = report.verdict_reason
            sentence = f"{WORDS[part]} alone are {verdict}, and the worst part decides: {why}"
    return verdict, sentence


def _of(part: str, document: Named, *names: str) -> Named:
    """Return a document whose names say which part it is about."""
    return document.model_copy(update={name: f"{part}{getattr(document, name)}" for name in names})


def _claims(table: AuditReport, images: AuditReport) -> list[Gate]:
    """Return the gates on the claim: of either part's, the graver one, or the larger bound."""
    mine = [gate for gate in table.gates if gate.audit == "claim"]
    theirs = {gate.name: gate for gate in images.gates if gate.audit == "claim"}
    return [
        min(
            (gate, theirs[gate.name]),
            key=lambda each: (_GRAVITY.index(each.status), -(each.value or 0.0)),
        )
        for gate in mine
    ]


def _specimen(part: str, result: SpecimenResult) -> SpecimenResult:
    return result.model_copy(
        update={
            "name": f"{part}{result.name}",
            "title": f"{WORDS[part]}: {result.title}",
            "named_audits": tuple(f"{part}{name}" for name in result.named_audits),
        }
    )


def _attack(part: str, attack: Attack) -> Attack:
    told = f"{WORDS[part]}: {attack.description}"
    return _of(part, attack, "audit").model_copy(update={"description": told})


def _limit(part: str, limit: DetectionLimit) -> DetectionLimit:
    return limit.model_copy(update={"part": part.removesuffix(".")})


def _why_no_self_test(table: AuditReport, images: AuditReport) -> str | None:
    """Return why a part's self-test could not run, or None."""
    for report in (table, images):
        if not report.self_test:
            gate = next(gate for gate in report.gates if gate.audit == "self_test")
            return gate.reason
    return None


def _leaky(table: AuditReport, images: AuditReport) -> SpecimenResult | None:
    """Return the release of the whole training set, as both batteries judged it."""
    rows, pictures = table.leaky_specimen, images.leaky_specimen
    if rows is None or pictures is None:
        return None
    both = (_specimen(TABLE, rows), _specimen(IMAGES, pictures))
    passed = all(each.passed for each in both)
    caught = all(each.verdict is Verdict.FAIL for each in both)
    missed = next((each for each in both if each.verdict is not Verdict.FAIL), both[0])
    return rows.model_copy(
        update={
            "title": "the whole training set, rows with their images, verbatim",
            "verdict": Verdict.FAIL if caught else missed.verdict,
            "named_audits": tuple(name for each in both for name in each.named_audits),
            "expected": f"{WORDS[TABLE]}: {rows.expected}; {WORDS[IMAGES]}: {pictures.expected}",
            "passed": passed,
            "excuse": None if passed else rows.excuse or pictures.excuse,
        }
    )


def _criteria(table: AuditReport, images: AuditReport, gate: Gate) -> tuple[Criterion, ...]:
    """Return the worse answer of either part to each criterion, with both sentences."""
    theirs = {criterion.name: criterion for criterion in images.criteria}
    found = []
    for mine in table.criteria:
        both = {TABLE: mine, IMAGES: theirs[mine.name]}
        answer = min((each.answer for each in both.values()), key=_ANSWERS.index)
        sentences = [f"{WORDS[part]}: {each.sentence}" for part, each in both.items()]
        audits = [f"{part}{name}" for part, each in both.items() for name in each.audits]
        if mine.name != "inference" and gate.value is not None:
            audits.append(pairing.NAME)
            if gate.status is GateStatus.FAIL:
                answer = _ANSWERS[0]
                sentences.append(f"Failed the gate “{gate.title}”.")
        found.append(
            mine.model_copy(
                update={
                    "answer": answer,
                    "sentence": " ".join(sentences),
                    "audits": tuple(audits),
                    "open_points": _left_open(both),
                }
            )
        )
    return tuple(found)


def _left_open(both: Mapping[str, Criterion]) -> str:
    """Return what nobody looked at in either part; what both say alike is said once."""
    shared = {each.open_points.partition(NOT_RUN)[0] for each in both.values()}
    left_out = [
        f"{NOT_RUN} ({WORDS[part].lower()}): {rest.removeprefix(': ')}"
        for part, each in both.items()
        if (rest := each.open_points.partition(NOT_RUN)[2])
    ]
    return "".join([" ".join(sorted(shared)), *left_out])


def _told(parts: Iterable[tuple[str, AuditReport]], name: str) -> tuple[str, ...]:
    """Return the sentences of both parts; one that only one part says names the part."""
    told: Mapping[str, tuple[str, ...]] = {part: getattr(r, name) for part, r in parts}
    both = [line for line in told[TABLE] if line in told[IMAGES]]
    alone = [
        f"{WORDS[part]}: {line}"
        for part, lines in told.items()
        for line in lines
        if line not in both
    ]
    return (*both, *alone)
