"""The page of a report about rows with images shows both parts, and pairs with their images."""

import numpy as np
import pytest

from privacy import pairing
from privacy.battery import Order
from privacy.evidence import Finding, Metric
from privacy.joint_report import Paired, joint_report
from privacy.policy import load_policy
from privacy.report import Verdict
from tests.audit_documents import audit_report
from tests.privacy.audit_material import JOINT_SCHEMA as SCHEMA
from tests.privacy.audit_material import innocent_joint
from workers.report.joint_pairs import suspicious
from workers.report.render import render_report
from workers.report.words import audit_title, audit_titles, gate_sentence, spoken


def listing(*samples, flagged=True):
    """Return a finding of near-copies with a pair of each of these samples."""
    pairs = [
        {
            "sample": sample, "train_record": 4, "held_out_record": 9, "ratio": 0.25,
            "flagged": flagged, "train_distance": 0.5, "held_out_distance": 2.0,
        }
        for sample in samples
    ]  # fmt: skip
    return Finding(audit="near_copies", metrics=(), details={"pairs": pairs})


@pytest.fixture(scope="module")
def shown():
    """Return evidence and a report that lists one pair of rows and two of images."""
    evidence = innocent_joint(np.random.default_rng(0), persons=60, samples=40)
    paired = Paired(Finding(audit=pairing.NAME, metrics=(Metric(name="p_value", value=0.3),)), ())
    table = audit_report().model_copy(update={"findings": (listing(7),)})
    images = audit_report(Verdict.FAIL).model_copy(update={"findings": (listing(1, 2),)})
    report = joint_report(
        table, images, paired, order=Order(load_policy(), "registered", 1, {}, ()),
        given=evidence.table, looked_at=60,
    )  # fmt: skip
    return evidence, report


def page_of(shown, **context):
    evidence, report = shown
    context = {"title": "Audit", "labels": ["0", "1"], "declared": SCHEMA, **context}
    return render_report(report, evidence=evidence, context=context)


def test_a_pair_has_the_cells_and_the_images_of_the_same_three_records(shown):
    evidence, report = shown
    rows, one, two = suspicious(report, evidence, schema=SCHEMA)
    assert [pair.part for pair in (rows, one, two)] == ["rows", "images", "images"]
    assert rows.trained == one.trained  # both are of record 4
    assert rows.cells[0].trained == one.cells[0].trained
    assert one.synthetic != two.synthetic
    assert one.cells[0].synthetic == f"{evidence.table.samples[1, 0]:.2f}"


def test_both_parts_stand_on_one_page_with_their_names(shown):
    page = page_of(shown)
    for words in ("Rows: near-copies", "Images: near-copies", "Image and row of one person"):
        assert words in page
    assert "table.near" not in page.partition("How to read this page")[2]
    assert "Rows, verbatim copies" in page
    assert "Images, verbatim copies" in page


def test_real_images_and_rows_stay_away_where_they_are_looked_at_one_by_one(shown):
    """A page that a service shows has synthetic pictures only."""
    open_page, apart = page_of(shown), page_of(shown, real_records_apart=True)
    evidence, report = shown
    real = suspicious(report, evidence, schema=SCHEMA)[0].trained
    assert real in open_page
    assert real not in apart
    assert "<td>rows</td>" in apart
    assert 'class="evidence-only"' not in apart


def test_images_are_shown_by_the_cells_that_they_were_drawn_for(shown):
    page = page_of(shown)
    assert "<h3>grade 0</h3>" in page
    assert "Rows with their images" in page
    assert page.count('alt="synthetic image of row') == 12


def test_what_was_not_computed_of_usefulness_is_said(shown):
    gone = {"computed": False, "reason": "nobody asked"}
    document = {
        "kind": "joint", "computed": True, "stays_inside": "Inside.", "table": gone, "images": gone,
        "match": gone,
    }  # fmt: skip
    assert page_of(shown, utility=document).count("Not computed: nobody asked") >= 2


def test_names_of_parts_are_said_in_words(shown):
    assert audit_title("table.near_copies") == "Rows: near-copies"
    assert audit_titles(("table.near_copies", "images.data_copying", "pairing")) == (
        "Image and row of one person, together; Rows: Near-copies; "
        "Images: Data copying, in regions of the data"
    )
    assert spoken("images.near_copies and a table. With a full stop") == (
        "images: near copies and a table. With a full stop"
    )
    report = shown[1]
    sentences = {gate.name: gate_sentence(gate, "person") for gate in report.gates}
    alone = audit_report(Verdict.FAIL)
    for gate in alone.gates:
        if f"images.{gate.name}" in sentences:
            assert sentences[f"images.{gate.name}"] == gate_sentence(gate, "person")
