"""The battery as a whole: what it refuses, writes down, shows on the way, and never does."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.audits import run_battery
from privacy.errors import EvidenceMissing
from privacy.evidence import Arm, Evidence, SplitOrigin
from privacy.mechanisms import GaussianMechanism, PrivacyTarget, UnitOfPrivacy
from privacy.policy import load_policy
from privacy.report import AuditReport, GateStatus, Verdict
from tests.privacy.audit_material import innocent, one_record_each, quick, with_samples

POLICY = quick(load_policy())


def audited(evidence, rng, **changes):
    order = {"policy": POLICY, "tier": "registered", "attempt": 1, "rng": rng} | changes
    return run_battery(evidence, **order)


@pytest.fixture(scope="module")
def small():
    return innocent(np.random.default_rng(1), persons=500, samples=400)


@pytest.fixture(scope="module")
def reported(small):
    steps = []
    report = audited(
        small,
        np.random.default_rng(2),
        progress=lambda stage, done, total: steps.append((stage, done, total)),
        provenance={"samples": "ab" * 32},
    )
    return report, steps


def test_a_report_survives_its_own_json_with_the_same_digest(reported):
    report, _ = reported
    again = AuditReport.model_validate_json(report.model_dump_json())
    assert again.digest() == report.digest()
    assert again.provenance == {"samples": "ab" * 32}
    assert again.policy_digest == POLICY.digest


def test_progress_runs_forward_on_one_scale_to_its_end(reported):
    _, steps = reported
    done = [step[1] for step in steps]
    assert done == sorted(done)
    assert done[-1] == 1000
    assert {step[2] for step in steps} == {1000}
    assert all(step[0] for step in steps)


def test_the_report_counts_every_arm(reported, small):
    report, _ = reported
    assert report.units["total"] == 500 == sum(report.units[arm.name.lower()] for arm in Arm)
    assert report.records["synthetic"] == 400
    assert report.units["audit_in"] == int((small.arms == Arm.AUDIT_IN).sum())


def test_limits_of_detection_are_shares_of_copies_that_were_planted(reported, small):
    report, _ = reported
    trained = int(np.isin(small.arms, (Arm.TRAIN, Arm.AUDIT_IN)).sum())
    for limit in report.limit_of_detection:
        counts = [fraction * trained for fraction in limit.fractions]
        assert counts == pytest.approx([round(count) for count in counts])
        assert len({round(count) for count in counts}) == len(counts)
        assert limit.changes


def test_an_innocent_with_too_few_persons_for_power_is_undecided_and_not_void():
    rng = np.random.default_rng(40)
    evidence = innocent(rng, persons=300, samples=500, unit=UnitOfPrivacy.RECORD)
    order = (Arm.TRAIN, Arm.AUDIT_IN, Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.REFERENCE_B)
    arms = rng.choice(np.array(order), 300, p=(0.6, 0.1, 0.1, 0.1, 0.1))
    report = audited(replace(evidence, arms=arms), rng, tier="enclave")
    missed = [specimen.name for specimen in report.self_test if not specimen.passed]
    assert missed
    assert all(name.startswith("copies_") for name in missed)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.self_test_passed is None


def test_a_problem_of_provenance_makes_the_report_invalid(small):
    report = audited(
        small, np.random.default_rng(3), problems=("the commitment does not open to this policy",)
    )
    assert report.verdict is Verdict.INVALID
    assert "commitment does not open" in report.verdict_reason


def test_a_generator_that_copies_some_of_its_training_data_fails_by_near_copies_alone():
    rng = np.random.default_rng(4)
    evidence = innocent(rng, persons=900, samples=1000)
    copied = one_record_each(evidence, 12, rng)
    report = audited(with_samples(evidence, evidence.records[copied]), rng)
    assert report.verdict is Verdict.FAIL
    assert report.verdicts["near_copies"] is Verdict.FAIL
    assert report.verdicts["sample_membership"] is not Verdict.FAIL
    finding = next(f for f in report.findings if f.audit == "near_copies")
    assert set(finding.details["copied_units"]) == set(evidence.persons[copied].tolist())
    pairs = [pair for pair in finding.details["pairs"] if pair["flagged"]]
    assert {pair["train_record"] for pair in pairs} == set(copied.tolist())


def test_a_small_cohort_whose_training_set_is_released_fails_though_a_test_lacks_units():
    rng = np.random.default_rng(14)
    evidence = innocent(rng, persons=60, samples=300)
    rows = np.flatnonzero(np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN)))
    report = audited(with_samples(evidence, evidence.records[rows]), rng)
    assert report.verdict is Verdict.FAIL
    assert "near_copies" in report.verdict_reason


def test_copies_of_persons_who_also_share_a_record_fail_and_many_of_them_are_never_a_pass():
    rng = np.random.default_rng(15)
    evidence = innocent(rng, persons=500, samples=400)
    owners = np.arange(0, 500, 5)
    shared = replace(
        evidence,
        records=np.concatenate([evidence.records, np.tile(evidence.records[:1] // 2, (100, 1, 1))]),
        persons=np.concatenate([evidence.persons, owners]),
        labels=np.concatenate([evidence.labels, np.zeros(100, dtype=int)]),
        excluded=np.isin(np.arange(500), owners),
    )
    gates = {gate.name: gate for gate in audited(shared, rng).gates}
    assert gates["shared_units"].status is GateStatus.INCONCLUSIVE
    trained = np.isin(shared.arms[owners], (Arm.TRAIN, Arm.AUDIT_IN))
    rows = 2 * owners[trained][:5]  # the first record of each, which nobody else has
    report = audited(with_samples(shared, shared.records[rows]), rng)
    assert report.verdict is Verdict.FAIL
    assert report.verdicts["near_copies"] is Verdict.FAIL


def test_later_attempts_widen_the_bounds(small):
    bounds = []
    for attempt in (1, 4):
        report = audited(small, np.random.default_rng(5), attempt=attempt)
        finding = next(f for f in report.findings if f.audit == "sample_membership")
        bounds.append(finding.metric("auc").ci_high)
    assert bounds[1] > bounds[0]


def test_the_same_seed_writes_the_same_report(small):
    first = audited(small, np.random.default_rng(6))
    assert first.digest() == audited(small, np.random.default_rng(6)).digest()


def test_uneven_arms_get_no_epsilon_bound_because_no_fair_coin_made_them(small):
    arms = small.arms.copy()
    arms[(arms == Arm.TRAIN)] = Arm.AUDIT_IN
    report = audited(replace(small, arms=arms), np.random.default_rng(7))
    assert report.epsilon_lower_bound is None
    assert "no fair coin" in report.epsilon_reason


def test_without_a_claim_there_is_no_ceiling_and_nothing_is_proven(small):
    bare = replace(small, target=None, mechanisms=(), split=SplitOrigin.UNKNOWN)
    report = audited(bare, np.random.default_rng(8), attempt=2, seed=8)
    assert report.epsilon_claimed is None
    assert report.ceiling == {}
    assert report.verdict is not Verdict.PASS_PROVEN
    assert "No claim was given, so none was tested" in report.verdict_reason
    assert "drawn alike, which nobody states" in report.verdict_reason
    assert any("limit on epsilon was not applied" in line for line in report.disclaimers)
    # The caller chose attempt and seed, so that the report names both and what they mean.
    assert (report.attempt, report.seed) == (2, 8)
    assert any("Attempt 2 with seed 8" in line for line in report.disclaimers)


def auc_status(report):
    return next(gate.status for gate in report.gates if gate.name == "sample_membership_auc")


def test_a_stated_epsilon_proves_nothing_where_mechanisms_on_record_do(small):
    strong = GaussianMechanism(stage="statistics", noise_multiplier=40.0)
    recorded = replace(small, mechanisms=(strong,), target=None)
    report = audited(recorded, np.random.default_rng(9))
    assert report.epsilon_claimed == pytest.approx(0.09, abs=0.05)  # known without a target
    assert auc_status(report) is GateStatus.PROVEN
    stated = PrivacyTarget(epsilon=report.epsilon_claimed, delta=1e-5)
    report = audited(replace(small, mechanisms=(), target=stated), np.random.default_rng(9))
    assert report.ceiling["auc"] < POLICY.tier("registered").auc
    assert auc_status(report) is not GateStatus.PROVEN
    assert any("proves nothing by itself" in line for line in report.disclaimers)


def test_record_unit_reports_speak_of_images():
    rng = np.random.default_rng(9)
    report = audited(innocent(rng, persons=500, samples=300, unit=UnitOfPrivacy.RECORD), rng)
    assert any("per image" in line for line in report.disclaimers)
    assert not any("person" in line for line in report.disclaimers)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"labels": np.zeros(3, dtype=int)}, "labels"),
        ({"samples": np.zeros((400, 8, 8), dtype=np.uint8)}, "one size"),
        ({"samples": np.zeros((0, 32, 32), dtype=np.uint8), "sample_labels": []}, "0 samples"),
        ({"record_scores": {"loss": np.zeros(3)}}, "record_scores"),
        ({"samples": np.full((400, 32, 32), np.nan)}, "values of the samples"),
        ({"records": np.full((1000, 32, 32), np.inf)}, "values of the records"),
    ],
)
def test_evidence_that_does_not_fit_together_is_refused(small, changes, word):
    with pytest.raises(EvidenceMissing, match=word):
        audited(replace(small, **changes), np.random.default_rng(10))


def table(rng, *, copies=0):
    """Return evidence of a table with 8 columns, some samples being rows of the training arm."""
    persons = 800
    rows = rng.normal(size=(persons, 8)) @ rng.normal(size=(8, 8))
    samples = rng.normal(size=(700, 8)) @ rng.normal(size=(8, 8))
    samples = rows[rng.permutation(persons)[:700]] + 2.0 * rng.normal(size=(700, 8))
    arms = np.where(rng.random(persons) < 0.5, Arm.AUDIT_IN, Arm.AUDIT_OUT)
    where = rng.random(persons)
    arms = np.where(where < 0.15, Arm.REFERENCE_A, np.where(where < 0.3, Arm.REFERENCE_B, arms))
    if copies:
        trained = np.flatnonzero(np.isin(arms, (Arm.TRAIN, Arm.AUDIT_IN)))
        samples[:copies] = rows[trained[:copies]]
    return Evidence(
        modality="table",
        unit=UnitOfPrivacy.RECORD,
        records=rows,
        labels=np.zeros(persons, dtype=int),
        persons=np.arange(persons),
        arms=arms,
        folds=rng.integers(1, 3, persons),
        excluded=np.zeros(persons, dtype=bool),
        samples=samples,
        sample_labels=np.zeros(700, dtype=int),
    )


def test_a_table_whose_rows_are_copied_fails_by_near_copies():
    rng = np.random.default_rng(11)
    report = audited(table(rng, copies=30), rng)
    assert report.verdicts["near_copies"] is Verdict.FAIL


def test_a_noisy_table_is_not_accused_of_copies():
    rng = np.random.default_rng(12)
    assert audited(table(rng), rng).verdicts["near_copies"] is not Verdict.FAIL
