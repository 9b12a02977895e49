"""Fill the page of an audit report."""

from collections.abc import Mapping
from pathlib import Path

import jinja2

from privacy.evidence import Evidence
from privacy.report import AuditReport
from privacy.statements import unit_word
from workers.report import charts, pictures, words

_HERE = Path(__file__).parent


def render_report(
    report: AuditReport, *, evidence: Evidence | None, context: Mapping[str, object]
) -> str:
    """Return a self-contained HTML page without scripts or outside requests.

    `evidence` None (or a table) leaves pictures out. `context` may hold `title`, `labels` (names in
    label order), `utility` (`workers.owner_utility`), and other entries, whose plain values are listed under "This run" by their key.
    """
    shown = evidence if evidence is not None and evidence.modality == "image" else None
    names = context.get("labels")
    label_names = [str(name) for name in names] if isinstance(names, list | tuple) else []
    return _template().render(
        report=report,
        title=str(context.get("title", "Privacy audit")),
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        unit=unit_word(report.unit),
        headline=words.headline(report),
        tone=words.TONES[report.verdict],
        gates=[
            {
                "title": words.gate_title(gate, unit_word(report.unit)),
                "audit": words.AUDIT_TITLES.get(gate.audit, gate.audit),
                "sentence": words.gate_sentence(gate, unit_word(report.unit)),
                "word": words.STATUS_WORDS[gate.status][0],
                "tone": words.STATUS_WORDS[gate.status][1],
            }
            for gate in report.gates
        ],
        findings=[
            {
                "title": words.AUDIT_TITLES.get(finding.audit, finding.audit),
                "metrics": finding.metrics,
                "roc": charts.roc_of(finding, report),
            }
            for finding in report.findings
        ],
        marks=charts.epsilon_marks(report),
        pairs=pictures.suspicious_pairs(report, shown) if shown else (),
        rows=pictures.rows_by_label(shown, label_names) if shown else (),
        utility=context.get("utility"),
        facts=_facts(context),
        tones=words.TONES,
    )


def _facts(context: Mapping[str, object]) -> dict[str, str]:
    """Return the plain entries of the context, by a readable key."""
    return {
        key.replace("_", " "): str(value)
        for key, value in context.items()
        if key not in {"title", "labels"} and isinstance(value, str | int | float)
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
    return environment.get_template("report.html")
