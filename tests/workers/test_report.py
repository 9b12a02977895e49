"""The page of a report: everything in it is in the report, and it needs nothing from outside."""

import re
from dataclasses import replace
from html import escape

import numpy as np
import pytest

from privacy.audits import run_battery
from privacy.mechanisms import UnitOfPrivacy
from privacy.policy import load_policy
from privacy.report import GateStatus
from tests.privacy.audit_material import innocent, one_record_each, quick, with_samples
from workers.report.render import render_report
from workers.report.words import headline

LABELS = ["KL <0>", "KL 1", "KL 2"]


def audited(evidence, seed):
    rng = np.random.default_rng(seed)
    return run_battery(evidence, policy=quick(load_policy()), tier="registered", attempt=1, rng=rng)


@pytest.fixture(scope="module")
def leak():
    rng = np.random.default_rng(1)
    evidence = innocent(rng, persons=500, samples=300, scores=True)
    copied = one_record_each(evidence, 9, rng)
    evidence = with_samples(evidence, evidence.records[copied])
    report = audited(evidence, 2)
    page = render_report(
        report,
        evidence=evidence,
        context={"title": "Knees & co", "labels": LABELS, "generator": "copycat"},
    )
    return report, page


def test_the_page_opens_with_verdict_and_reason(leak):
    report, page = leak
    top = page[page.index("<main>") : page.index("What is claimed")]
    assert "FAIL" in top
    assert "gives away persons" in top
    assert report.verdict_reason in top


def test_the_page_runs_no_script_and_asks_nobody_for_anything(leak):
    _, page = leak
    assert "<script" not in page
    assert not re.search(r"\son\w+=", page)
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_shows_every_gate_finding_specimen_and_limit(leak):
    report, page = leak
    for gate in report.gates:
        title = gate.title.replace("units", "persons").replace("unit", "person")
        for number, name in enumerate(LABELS):
            title = title.replace(f"label {number}", f"“{name}”")
        assert escape(title, quote=False) in page
    for criterion in report.criteria:
        assert escape(criterion.question).replace("&#x27;", "&#39;") in page
        assert criterion.open_points in page
    for attack in report.attacks:
        assert escape(attack.description).replace("&#x27;", "&#39;") in page
    for specimen in report.self_test:
        assert specimen.title.replace("units", "persons") in page
    for line in (*report.not_tested, *report.disclaimers):
        assert line.replace("'", "&#39;") in page
    for mechanism in report.mechanisms:
        assert mechanism.stage in page
    assert report.policy_digest in page


def test_real_records_beside_copies_are_blurred_until_somebody_clicks(leak):
    report, page = leak
    pairs = next(f for f in report.findings if f.audit == "near_copies").details["pairs"]
    assert page.count('<input type="checkbox"') == len(pairs) > 0
    assert "checked aria" not in page
    assert "filter: blur" in page
    assert page.count('<b class="bad">copy</b>') == sum(pair["flagged"] for pair in pairs)


def test_real_records_are_marked_as_evidence(leak):
    assert "evidence, not for release" in leak[1]


def test_words_from_outside_cannot_become_markup(leak):
    _, page = leak
    assert "KL &lt;0&gt;" in page
    assert "Knees &amp; co" in page
    assert "copycat" in page


def test_a_page_without_pictures_still_says_everything(leak):
    report, _ = leak
    page = render_report(report, evidence=None, context={})
    assert "data:image" not in page
    assert report.verdict_reason in page


def test_a_report_per_image_never_speaks_of_persons():
    rng = np.random.default_rng(3)
    evidence = innocent(rng, persons=500, samples=300, unit=UnitOfPrivacy.RECORD)
    page = render_report(audited(evidence, 4), evidence=evidence, context={})
    text = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    spoken = re.sub(r"Anything per person: [^<]*", "", text)
    assert "one image" in text
    assert "person" not in spoken


def test_a_report_without_a_claim_says_so():
    rng = np.random.default_rng(5)
    evidence = replace(innocent(rng, persons=60, samples=50), target=None, mechanisms=())
    page = render_report(audited(evidence, 6), evidence=evidence, context={})
    assert "No ε is claimed" in page
    assert "INCONCLUSIVE" in page


@pytest.mark.parametrize(
    ("gate", "sentence"),
    [
        ("near_copy_test", "gives away persons"),
        ("sample_membership_auc", "Attackers can tell which persons"),
        ("loss_membership_tpr", "Attackers can tell some of the persons"),
        ("epsilon_refuted", "refutes the claimed epsilon"),
        ("epsilon_claimed", "larger than this tier allows"),
    ],
)
def test_the_headline_of_a_failure_says_which_gate_failed(leak, gate, sentence):
    report, _ = leak
    gates = tuple(
        g.model_copy(
            update={"status": GateStatus.FAIL if g.name == gate else GateStatus.INCONCLUSIVE}
        )
        for g in report.gates
    )
    assert gate in {g.name for g in gates}
    assert sentence in headline(report.model_copy(update={"gates": gates}))


def test_the_page_names_the_changes_that_planted_copies_went_through():
    rng = np.random.default_rng(7)
    evidence = innocent(rng, persons=500, samples=300)
    page = render_report(audited(evidence, 8), evidence=None, context={})
    assert "flipped or not, shifted by up to 1/32 of the side" in page
    assert page.count("1/32 of the side") >= 2  # at the gate, and at the limits
