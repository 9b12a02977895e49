"""Writes the documents that follow from the code: `python -m workers.published [--check]`.

docs/audits.md says of every audit what is attacked, by whom, after which source, and what a pass does
not mean, in the words of the audit's own docstring. privacy/audit_report.schema.json is the JSON Schema
of an audit report, which every report keeps. With `--check` nothing is written; exit status 1 says
that a file is stale.
"""

import inspect
import json
import re
from pathlib import Path
from types import ModuleType

import click

from privacy import audits
from privacy.evidence import ThreatModel
from privacy.policy import Policy, load_policy
from privacy.report import AuditReport

_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "audits.md"
SCHEMA = _ROOT / "privacy" / "audit_report.schema.json"
_START, _END = "<!-- audits: begin -->", "<!-- audits: end -->"
_HOLDS = {
    "samples": "what is released",
    "scores": "the generator, and evaluates it on records",
    "gradients": "the generator's weights",
}
_ROLES = {
    "gates": "a pass needs it below tolerance",
    "diagnostic": "may accuse, never clears",
    "reported": "reported, decides nothing",
}


def schema_text() -> str:
    """Return the JSON Schema of an audit report, exactly as it is kept in the repository."""
    schema = AuditReport.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def page_text(before: str) -> str:
    """Return the page with its part on single audits written anew; the rest is written by hand."""
    head, _, rest = before.partition(_START)
    _, _, tail = rest.partition(_END)
    policy = load_policy()
    found = {name: audits.load(name) for name in audits.available()}
    parts = [_overview(found, policy), *(_section(name, module) for name, module in found.items())]
    return f"{head}{_START}\n\n{chr(10).join(parts)}\n{_END}{tail}"


def _overview(found: dict[str, ModuleType], policy: Policy) -> str:
    rows = ["| Audit | Attacker holds | Other records | In the policy |", "|---|---|---|---|"]
    for name, module in found.items():
        model: ThreatModel = module.THREAT_MODEL
        known = "a reference set" if model.reference else "none needed"
        rows.append(
            f"| [{name}](#{name}) | {_HOLDS[model.generator.value]} | {known} | {_role(name, policy)} |"
        )
    return "\n".join(rows) + "\n"


def _role(name: str, policy: Policy) -> str:
    kind = "reported"
    if name in policy.audits.gating:
        kind = "gates"
    elif name in policy.audits.diagnostics:
        kind = "diagnostic"
    condition = "; where its evidence is given" if name in policy.audits.if_given else ""
    depth = "; full batteries only" if name in policy.audits.full else ""
    return _ROLES[kind] + condition + depth


def _section(name: str, module: ModuleType) -> str:
    """Return one audit's section: its docstring, with the words that every docstring has in bold."""
    text = inspect.getdoc(module) or ""
    title, _, body = text.partition("\n")
    body = re.sub(
        r"(?m)^(What is attacked|What a pass does not mean|Sources?(?: of the idea)?|Metrics):",
        r"**\1:**",
        body.strip(),
    )
    model: ThreatModel = module.THREAT_MODEL
    needs = ", ".join(word.replace("_", " ") for word in module.NEEDS)
    return f"### {name}\n\n{title}\n\n**Threat model:** {model.description} Needs: {needs}.\n\n{body}\n"


def stale() -> list[Path]:
    """Return the files that do not say what the code says."""
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    wanted = {PAGE: page_text(before), SCHEMA: schema_text()}
    return [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


@click.command()
@click.option("--check", is_flag=True, help="Only tell whether the files are current.")
def main(*, check: bool) -> None:
    """Write docs/audits.md and the schema of audit reports."""
    if check:
        names = [path.relative_to(_ROOT).as_posix() for path in stale()]
        if names:
            raise click.ClickException(
                f"{', '.join(names)} is stale. Run `python -m workers.published` and commit it."
            )
        return
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
