"""Every audit keeps its contract: it catches a leak, spares an innocent, and knows when it cannot."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import BaseModel

from privacy.audits import available, load, run_battery, sample_membership
from privacy.errors import InvalidParameter
from privacy.evidence import Arm, ThreatModel
from privacy.policy import load_policy
from privacy.report import Verdict
from tests.privacy.audit_material import innocent, trained_rows

pytestmark = pytest.mark.xdist_group("every_audit")  # one battery for all of them

POLICY = load_policy()
# Others are reported; what they measure is tested beside them.
# Audits of tables alone are tested in test_table_audits.py and test_mutations.py.
gating = pytest.mark.parametrize(
    "name", [name for name in POLICY.audits.gating if not hasattr(load(name), "MODALITIES")]
)


def leaky(rng):
    """Return evidence of a generator that hands out its training set and knows it by heart."""
    evidence = innocent(rng, persons=1100, samples=1200)
    known = np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN))
    rows = trained_rows(evidence)
    return replace(
        evidence,
        samples=evidence.records[rows],
        sample_labels=evidence.labels[rows],
        record_scores={"loss": known + 0.1 * rng.normal(size=len(known))},
        gradient_features=(1.0 - known + 0.1 * rng.normal(size=len(known)))[:, None],
    )


def audited(evidence, rng, **changes):
    order = {"policy": POLICY, "tier": "registered", "attempt": 1, "rng": rng} | changes
    return run_battery(evidence, **order)


@pytest.fixture(scope="module")
def of_a_leak():
    rng = np.random.default_rng(1)
    return audited(leaky(rng), rng)


@pytest.fixture(scope="module")
def of_an_innocent():
    rng = np.random.default_rng(2)
    return audited(innocent(rng, persons=1100, samples=4000, scores=True), rng)


@pytest.fixture(scope="module")
def of_too_few():
    rng = np.random.default_rng(3)
    return audited(innocent(rng, persons=60, samples=100, scores=True), rng)


@pytest.mark.parametrize("name", available())
def test_an_audit_documents_itself_and_declares_what_it_needs(name):
    audit = load(name)
    assert "What a pass does not mean" in audit.__doc__
    assert "What is attacked" in audit.__doc__
    assert isinstance(audit.THREAT_MODEL, ThreatModel)
    assert issubclass(audit.Config, BaseModel)
    assert audit.Config.model_config["extra"] == "forbid"
    assert audit.NEEDS


@gating
def test_an_audit_catches_a_leak(name, of_a_leak):
    assert of_a_leak.verdicts[name] is Verdict.FAIL


@gating
def test_an_audit_spares_an_innocent(name, of_an_innocent):
    assert of_an_innocent.verdicts[name].passed


@gating
def test_an_audit_says_when_evidence_is_too_small(name, of_too_few):
    assert of_too_few.verdicts[name] is Verdict.INCONCLUSIVE
    finding = next(f for f in of_too_few.findings if f.audit == name)
    assert all(m.reason for m in finding.metrics if m.value is None)


@pytest.mark.parametrize("attack", ["nearest", "calibrated", "monte_carlo"])
def test_each_attack_on_single_copies_sees_a_release_of_the_training_set(attack, of_a_leak):
    """Density and classifier hardly see single copies; no leak here is demanded of them."""
    finding = next(f for f in of_a_leak.findings if f.audit == "sample_membership")
    assert set(finding.details["attacks"]) == set(sample_membership.ATTACKS)
    assert finding.metric(f"auc_{attack}").ci_low > 0.9


def test_a_leak_fails_as_a_whole_and_the_sentence_names_near_copies(of_a_leak):
    assert of_a_leak.verdict is Verdict.FAIL
    assert "near_copies" in of_a_leak.verdict_reason
    assert of_a_leak.epsilon_lower_bound > 2


def test_an_innocent_passes_with_every_specimen_judged_rightly(of_an_innocent):
    assert of_an_innocent.verdict is Verdict.PASS_EMPIRICAL
    assert of_an_innocent.self_test_passed
    kinds = [(s.kind, s.passed) for s in of_an_innocent.self_test]
    assert kinds == [("leaky", True)] * 6 + [("innocent", True)] * 3


def test_the_leaky_specimen_fails_and_names_near_copies(of_an_innocent):
    assert of_an_innocent.leaky_specimen.verdict is Verdict.FAIL
    assert "near_copies" in of_an_innocent.leaky_specimen.named_audits


def test_the_limit_of_detection_is_within_the_tier(of_an_innocent):
    limits = {limit.leak: limit.fraction for limit in of_an_innocent.limit_of_detection}
    assert limits["verbatim"] <= 0.003
    assert limits["jittered"] <= 0.01


def test_too_few_persons_are_inconclusive_and_not_invalid(of_too_few):
    assert of_too_few.verdict is Verdict.INCONCLUSIVE
    assert of_too_few.self_test_passed is None
    assert of_too_few.epsilon_reason


def test_an_unknown_audit_is_refused_by_name():
    with pytest.raises(InvalidParameter, match="no such module"):
        load("astrology")
