"""The detection benchmark gives every tool the same sets, and counts what it says it counts."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import detection
from benchmarks.detection_data import LEAKS, Records, draw, evidence_of, plant
from benchmarks.refusals import Refused
from privacy.evidence import Arm
from tests.privacy.audit_material import pictures


def material(count=420):
    rng = np.random.default_rng(1)
    return Records("pictures", "image", pictures(count, rng), np.arange(count))


def test_arms_share_nobody_and_fresh_records_belong_to_no_arm():
    records = material()
    split = draw(records, units_per_arm=100, rng=np.random.default_rng(2))
    parts = [split.members, split.holdout, split.reference, split.fresh]
    assert [len(part) for part in parts] == [100, 100, 50, 170]
    assert len(np.unique(np.concatenate(parts))) == 420
    evidence = evidence_of(records, split, records.values[split.fresh], np.random.default_rng(3))
    trained = np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN))
    members = {record.tobytes() for record in records.values[split.members]}
    assert {record.tobytes() for record in evidence.records[trained]} == members


@pytest.mark.parametrize("leak", LEAKS)
def test_planted_copies_are_of_distinct_members(leak):
    records = material()
    split = draw(records, units_per_arm=100, rng=np.random.default_rng(2))
    planted = plant(records, split, leak, most=10, rng=np.random.default_rng(4))
    assert len(planted) == 10
    members = {record.tobytes() for record in records.values[split.members]}
    same = {record.tobytes() for record in planted} & members
    assert len(same) == (10 if leak in {"verbatim", "outlier"} else 0)


def test_too_few_units_are_refused_with_what_to_give():
    with pytest.raises(Refused, match="--arm"):
        draw(material(200), units_per_arm=100, rng=np.random.default_rng(2))


@pytest.mark.slow
def test_the_document_has_limits_and_false_alarms_and_says_why_peers_did_not_run(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(detection, "load", lambda *_, **__: material(800))
    out = tmp_path / "out.json"
    arguments = ["--json", str(out), "--data", "x", "--arm", "200", "--repeats", "2"]
    done = CliRunner().invoke(
        detection.main, [*arguments, "--innocents", "1"], catch_exceptions=False
    )
    assert done.exit_code == 0
    document = json.loads(out.read_text())
    assert document["failures"] == []
    limits = {x["leak"]: x["fraction_95"] for x in document["limit_of_detection"]}
    assert limits["verbatim"] <= 0.01
    assert limits["verbatim"] <= limits["augmented"]
    (alarms,) = document["false_alarm_rate"]
    assert alarms["repeats"] == 3
    assert alarms["rate"] == 0
    peers = [row for row in document["results"] if not row["ran"]]
    assert {row["tool"] for row in peers} == set(detection.INSTALLS)
    assert all(row["reason"] == "it reads tables only" for row in peers)
    ours = [row for row in document["results"] if row["ran"] and row["leak"] == "verbatim"]
    assert all(row["ci_low"] <= row["flag_rate"] <= row["ci_high"] for row in ours)


@pytest.mark.parametrize(("done", "whole"), [(0, 0), (1, 0), (3, 3), (5, 3), (6, 6)])
def test_a_slow_tool_is_judged_by_the_repeats_that_it_finished(done, whole):
    cases = [
        detection.Case(leak, share, repeat)
        for repeat in range(2)
        for leak, share in (("none", 0.0), ("verbatim", 0.3), ("verbatim", 1.0))
    ]
    assert detection._whole_repeats(cases, done) == whole
