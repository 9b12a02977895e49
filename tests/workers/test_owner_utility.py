"""The owner's look at utility: held-out persons only, and a reason where it cannot be had."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.evidence import Arm
from privacy.manifests import DatasetSchema
from tests.privacy.audit_material import innocent
from training.utility.fitting import Recipe
from workers import augmentation_curve
from workers.augmentation_curve import with_curve
from workers.owner_utility import FEWEST_PERSONS, measure_utility

LABELS = ("0", "1", "2")


def look(evidence, **more):
    return measure_utility(evidence, label="KL", labels=LABELS, **more)


@pytest.fixture(scope="module")
def evidence():
    return innocent(np.random.default_rng(0), persons=300, samples=200)


def test_the_look_has_scores_for_synthetic_and_real_with_intervals(evidence):
    found = look(evidence, most_seconds=1000.0)
    assert found["computed"]
    assert set(found["scores"]) == {"synthetic", "real"}
    for scores in found["scores"].values():
        low, high = scores["ci_over_test_persons"]["accuracy"]
        assert low <= scores["accuracy"] <= high
    assert "owner" in found["stays_inside"]
    held = np.isin(evidence.arms, (Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.REFERENCE_B))
    assert found["held_out_persons"] == held.sum()


def test_too_few_held_out_persons_are_a_reason(evidence):
    arms = np.full_like(evidence.arms, Arm.TRAIN)
    arms[: FEWEST_PERSONS - 1] = Arm.AUDIT_OUT
    found = look(replace(evidence, arms=arms))
    assert not found["computed"]
    assert str(FEWEST_PERSONS - 1) in found["reason"]


def test_one_label_is_a_reason(evidence):
    found = look(replace(evidence, labels=np.zeros_like(evidence.labels)))
    assert not found["computed"]
    assert "one label" in found["reason"]


def test_the_look_ends_when_its_time_is_over(evidence):
    found = look(evidence, most_seconds=0.0)
    assert not found["computed"]
    assert "seconds" in found["reason"]


def declared(unit="person"):
    return DatasetSchema(
        unit=unit, declared_count=300, height=16, width=16, label="KL", labels=LABELS
    )


def test_the_curve_has_both_kinds_of_point_with_intervals(evidence, monkeypatch):
    monkeypatch.setattr(augmentation_curve, "_RECIPE", Recipe(steps=2, batch=8))
    found = with_curve({"computed": True}, evidence, declared=declared(), most_seconds=1000.0)
    rows = [row for row in found["augmentation_curve"] if row["metric"] == "accuracy"]
    trained = np.isin(evidence.arms, (Arm.TRAIN, Arm.AUDIT_IN)).sum()
    assert {row["real_persons"] for row in rows} == {0, 50, trained}
    assert {row["synthetic_images"] for row in rows} == {0, len(evidence.samples)}
    for row in rows:
        assert row["seeds"] == 3
        assert row["ci_low"] <= row["mean"] <= row["ci_high"]


@pytest.mark.parametrize("most_seconds", [0.0, 0.2])
def test_a_curve_that_takes_too_long_is_a_reason(evidence, monkeypatch, most_seconds):
    monkeypatch.setattr(augmentation_curve, "_RECIPE", Recipe(steps=2, batch=8))
    found = with_curve({"computed": True}, evidence, declared=declared(), most_seconds=most_seconds)
    assert "augmentation_curve" not in found
    assert "seconds" in found["augmentation_reason"]


def test_without_a_look_there_is_no_curve(evidence):
    look_without = {"computed": False, "reason": "too few"}
    assert with_curve(look_without, evidence, declared=declared()) == look_without
    assert "augmentation_curve" not in with_curve(
        {"computed": True}, evidence, declared="a table's schema"
    )
