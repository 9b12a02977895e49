"""Gates that may accuse and never clear: diagnostics, and groups of units looked at by themselves.

A diagnostic tests for one kind of leak without knowing how often an innocent release would look
alike, and a group (a label, the most unusual tenth) is too small to bound from above. What they see
counts; that they see nothing is no evidence, so that no pass rests on them.
"""

from privacy.evidence import Finding, Metric
from privacy.policy import Policy, Tier
from privacy.report import Gate, GateStatus

GROUP_PREFIXES = ("auc_unusual", "auc_label_")
_SILENT = "it may accuse and never clear: seeing nothing is no evidence"


def judge_diagnostic(finding: Finding, *, policy: Policy) -> Gate:
    """Return the gate of a diagnostic: its p-value against a share of the level for all of them."""
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
