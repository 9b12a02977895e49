"""Each detector in turn is made blind, or trigger-happy: the self-test of that very report turns red."""

import numpy as np
import pytest

from privacy.audits import (
    data_copying,
    disclosure,
    gradient_membership,
    learned_membership,
    loss_membership,
    marginal_membership,
    run_battery,
    sample_membership,
)
from privacy.copies import Detector
from privacy.evidence import Finding
from privacy.gains import gain_metrics
from privacy.membership import measure, pool_of
from privacy.policy import load_policy
from privacy.report import Verdict
from tests.privacy.audit_material import innocent, innocent_table, quick

pytestmark = pytest.mark.slow

POLICY = quick(load_policy())


@pytest.fixture(scope="module")
def evidence():
    return innocent(np.random.default_rng(1), persons=700, samples=600, scores=True)


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


def no_distances(survey, pool):
    return {"nearest": np.random.default_rng(3).normal(size=len(pool.persons))}


def no_directions(seen, *, config):
    names, rng = ("density", "monte_carlo", "classifier"), np.random.default_rng(4)
    return {name: rng.normal(size=len(seen.rows)) for name in names}


def dead(audit):
    """Return a run that sees noise, whatever it is shown."""

    def run(evidence, survey, *, settings, detector, rng, config=None):
        pool = pool_of(survey.population)
        noise = {"noise": np.random.default_rng(5).normal(size=len(pool.persons))}
        return measure(audit, noise, pool, settings=settings, rng=rng)

    return run


def no_crowding(trained, of_samples, of_units, cells):
    return np.zeros(3)


def no_lesson(features, pool, *, ridge):
    return {"learned": np.random.default_rng(6).normal(size=int((pool.folds == 2).sum()))}


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
        (sample_membership, "run", dead("sample_membership"), "everything"),
        (loss_membership, "run", dead("loss_membership"), "everything"),
        (data_copying, "_statistics", no_crowding, "everything"),
        (gradient_membership, "learned_scores", no_lesson, "everything"),
        (Detector, "_arms", always_copies, "fresh_real"),
    ],
    ids=[
        "arms",
        "ratio",
        "verbatim",
        "sample_membership",
        "loss_membership",
        "data_copying",
        "gradients",
        "accuses everybody",
    ],
)
def test_a_report_without_a_detector_is_invalid(evidence, monkeypatch, owner, name, blind, missed):
    monkeypatch.setattr(owner, name, blind)
    report = report_on(evidence)
    assert report.self_test_passed is False
    assert report.verdict is Verdict.INVALID
    assert missed in [s.name for s in report.self_test if s.judged_wrongly]


def test_samples_are_attacked_by_distances_and_by_directions_apart(evidence, monkeypatch):
    """Either half of the attacks on samples sees the whole training set; without both, it is void."""
    monkeypatch.setattr(sample_membership, "distance_scores", no_distances)
    assert report_on(evidence).self_test_passed
    monkeypatch.setattr(sample_membership, "direction_scores", no_directions)
    report = report_on(evidence)
    assert report.verdict is Verdict.INVALID
    assert "everything" in [s.name for s in report.self_test if s.judged_wrongly]


@pytest.fixture(scope="module")
def of_a_table():
    return innocent_table(np.random.default_rng(7), persons=900, samples=500)


def no_gain(evidence, survey, *, settings, detector, rng, config=None):
    pool = pool_of(survey.population)
    nobody = {name: np.zeros(len(pool.coins), dtype=bool) for name in disclosure.CRITERIA}
    metrics = gain_metrics(
        nobody, pool.coins, error=settings.bound_error, reason=None, expected=disclosure.CRITERIA
    )
    return Finding(audit="disclosure", metrics=metrics)


def always_gains(evidence, survey, *, settings, detector, rng, config=None):
    coins = pool_of(survey.population).coins
    metrics = gain_metrics(
        {"linkability": coins == 1}, coins, error=settings.bound_error, reason=None, expected=()
    )
    return Finding(audit="disclosure", metrics=metrics)


def test_the_audit_of_a_table_as_it_stands_passes_its_self_test(of_a_table):
    report = report_on(of_a_table)
    assert report.self_test_passed is not False
    seen = {audit for specimen in report.self_test for audit in specimen.named_audits}
    assert {"marginal_membership", "learned_membership", "disclosure"} <= seen
    assert not [s for s in report.self_test if s.judged_wrongly]


@pytest.mark.parametrize(
    ("owner", "blind", "missed"),
    [
        (marginal_membership, dead("marginal_membership"), "everything"),
        (learned_membership, dead("learned_membership"), "everything"),
        (disclosure, no_gain, "everything"),
        (disclosure, always_gains, "fresh_real"),
    ],
    ids=["marginals", "learned", "disclosure", "accuses everybody"],
)
def test_a_report_on_a_table_without_a_detector_is_invalid(
    of_a_table, monkeypatch, owner, blind, missed
):
    monkeypatch.setattr(owner, "run", blind)
    report = report_on(of_a_table)
    assert report.verdict is Verdict.INVALID
    assert missed in [s.name for s in report.self_test if s.judged_wrongly]
