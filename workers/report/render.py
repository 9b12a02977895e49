"""Fill the page of an audit report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from privacy.evidence import Evidence, JointEvidence
from privacy.image_parts import image_schema
from privacy.parts import IMAGES, part_of
from privacy.report import Attack, AuditReport, Criterion, Gate, GateStatus
from privacy.statements import unit_word
from privacy.table_schema import TableSchema
from privacy.verdicts import NEVER_A_PASS
from workers.report import charts, joint_pairs, pictures, rows, table_figures, words

_HERE = Path(__file__).parent
_GRAVITY = list(GateStatus)  # declared from the gravest on
_NOT_FACTS = frozenset({"title", "labels", "real_records_apart"})


def render_report(
    report: AuditReport, *, evidence: Evidence | JointEvidence | None, context: Mapping[str, object]
) -> str:
    """Return a self-contained HTML page without scripts or outside requests.

    `evidence` None (or a table without `declared`) leaves records out. `context` may hold `title`,
    `labels` (names in label order), `declared` (the schema), `utility` (the modality's), `real_records_apart` (real records are
    looked at one by one elsewhere, where each look is recorded: the page then shows none), and other
    entries, whose plain values are listed under "This run" by their key.
    """
    shown = _images_of(evidence)
    table = evidence.table if isinstance(evidence, JointEvidence) else evidence
    declared = context.get("declared")
    pairs: Sequence[rows.RowPair | pictures.Pair | joint_pairs.JointPair] = ()
    sample_rows = None
    if table is not None and isinstance(declared, TableSchema):
        sample_rows = rows.sample_rows(table, schema=declared, images=shown)
        if isinstance(evidence, JointEvidence):
            pairs = joint_pairs.suspicious(report, evidence, schema=declared)
        else:
            pairs = rows.suspicious_rows(report, table, schema=declared)
    elif shown is not None:
        pairs = pictures.suspicious_pairs(report, shown)
    names = context.get("labels")
    apart = bool(context.get("real_records_apart"))
    label_names = [str(name) for name in names] if isinstance(names, list | tuple) else []
    cells = label_names
    if isinstance(evidence, JointEvidence) and isinstance(declared, TableSchema):
        cells = list(image_schema(declared).labels)

    def labels_of(name: str) -> Sequence[str]:
        return cells if part_of(name) == IMAGES else label_names

    return _template().render(
        report=report,
        title=str(context.get("title", "Privacy audit")),
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        unit=unit_word(report.unit),
        headline=words.headline(report),
        tone=words.TONES[report.verdict],
        deciding=[
            _row(g, report, labels_of(g.name))
            for g in sorted(report.gates, key=lambda gate: _GRAVITY.index(gate.status))
            if g.status not in NEVER_A_PASS
        ],
        silent=[
            _row(g, report, labels_of(g.name)) for g in report.gates if g.status in NEVER_A_PASS
        ],
        criteria=[_criterion(criterion) for criterion in report.criteria],
        attacks=[_attack(attack) for attack in report.attacks],
        findings=[
            {
                "title": words.audit_title(finding.audit),
                "metrics": [m for m in finding.metrics if not words.is_context(m)],
                "context": [m for m in finding.metrics if words.is_context(m)],
                "roc": charts.roc_of(finding, report),
                "labels": labels_of(finding.audit),
            }
            for finding in report.findings
        ],
        bars=charts.epsilon_bars(report),
        pairs=pairs,
        sample_rows=sample_rows,
        real_records_apart=apart,
        rows=pictures.rows_by_label(shown, cells, with_real=not apart) if shown else (),
        utility=context.get("utility"),
        utility_figures=table_figures.figures(context.get("utility")),
        facts=_facts(context),
        tones=words.TONES,
    )


def _images_of(evidence: Evidence | JointEvidence | None) -> Evidence | None:
    """Return the evidence of images that there is, or None."""
    if isinstance(evidence, JointEvidence):
        return evidence.images
    return evidence if evidence is not None and evidence.modality == "image" else None


def _row(gate: Gate, report: AuditReport, labels: Sequence[str]) -> dict[str, str]:
    unit = unit_word(report.unit)
    word, tone = words.STATUS_WORDS[gate.status]
    return {
        "title": words.with_labels(words.gate_title(gate, unit), labels),
        "audit": words.audit_title(gate.audit),
        "sentence": words.gate_sentence(gate, unit),
        "word": word,
        "tone": tone,
    }


def _criterion(criterion: Criterion) -> dict[str, str]:
    word, tone = words.ANSWERS[criterion.answer]
    return {
        "name": criterion.name,
        "question": criterion.question,
        "audits": words.audit_titles(criterion.audits) or "none",
        "sentence": criterion.sentence,
        "open_points": criterion.open_points,
        "word": word,
        "tone": tone,
    }


def _attack(attack: Attack) -> dict[str, str]:
    return {
        "title": words.audit_title(attack.audit),
        "who": attack.description,
        "holds": words.KNOWLEDGE_WORDS.get(attack.knowledge, attack.knowledge),
        "role": words.ROLE_WORDS[attack.role],
        "word": "tried" if attack.ran else "not tried",
        "tone": "calm" if attack.ran else "wait",
        "reason": attack.reason,
    }


def _facts(context: Mapping[str, object]) -> dict[str, str]:
    """Return the plain entries of the context, by a readable key."""
    return {
        key.replace("_", " "): str(value)
        for key, value in context.items()
        if key not in _NOT_FACTS and isinstance(value, str | int | float)
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = words.number
    environment.filters["metric_title"] = words.metric_title
    environment.filters["in_units"] = words.in_units
    environment.filters["spoken"] = words.spoken
    environment.filters["with_labels"] = words.with_labels
    return environment.get_template("report.html")
