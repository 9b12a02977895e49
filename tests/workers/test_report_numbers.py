"""Whatever the page prints as a number stands in the report's JSON, and what decides is printed."""

import html
import json
import re

import numpy as np
import pytest

from privacy.audits import run_battery
from privacy.policy import load_policy
from service.documents import without_real_records
from tests.privacy.audit_material import innocent, one_record_each, quick, with_samples
from workers.report.render import render_report
from workers.report.words import number

# What the template says by itself: percent of bands and coins, marks on axes, the guidance cited.
OF_THE_TEMPLATE = {"95", "50", "0.0001", "29", "05", "2014", "0.01", "0.03", "0.1", "0.3", "1"}
TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture(scope="module")
def reported():
    rng = np.random.default_rng(1)
    evidence = innocent(rng, persons=500, samples=300, scores=True)
    evidence = with_samples(evidence, evidence.records[one_record_each(evidence, 9, rng)])
    return run_battery(
        evidence, policy=quick(load_policy()), tier="registered", attempt=3, rng=rng
    ), evidence


def printed(page):
    body = page[page.index("<main>") :]
    body = re.sub(r"<svg.*?</svg>", " ", body, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))


def leaves(value):
    if isinstance(value, dict):
        for name, item in value.items():
            if name != "roc":  # hundreds of rates: with them almost any number would be there
                yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def forms(value):
    """Return every way in which the page may write a number."""
    if isinstance(value, bool):
        return set()
    if isinstance(value, int):
        return {str(value), f"{value:,}"}
    value = abs(value)
    said = {f"{value:.2f}", f"{value:.3f}", f"{value:.2g}", f"{value:.4g}", f"{value:g}"}
    said |= {f"{value:.{places}%}"[:-1] for places in (0, 1, 2)}
    return said | ({f"{int(value):,}"} if value == int(value) else set())


def known(report):
    found = set(OF_THE_TEMPLATE)
    for leaf in leaves(json.loads(report.model_dump_json())):
        if isinstance(leaf, str):
            found |= set(TOKEN.findall(leaf))
        elif leaf is not None:
            found |= forms(leaf)
    return found


def counted(report):
    """Return numbers that the page counts or adds up from the report."""
    units = report.units
    sums = [
        units["train"] + units["audit_in"],
        units["audit_out"] + units["reference_a"] + units["reference_b"],
        *range(1, 1 + max(24, len(report.gates), *(len(f.metrics) for f in report.findings))),
    ]
    percents = {f"{100 * report.epsilon_confidence:g}"}
    named = {m.name for f in report.findings for m in f.metrics} | {g.title for g in report.gates}
    percents |= {
        f"{float(name.removeprefix('tpr_at_')):.0%}"[:-1]
        for name in named
        if name.startswith("tpr_at_")
    }
    return {form for value in sums for form in forms(value)} | percents


def test_every_number_on_the_page_is_in_the_report(reported):
    report, evidence = reported
    page = render_report(report, evidence=evidence, context={"labels": ["a", "b", "c"]})
    tokens = {token.rstrip(",") for token in TOKEN.findall(printed(page))}
    assert len(tokens) > 60
    assert tokens - known(report) - counted(report) == set()


def test_every_number_that_decides_is_on_the_page(reported):
    report, _ = reported
    page = printed(render_report(report, evidence=None, context={}))
    for gate in report.gates:
        if gate.value is None:
            continue
        shown = {number(gate.value, name=gate.name), *forms(gate.value)}
        assert any(text in page for text in shown), gate.name
    for finding in report.findings:
        for metric in finding.metrics:
            assert number(metric.value, name=metric.name) in page, metric.name


def test_a_number_changed_in_the_report_changes_on_the_page(reported):
    report, _ = reported
    gates = tuple(
        gate.model_copy(update={"value": 0.4321, "tolerance": 0.8765})
        if gate.name == "sample_membership_auc"
        else gate
        for gate in report.gates
    )
    changed = report.model_copy(update={"gates": gates, "epsilon_claimed": 7.77})
    page = printed(render_report(changed, evidence=None, context={}))
    assert "43.2%" in page
    assert "88%" in page
    assert "ε 7.77" in page
    assert "43.2%" not in printed(render_report(report, evidence=None, context={}))


def test_bars_are_as_long_as_their_values(reported):
    report, _ = reported
    report = report.model_copy(
        update={"epsilon_lower_bound": 1.0, "epsilon_max_certifiable": 2.0, "epsilon_claimed": 4.0}
    )
    page = render_report(report, evidence=None, context={})
    bars = page[page.index('class="bars"') :]
    lengths = re.findall(r'<rect class="(low|most|claim)" width="([\d.]+)"', bars)
    assert lengths == [("low", "25.00"), ("most", "50.00"), ("claim", "100.00")]


def test_real_records_that_are_looked_at_elsewhere_are_not_on_the_page(reported):
    report, evidence = reported
    here = render_report(report, evidence=evidence, context={})
    apart = render_report(report, evidence=evidence, context={"real_records_apart": True})
    assert here.count('<input type="checkbox"') > 0
    assert '<input type="checkbox"' not in apart
    assert "each look is recorded" in apart
    assert 'alt="real, ' in here
    assert 'alt="real, ' not in apart


def test_a_page_that_was_stored_with_real_records_is_served_without_them(reported):
    report, evidence = reported
    here = render_report(report, evidence=evidence, context={})
    apart = render_report(report, evidence=evidence, context={"real_records_apart": True})
    served = without_real_records(here.encode()).decode()
    pictures = re.compile(r"<img[^>]*>")
    assert pictures.findall(served) == pictures.findall(apart)
    assert len(pictures.findall(here)) > len(pictures.findall(apart)) > 0
    assert "were taken out of this page" in served
    assert without_real_records(apart.encode()) == apart.encode()
