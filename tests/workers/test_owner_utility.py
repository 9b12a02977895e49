"""The owner's look at utility: held-out persons only, and a reason where it cannot be had."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.evidence import Arm
from tests.privacy.audit_material import innocent
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
