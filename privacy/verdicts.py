"""Gates -> verdict: the worst gate decides, silence is no pass, and a broken self-test comes first."""

from collections.abc import Sequence

from privacy.report import Gate, GateStatus, SpecimenResult, Verdict

NEVER_A_PASS = frozenset({GateStatus.NOT_APPLICABLE, GateStatus.NOTHING_SEEN})
"""What these gates say counts for nothing: the question was not asked, or silence proves nothing."""


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return the verdict of a set of gates, the worst one deciding (a self-test aside)."""
    statuses = {gate.status for gate in gates}
    if GateStatus.FAIL in statuses:
        return Verdict.FAIL
    if GateStatus.INCONCLUSIVE in statuses or not statuses - NEVER_A_PASS:
        return Verdict.INCONCLUSIVE
    membership = [g for g in gates if g.name.endswith(("_auc", "_tpr"))]
    proven = membership and all(g.status is GateStatus.PROVEN for g in membership)
    return Verdict.PASS_PROVEN if proven else Verdict.PASS_EMPIRICAL


def decide(gates: Sequence[Gate], problems: Sequence[str]) -> tuple[Verdict, str]:
    """Return the verdict on a candidate and the sentence that says why."""
    broken = [g for g in gates if g.audit == "self_test" and g.status is GateStatus.FAIL]
    if problems or broken:
        why = "; ".join([*problems, *(g.reason for g in broken)])
        return Verdict.INVALID, f"This audit proves nothing: {why}."
    verdict = verdict_of(gates)
    if verdict is Verdict.FAIL:
        return verdict, _because("Blocked", gates, GateStatus.FAIL)
    if verdict is Verdict.INCONCLUSIVE:
        return verdict, _because("Left undecided", gates, GateStatus.INCONCLUSIVE)
    if verdict is Verdict.PASS_PROVEN:
        return (
            verdict,
            "Every attack stayed below tolerance, and the mechanisms on record prove it by themselves.",
        )
    return verdict, (
        "Every attack listed here stayed below tolerance. That is evidence about these attacks, "
        "not a proof against others."
    )


def _because(word: str, gates: Sequence[Gate], status: GateStatus) -> str:
    named = [f"“{g.title}” ({g.audit})" for g in gates if g.status is status]
    if not named:
        return f"{word}: no question was asked whose answer could be a pass."
    return f"{word} by the gates " + ", ".join(named) + "."


def judge_self_test(results: Sequence[SpecimenResult], reason: str | None) -> Gate:
    """Return the gate on the audit itself: leaks must be caught, innocents must go free."""
    wrong = [result.title for result in results if result.judged_wrongly]
    missed = [f"{r.title} ({r.excuse})" for r in results if not r.passed and r.excuse]
    if wrong:
        why = f"wrong verdict on: {', '.join(wrong)}"
    elif missed:
        why = f"too little power to see: {', '.join(missed)}"
    else:
        why = reason or "every planted leak was caught and no innocent was accused"
    ran = bool(results) and reason is None and not missed
    good = GateStatus.PASS if ran else GateStatus.INCONCLUSIVE
    return Gate(
        name="self_test",
        audit="self_test",
        title="The audit can tell a leak from an innocent on this data",
        status=GateStatus.FAIL if wrong else good,
        value=float(sum(result.passed for result in results)),
        bound=None,
        tolerance=float(len(results)),
        reason=why,
    )
