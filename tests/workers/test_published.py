"""The page on audits and the schema of reports say what the code says."""

import json
import re
import tomllib

import jsonschema
import numpy as np
import pytest

from privacy.audits import audit, available, load
from privacy.policy import load_policy
from privacy.report import AuditReport
from workers import published


def test_the_page_and_the_schema_are_current():
    stale = [path.name for path in published.stale()]
    assert stale == [], "run `python -m workers.published` and commit"


@pytest.mark.parametrize("name", available())
def test_the_page_says_of_each_audit_what_is_attacked_by_whom_and_what_a_pass_does_not_mean(name):
    text = published.PAGE.read_text(encoding="utf-8")
    section = text.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    module = load(name)
    assert module.THREAT_MODEL.description in section
    for words in ("**What is attacked:**", "**What a pass does not mean:**"):
        assert words in section
    # A source: a paper's number, or its authors and year.
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:|\b(19|20)\d\d\b", section)


def test_a_changed_docstring_makes_the_page_stale(monkeypatch):
    module = load("near_copies")
    monkeypatch.setattr(module, "__doc__", f"{module.__doc__}\nSomething new.\n")
    assert published.PAGE in published.stale()


def test_every_audit_that_the_policy_names_exists():
    audits = load_policy().audits
    named = {*audits.required, *audits.if_given, *audits.diagnostics, *audits.full}
    assert named <= set(available())
    assert not set(audits.gating) & set(audits.diagnostics)


def test_a_report_keeps_the_schema_and_a_changed_one_does_not():
    rng = np.random.default_rng(0)
    members, others, samples = rng.normal(size=(3, 60, 4))
    report = audit(members=members, non_members=others, samples=samples)
    schema = json.loads(published.SCHEMA.read_text(encoding="utf-8"))
    document = json.loads(report.model_dump_json())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(document)
    assert AuditReport.model_validate(document).digest() == report.digest()
    assert list(validator.iter_errors({**document, "verdict": "FINE"}))
    assert list(validator.iter_errors({**document, "shoe_size": 43}))


def test_the_schema_is_packaged(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert "*.json" in project["tool"]["setuptools"]["package-data"]["privacy"]


def test_the_example_of_the_page_runs_and_finds_its_copies():
    text = published.PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "docs/audits.md", "exec"), names)
    assert names["report"].verdict == "FAIL"
    assert names["report"].split == "random"
