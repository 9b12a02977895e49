"""Each detector in turn is made blind, or trigger-happy: the self-test of that very report turns red."""

import numpy as np
import pytest

from privacy import self_test
from privacy.audits import run_battery
from privacy.copies import Detector
from privacy.policy import load_policy
from privacy.report import Verdict
from tests.privacy.audit_material import innocent, quick

pytestmark = pytest.mark.slow

POLICY = quick(load_policy())


@pytest.fixture(scope="module")
def evidence():
    return innocent(np.random.default_rng(1), persons=700, samples=600)


def report_on(evidence):
    rng = np.random.default_rng(2)
    return run_battery(evidence, policy=POLICY, tier="registered", attempt=1, rng=rng)


def no_arms(detector, near):
    return 1.0


def no_ratio(detector, near, verbatim):
    nobody = np.empty(0, dtype=np.int64)
    return nobody, nobody, np.zeros(len(verbatim.person), dtype=bool), 1.0


def no_verbatim(detector, verbatim):
    return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 1.0


def no_membership(survey, pool):
    return {"nearest": np.random.default_rng(3).normal(size=len(pool.persons))}


def always_copies(detector, near):
    return 0.0


def test_the_audit_as_it_stands_passes_its_self_test(evidence):
    report = report_on(evidence)
    assert report.self_test_passed
    assert all(specimen.excuse is None for specimen in report.self_test)


@pytest.mark.parametrize(
    ("owner", "name", "blind", "missed"),
    [
        (Detector, "_arms", no_arms, "everything"),
        (Detector, "_ratio", no_ratio, "copies_faint"),
        (Detector, "_verbatim", no_verbatim, "everything"),
        (self_test, "distance_scores", no_membership, "everything"),
        (Detector, "_arms", always_copies, "fresh_real"),
    ],
    ids=["arms", "ratio", "verbatim", "sample_membership", "accuses everybody"],
)
def test_a_report_without_a_detector_is_invalid(evidence, monkeypatch, owner, name, blind, missed):
    monkeypatch.setattr(owner, name, blind)
    report = report_on(evidence)
    assert report.self_test_passed is False
    assert report.verdict is Verdict.INVALID
    assert missed in [s.name for s in report.self_test if s.judged_wrongly]
