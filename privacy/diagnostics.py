"""Gates that may accuse and never clear: diagnostics, and groups of units looked at by themselves.

A diagnostic tests for one kind of leak without knowing how often an innocent release would look
alike, and a group (a label, the most unusual tenth) is too small to bound from above. What they see
counts; that they see nothing is no evidence, so that no pass rests on them.
"""

from privacy.evidence import Finding, Metric
from privacy.policy import Policy, Tier, judge_membership
from privacy.report import Gate, GateStatus

GROUP_PREFIXES = ("auc_unusual", "auc_label_")
_SILENT = "it may accuse and never clear: seeing nothing is no evidence"


def judge_diagnostic(finding: Finding, *, policy: Policy, tier: Tier) -> tuple[Gate, ...]:
    """Return the gates of a diagnostic.

    One that reports a p-value is held against its share of the level for all diagnostics. One that
    measures membership fails where a gate would, and says nothing where a gate would pass.
    """
    if any(metric.name == "p_value" for metric in finding.metrics):
        return (_test_gate(finding, policy),)
    gates = judge_membership(finding, policy=policy, tier=tier, ceiling={})
    return tuple(_silenced(gate) for gate in gates)


def _silenced(gate: Gate) -> Gate:
    if gate.status is GateStatus.FAIL:
        return gate
    status = GateStatus.NOT_APPLICABLE if gate.value is None else GateStatus.NOTHING_SEEN
    reason = gate.reason if gate.value is None else _SILENT
    return gate.model_copy(update={"status": status, "reason": reason})


def _test_gate(finding: Finding, policy: Policy) -> Gate:
    metric = finding.metric("p_value")
    level = policy.errors.diagnostics / max(1, len(policy.audits.diagnostics))
    seen = metric.value is not None and metric.value < level
    status = GateStatus.FAIL if seen else GateStatus.NOTHING_SEEN
    if metric.value is None:
        status = GateStatus.NOT_APPLICABLE
    return Gate(
        name=f"{finding.audit}_test",
        audit=finding.audit,
        title="Diagnostic, which may accuse and never clear",
        status=status,
        value=metric.value,
        bound=metric.value,
        tolerance=level,
        reason=metric.reason or ("fails where the p-value is below the level" if seen else _SILENT),
    )


def judge_groups(finding: Finding, *, tier: Tier) -> tuple[Gate, ...]:
    """Return one gate per group of units whose recognition was measured by itself.

    It fails where even the lower confidence bound of the AUC exceeds what the tier allows everybody.
    """
    found = [m for m in finding.metrics if m.name.startswith(GROUP_PREFIXES)]
    return tuple(_group_gate(metric, finding, tier) for metric in found)


def _group_gate(metric: Metric, finding: Finding, tier: Tier) -> Gate:
    seen = metric.ci_low is not None and metric.ci_low > tier.auc
    status = GateStatus.FAIL if seen else GateStatus.NOTHING_SEEN
    if metric.value is None:
        status = GateStatus.NOT_APPLICABLE
    group = metric.name.removeprefix("auc_").replace("_", " ")
    group = "the most unusual tenth" if group == "unusual" else group
    return Gate(
        name=f"{finding.audit}_{metric.name}",
        audit=finding.audit,
        title=f"How well members are told from non-members among {group} (AUC)",
        status=status,
        value=metric.value,
        bound=metric.ci_low,
        tolerance=tier.auc,
        reason=metric.reason
        or ("fails where the lower confidence bound is above the tolerance" if seen else _SILENT),
    )
