"""Say verdicts, gates and metrics in words for somebody who is not a statistician."""

import re
from collections.abc import Sequence

from privacy.evidence import Metric
from privacy.parts import WORDS as PARTS
from privacy.parts import part_of, plain
from privacy.report import AuditReport, Gate, GateStatus, Verdict
from privacy.statements import unit_word

HEADLINES = {
    Verdict.PASS_PROVEN: "Passed. The privacy guarantee itself keeps the risk low enough.",
    Verdict.PASS_EMPIRICAL: "Passed. No attack that was tried got further than allowed.",
    Verdict.INCONCLUSIVE: "Undecided. There is too little evidence to call this release safe.",
    Verdict.FAIL: "Blocked. A gate that was fixed beforehand failed.",
    Verdict.INVALID: "Void. The audit did not work, so it says nothing about this release.",
}
# By the end of a failed gate's name, the gravest first.
FAILURES = {
    "near_copy_test": "Blocked. This release gives away units that it was made from.",
    "epsilon_refuted": "Blocked. The evidence refutes the claimed epsilon.",
    "_tpr": "Blocked. Attackers can tell some of the units that it was made from.",
    "_auc": "Blocked. Attackers can tell which units it was made from better than allowed.",
    "epsilon_claimed": "Blocked. The claimed epsilon is larger than this tier allows.",
}
TONES = {
    Verdict.PASS_PROVEN: "good",
    Verdict.PASS_EMPIRICAL: "good",
    Verdict.INCONCLUSIVE: "wait",
    Verdict.FAIL: "bad",
    Verdict.INVALID: "bad",
}
STATUS_WORDS = {
    GateStatus.PASS: ("passed", "good"),
    GateStatus.PROVEN: ("proven", "good"),
    GateStatus.INCONCLUSIVE: ("undecided", "wait"),
    GateStatus.FAIL: ("failed", "bad"),
    GateStatus.NOT_APPLICABLE: ("not asked", "calm"),
    GateStatus.NOTHING_SEEN: ("nothing seen", "calm"),
}
AUDIT_TITLES = {
    "near_copies": "Near-copies",
    "sample_membership": "Membership, from the samples alone",
    "loss_membership": "Membership, from the generator itself",
    "gradient_membership": "Membership, from the generator's gradients",
    "reidentification": "Re-identification across several records",
    "data_copying": "Data copying, in regions of the data",
    "pairing": "Image and row of one person, together",
    "claim": "The claimed epsilon",
    "self_test": "The audit itself",
}
METRIC_TITLES = {
    "p_value": "Chance of this if nothing leaks, all detectors together",
    "copy_rate": "Samples that copy a trained-on {unit}",
    "copied_units": "Trained-on {units} copied",
    "shared_units": "Trained-on {units} that share a record with another {unit}",
    "embedding_pictures": "Held-out pictures that the copy embedding was learnt on",
    "p_arms": "Chance of it: trained-on {units} nearer than held-out ones",
    "p_ratio": "Chance of it: far nearer to one {unit} than to the next",
    "p_verbatim": "Chance of it: equal, pixel by pixel",
    "auc": "Pairs told apart (AUC), strongest attack",
    "leak_p_value": "Chance of this if nothing leaks, all attacks together",
    "epsilon_lower_bound": "Epsilon is at least",
    "epsilon_max_certifiable": "Most that this test could have shown",
    "auc_unusual": "AUC among the most unusual tenth",
    "epsilon_lower_bound_gaussian": "Epsilon is at least, supposing Gaussian noise",
    "epsilon_max_certifiable_gaussian": "Most that could have been shown, supposing so",
    "claim_p_value": "Chance of so many right guesses if the claim holds",
    "detectable_auc": "Smallest AUC that this audit would have noticed",
    "verification_auc": "How well this attack tells whether two pictures are of one {unit} (AUC)",
    "retrieved_members": "Trained-on {units} whom a clear sample leads to",
    "retrieved_non_members": "Held-out {units} whom a clear sample leads to",
    "retrieved_p_value": "Chance of it: more trained-on {units} retrieved than held-out ones",
    "c_t": "Nearness to trained-on against held-out records (C_T, below 0 is nearer)",
    "c_t_worst_cell": "The same, in the region where it is worst",
    "authenticity_gap": "Samples that stand apart, among trained-on minus held-out records",
    "paired_members": "Trained-on {units} whose image and row one sample leads to",
    "paired_non_members": "Held-out {units} whose image and row one sample leads to",
    "group_leak_p_value": "Chance of this if nothing leaks, all groups together",
}
KNOWLEDGE_WORDS = {
    "samples": "only what is released",
    "scores": "the generator",
    "gradients": "the generator and its weights",
}
ROLE_WORDS = {
    "gates": "a pass needs it",
    "diagnostic": "may accuse, never clears",
    "reported": "for information",
}
ANSWERS = {
    "violated": ("violated", "bad"),
    "not shown": ("not shown", "wait"),
    "below tolerance": ("below tolerance", "good"),
}


_SHARES = ("tpr_at_", "copy_rate", "limit_of_detection", "shared_units")
_COUNTS = frozenset(
    {
        "copied_units",
        "embedding_pictures",
        "self_test",
        "retrieved_members",
        "retrieved_non_members",
        "paired_members",
        "paired_non_members",
    }
)
_CONTEXT = ("auc_", "epsilon_lower_bound_g", "epsilon_max_certifiable_g", "group_", "detectable_")


def audit_title(name: str) -> str:
    """Return the title of an audit, with its part; one without a title here by its name."""
    own = plain(name)
    title = AUDIT_TITLES.get(own, own.replace("_", " ").capitalize())
    return f"{PARTS[part_of(name)]}: {title.lower()}" if part_of(name) else title


def audit_titles(names: Sequence[str]) -> str:
    """Return the titles of audits in a line; of parts, a part once before all of its audits."""
    groups = {part: [n for n in names if part_of(n) == part] for part in ("", *PARTS)}
    listed = {
        part: ", ".join(audit_title(plain(name)) for name in mine) for part, mine in groups.items()
    }
    return "; ".join(
        f"{PARTS[part]}: {titles}" if part else titles for part, titles in listed.items() if titles
    )


def is_context(metric: Metric) -> bool:
    """Tell whether a metric is one for the curious, behind the ones that gates look at."""
    return metric.name.startswith(_CONTEXT)


def with_labels(text: str, labels: Sequence[str]) -> str:
    """Return text that names labels as their owner does, instead of by number."""
    return re.sub(
        r"\blabel (\d+)\b",
        lambda found: f"“{labels[int(found[1])]}”" if int(found[1]) < len(labels) else found[0],
        text,
    )


def headline(report: AuditReport) -> str:
    """Return the first sentence of the page."""
    failed = [gate.name for gate in report.gates if gate.status is GateStatus.FAIL]
    if report.verdict is Verdict.FAIL:
        for end, sentence in FAILURES.items():
            if any(name.endswith(end) for name in failed):
                return in_units(sentence, unit_word(report.unit))
    return HEADLINES[report.verdict]


def metric_title(metric: Metric, unit: str) -> str:
    """Return what a metric measures, in words."""
    known = METRIC_TITLES.get(metric.name)
    if known is not None:
        return known.format(unit=unit, units=unit + "s")
    if metric.name.startswith("tpr_at_"):
        share = float(metric.name.removeprefix("tpr_at_"))
        return f"Trained-on {unit}s recognised while accusing {share:.0%} of others"
    if metric.name.startswith("auc_label_"):
        return f"AUC among {unit}s of label {metric.name.removeprefix('auc_label_')}"
    if metric.name.startswith("auc_"):
        return f"AUC of the attack “{spoken(metric.name.removeprefix('auc_'))}” alone"
    return spoken(metric.name)


def spoken(name: str) -> str:
    """Return a name without underscores; of a part, the part in words before it."""
    for part, word in PARTS.items():
        name = re.sub(rf"\b{re.escape(part)}(?=[a-z])", f"{word.lower()}: ", name)
    return name.replace("_", " ")


def number(value: float | None, *, name: str = "") -> str:
    """Return a number as people write it: shares as percent, tiny chances as a bound."""
    if value is None:
        return "not computed"
    if name.startswith(_SHARES) or name.endswith("_tpr"):
        return f"{value:.2%}" if value < 0.0995 else f"{value:.1%}"
    if name.startswith("p_") or (name.endswith(("p_value", "_test")) and name != "self_test"):
        return "below 0.0001" if value < 1e-4 else f"{value:.2g}"
    if value == int(value) and name in _COUNTS:
        return f"{int(value):,}"
    return f"{value:.3f}" if "auc" in name else f"{value:.2f}"


def gate_title(gate: Gate, unit: str) -> str:
    """Return a gate's title with the right unit."""
    return in_units(gate.title, unit)


def in_units(text: str, unit: str) -> str:
    """Return text about units with the word for the protected unit."""
    return text.replace("units", unit + "s").replace("unit", unit)


def _copy_sentence(gate: Gate, unit: str) -> str:
    """Return the sentence of a gate of the near-copy audit."""
    value, bound = number(gate.value, name=gate.name), number(gate.bound, name=gate.name)
    allowed, reason = number(gate.tolerance, name=gate.name), in_units(gate.reason, unit)
    doubt = f" Undecided: {reason}." if gate.status is GateStatus.INCONCLUSIVE else ""
    if gate.name == "near_copy_test":
        return (
            f"Chance alone would do this with probability {value}. "
            f"Below {allowed} is a finding.{doubt}"
        )
    if gate.name == "copy_rate":
        return f"{value} of samples; with confidence at most {bound}. Allowed: {allowed}.{doubt}"
    if gate.name == "shared_units":
        return f"{value} of trained-on {unit}s. Allowed: {allowed}; {reason}."
    return (
        f"Copies of {value} of trained-on {unit}s would have been noticed. "
        f"Needed: {allowed} or less. Tried: {reason}."
    )


def gate_sentence(gate: Gate, unit: str) -> str:
    """Return one sentence that says what was seen, what is allowed, and hence the result."""
    reason = in_units(gate.reason, unit)
    if gate.value is None:
        return f"Not computed: {reason}."
    gate = gate.model_copy(update={"name": plain(gate.name), "audit": plain(gate.audit)})
    if gate.audit == "near_copies":
        return _copy_sentence(gate, unit)
    if gate.audit in {"claim", "self_test"}:
        return _own_sentence(gate, reason)
    return _attack_sentence(gate, reason)


def _own_sentence(gate: Gate, reason: str) -> str:
    """Return the sentence of a gate on the claim, or on the audit itself."""
    value, allowed = (number(each, name=gate.name) for each in (gate.value, gate.tolerance))
    if gate.name == "epsilon_claimed":
        return f"Epsilon {value} is claimed. This tier allows {allowed}."
    if gate.name == "epsilon_refuted":
        limit = f"claimed is {allowed}" if gate.tolerance is not None else reason
        refuted = f" {reason.capitalize()}." if "probability" in reason else ""
        return f"Evidence shows at least {value}; {limit}.{refuted}"
    return f"{value} of {allowed} specimens judged rightly: {reason}."


def _attack_sentence(gate: Gate, reason: str) -> str:
    """Return the sentence of a gate on membership, of a group, or of a diagnostic."""
    value, bound = number(gate.value, name=gate.name), number(gate.bound, name=gate.name)
    allowed = number(gate.tolerance, name=gate.name)
    if gate.name.endswith("_test"):
        return (
            f"Chance alone would do this with probability {value}. Below {allowed} is a finding; "
            "a larger value clears nobody."
        )
    if "_auc_" in gate.name:
        return (
            f"Guesses are right in {gate.value or 0:.1%} of pairs of this group, in at least "
            f"{gate.bound or 0:.1%} with confidence. Accused above {gate.tolerance or 0:.0%}; "
            "nobody is cleared by less."
        )
    if gate.status is GateStatus.NOTHING_SEEN:
        return f"{value} was measured; {reason}."
    if gate.name.endswith("_auc"):
        leak = f" {reason.capitalize()}." if "leak was detected" in reason else ""
        return (
            f"Guesses are right in {gate.value or 0:.1%} of pairs, coin tossing in 50 %; with "
            f"confidence at most {gate.bound or 0:.1%}. Allowed: {gate.tolerance or 0:.0%}.{leak}"
        )
    return f"{value} recognised; with confidence at most {bound}. Allowed: {allowed}."
