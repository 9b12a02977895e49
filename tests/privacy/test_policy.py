"""The policy: what was not computed never passes, the worst gate decides, retries cost."""

import pytest

from privacy.battery import passed_self_test
from privacy.errors import InvalidParameter
from privacy.evidence import Finding, Metric
from privacy.policy import (
    judge_epsilon,
    judge_membership,
    judge_near_copies,
    load_policy,
)
from privacy.report import DetectionLimit, Gate, GateStatus, SpecimenResult, Verdict
from privacy.self_test import excused
from privacy.verdicts import decide, judge_self_test, verdict_of

POLICY = load_policy()
TIER = POLICY.tier("registered")


def membership(auc_high=0.55, auc_low=0.45, tpr_high=0.2, **changes):
    metrics = {
        "auc": Metric(name="auc", value=0.5, ci_low=auc_low, ci_high=auc_high),
        "tpr_at_0.01": Metric(name="tpr_at_0.01", value=None, reason="too few"),
        "tpr_at_0.05": Metric(name="tpr_at_0.05", value=None, reason="too few"),
        "tpr_at_0.1": Metric(name="tpr_at_0.1", value=0.1, ci_low=0.05, ci_high=tpr_high),
    } | changes
    return Finding(audit="sample_membership", metrics=tuple(metrics.values()))


def judged(finding, ceiling=None):
    return judge_membership(finding, policy=POLICY, tier=TIER, ceiling=ceiling or {})


def copies(p_value=0.5, upper=0.0005):
    return Finding(
        audit="near_copies",
        metrics=(
            Metric(name="p_value", value=p_value, reason=None if p_value is not None else "few"),
            Metric(name="copy_rate", value=0.0, ci_low=0.0, ci_high=upper),
        ),
    )


def gate(status, name="x", audit="near_copies"):
    return Gate(
        name=name, audit=audit, title=name, status=status, value=1, bound=1, tolerance=1, reason=""
    )


def specimen(passed):
    return SpecimenResult(
        name="s",
        title="a specimen",
        kind="leaky",
        verdict=Verdict.FAIL,
        named_audits=(),
        expected="FAIL",
        passed=passed,
        sample_count=1,
    )


def test_the_tiers_are_the_agreed_ones():
    assert {name: tier.epsilon for name, tier in POLICY.tiers.items()} == {
        "public": 2.0,
        "registered": 5.0,
        "enclave": 10.0,
    }
    assert [POLICY.tier(n).tpr_at(0.05) for n in POLICY.tiers] == [0.115, 0.17, 0.27]


def test_a_pass_needs_the_upper_bound_below_tolerance():
    assert {g.status for g in judged(membership())} == {GateStatus.PASS}
    auc_gate, _ = judged(membership(auc_high=0.601))
    assert auc_gate.status is GateStatus.INCONCLUSIVE
    auc_gate, _ = judged(membership(auc_low=0.61, auc_high=0.7))
    assert auc_gate.status is GateStatus.FAIL


def test_recognition_is_judged_at_the_smallest_rate_that_can_be_read():
    readable = Metric(name="tpr_at_0.05", value=0.1, ci_low=0.05, ci_high=0.18)
    finding = membership(**{"tpr_at_0.05": readable})
    _, tpr_gate = judged(finding)
    assert (tpr_gate.tolerance, tpr_gate.status) == (0.17, GateStatus.INCONCLUSIVE)


def test_what_was_not_computed_is_never_a_pass():
    nothing = Metric(name="auc", value=None, reason="too few")
    unread = Metric(name="tpr_at_0.1", value=None, reason="too few")
    gates = judged(membership(auc=nothing, **{"tpr_at_0.1": unread}), {"auc": 0.5})
    assert {g.status for g in gates} == {GateStatus.INCONCLUSIVE}
    assert "about 200 units" in gates[1].reason
    test, *_ = judge_near_copies(copies(p_value=None), None, policy=POLICY, tier=TIER)
    assert test.status is GateStatus.INCONCLUSIVE
    assert verdict_of([]) is Verdict.INCONCLUSIVE


def test_a_ceiling_below_tolerance_proves_a_gate_but_not_against_a_measured_violation():
    assert {g.status for g in judged(membership(), {"auc": 0.58, "tpr_at_0.1": 0.2})} == {
        GateStatus.PROVEN
    }
    auc_gate, _ = judged(membership(auc_low=0.62, auc_high=0.7), {"auc": 0.58})
    assert auc_gate.status is GateStatus.FAIL


def test_proven_needs_every_membership_gate_proven():
    proven = [gate(GateStatus.PROVEN, "a_auc"), gate(GateStatus.PROVEN, "a_tpr")]
    assert verdict_of([*proven, gate(GateStatus.PASS)]) is Verdict.PASS_PROVEN
    mixed = [gate(GateStatus.PROVEN, "a_auc"), gate(GateStatus.PASS, "a_tpr")]
    assert verdict_of(mixed) is Verdict.PASS_EMPIRICAL


def test_the_copy_test_alone_accuses_and_the_copy_rate_can_only_doubt():
    test, rate = judge_near_copies(copies(0.001, 0.3), None, policy=POLICY, tier=TIER)
    assert (test.status, rate.status) == (GateStatus.FAIL, GateStatus.INCONCLUSIVE)


def test_a_limit_of_detection_above_tolerance_is_no_pass():
    coarse = DetectionLimit(leak="verbatim", fraction=0.03)
    unknown = DetectionLimit(leak="jittered", fraction=None, reason="not reached")
    gates = judge_near_copies(copies(), [coarse, unknown], policy=POLICY, tier=TIER)
    assert [g.status for g in gates[2:4]] == [GateStatus.INCONCLUSIVE] * 2


def test_a_limit_of_detection_says_how_many_tries_it_rests_on():
    limit = DetectionLimit(
        leak="verbatim", fraction=0.005, fractions=(0.002, 0.005), rates=(0.6, 1.0), repeats=5
    )
    gate_ = judge_near_copies(copies(), [limit], policy=POLICY, tier=TIER)[2]
    assert gate_.status is GateStatus.PASS
    assert "flagged in 5 of 5 tries" in gate_.reason
    assert "95 %" not in gate_.reason


def test_a_detector_that_could_not_run_doubts_a_pass_and_never_hides_a_finding():
    p_value = Metric(name="p_value", value=1e-9, reason="fewer than 20 held out")
    rate = Metric(name="copy_rate", value=0.0, ci_low=0.0, ci_high=0.0005)
    finding = Finding(audit="near_copies", metrics=(p_value, rate))
    test, _ = judge_near_copies(finding, None, policy=POLICY, tier=TIER)
    assert test.status is GateStatus.FAIL
    calm = p_value.model_copy(update={"value": 0.5})
    finding = Finding(audit="near_copies", metrics=(calm, rate))
    test, _ = judge_near_copies(finding, None, policy=POLICY, tier=TIER)
    assert test.status is GateStatus.INCONCLUSIVE


@pytest.mark.parametrize(
    ("share", "status"),
    [(0.0, GateStatus.PASS), (0.01, GateStatus.PASS), (0.011, GateStatus.INCONCLUSIVE)],
)
def test_too_many_units_with_shared_records_are_no_pass(share, status):
    finding = copies()
    shared = Metric(name="shared_units", value=share)
    finding = finding.model_copy(update={"metrics": (*finding.metrics, shared)})
    *_, last = judge_near_copies(finding, [], policy=POLICY, tier=TIER)
    assert (last.name, last.status) == ("shared_units", status)


def test_samples_that_resemble_one_unit_without_an_accusation_are_told_in_words():
    p_value = Metric(name="p_value", value=0.4)
    rate = Metric(name="copy_rate", value=0.13, ci_low=0.12, ci_high=0.15)
    units = Metric(name="copied_units", value=1.0)
    finding = Finding(audit="near_copies", metrics=(p_value, rate, units))
    # Only a lower bound above the tolerance is a claim; one-sided rates have none.
    _, gate_ = judge_near_copies(finding, None, policy=POLICY, tier=TIER)
    assert gate_.status is GateStatus.INCONCLUSIVE
    assert "13.00% of samples resemble one trained-on unit" in gate_.reason


def test_a_copy_rate_with_too_few_samples_says_how_many_would_do():
    rate = Metric(name="copy_rate", value=0.0, ci_low=0.0, ci_high=0.0025, confidence=0.975)
    calm = Metric(name="p_value", value=0.5)
    finding = Finding(audit="near_copies", metrics=(calm, rate))
    _, gate_ = judge_near_copies(finding, None, policy=POLICY, tier=TIER)
    assert gate_.status is GateStatus.INCONCLUSIVE
    assert "3,688 would do" in gate_.reason


def test_a_leak_that_is_seen_and_tolerated_is_told():
    seen = Metric(name="leak_p_value", value=0.0005, direction="lower_is_riskier")
    auc_gate, _ = judged(membership(leak=seen))
    assert auc_gate.status is GateStatus.PASS
    assert "a leak was detected" in auc_gate.reason
    auc_gate, _ = judged(membership(leak=seen.model_copy(update={"value": 0.5})))
    assert "leak" not in auc_gate.reason


def test_a_claim_above_the_tier_or_below_the_evidence_fails():
    within, refuted = judge_epsilon(lower_bound=0.2, claimed=4.0, tier=TIER, reason=None)
    assert (within.status, refuted.status) == (GateStatus.PASS, GateStatus.PASS)
    _, unlikely = judge_epsilon(
        lower_bound=0.2, claimed=4.0, tier=TIER, reason=None, claim_test=(0.001, 0.01)
    )
    assert unlikely.status is GateStatus.FAIL
    assert "with probability 0.001" in unlikely.reason
    within, refuted = judge_epsilon(lower_bound=4.2, claimed=4.0, tier=TIER, reason=None)
    assert (within.status, refuted.status) == (GateStatus.PASS, GateStatus.FAIL)
    within, _ = judge_epsilon(lower_bound=0.0, claimed=5.5, tier=TIER, reason=None)
    assert within.status is GateStatus.FAIL
    (asked,) = judge_epsilon(lower_bound=1.0, claimed=None, tier=TIER, reason=None)
    assert asked.status is GateStatus.NOT_APPLICABLE
    assert asked.reason == "no claim was given, so none was tested"
    *_, unknown = judge_epsilon(lower_bound=None, claimed=1.0, tier=TIER, reason="few")
    assert unknown.status is GateStatus.INCONCLUSIVE


@pytest.mark.parametrize(
    ("gates", "problems", "verdict"),
    [
        (["fail", "inconclusive", "pass"], ["the commitment does not open"], Verdict.INVALID),
        (["fail", "inconclusive", "pass"], [], Verdict.FAIL),
        (["inconclusive", "pass"], [], Verdict.INCONCLUSIVE),
        (["pass", "not_applicable"], [], Verdict.PASS_EMPIRICAL),
    ],
)
def test_verdicts_come_in_the_agreed_order(gates, problems, verdict):
    found, sentence = decide([gate(GateStatus(status)) for status in gates], problems)
    assert found is verdict
    assert all(problem in sentence for problem in problems)


def test_gates_that_say_nothing_leave_a_candidate_undecided_and_the_sentence_says_so():
    silent = [gate(GateStatus.NOT_APPLICABLE), gate(GateStatus.NOTHING_SEEN)]
    verdict, sentence = decide(silent, [])
    assert verdict is Verdict.INCONCLUSIVE
    assert sentence == "Left undecided: no question was asked whose answer could be a pass."


def test_a_broken_self_test_makes_everything_invalid():
    broken = judge_self_test([specimen(True), specimen(False)], None)
    verdict, sentence = decide([gate(GateStatus.PASS), broken], [])
    assert verdict is Verdict.INVALID
    assert "a specimen" in sentence


def test_a_missed_leak_that_is_too_small_for_the_data_is_undecided_and_not_void():
    missed = specimen(False).model_copy(update={"name": "copies_jittered", "copied_count": 6})
    limits = [DetectionLimit(leak="jittered", fraction=None, reason="not reached")]
    few = excused(missed, limits, sharp=False, share=0.03)
    many = missed.model_copy(update={"copied_count": 60})
    unseen = excused(many, limits, sharp=True, share=0.03)
    for result in (few, unseen):
        verdict, sentence = decide([gate(GateStatus.PASS), judge_self_test([result], None)], [])
        assert verdict is Verdict.INCONCLUSIVE
        assert passed_self_test([specimen(True), result]) is None
        assert "The audit can tell" in sentence


def test_nothing_excuses_a_miss_within_the_limit_the_whole_set_or_an_accused_innocent():
    reached = [DetectionLimit(leak="jittered", fraction=0.01)]
    absent = [DetectionLimit(leak="jittered", fraction=None, reason="not reached")]
    missed = specimen(False).model_copy(update={"name": "copies_jittered", "copied_count": 60})
    everything = specimen(False).model_copy(update={"name": "everything", "copied_count": 6})
    innocent_one = specimen(False).model_copy(update={"name": "fresh_real", "kind": "innocent"})
    for result, limits in ((missed, reached), (everything, absent), (innocent_one, absent)):
        judged_ = excused(result, limits, sharp=limits is reached, share=0.03)
        assert judged_.judged_wrongly
        assert decide([judge_self_test([judged_], None)], [])[0] is Verdict.INVALID
        assert passed_self_test([judged_]) is False


def test_a_self_test_that_could_not_run_is_inconclusive():
    absent = judge_self_test([], "too few held out")
    assert decide([gate(GateStatus.PASS), absent], [])[0] is Verdict.INCONCLUSIVE


def test_asking_again_costs_confidence():
    errors = [POLICY.bound_error(attempt) for attempt in (1, 2, 3)]
    assert errors == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert 0.0499 < sum(POLICY.bound_error(k) for k in range(1, 2000)) < 0.05
    with pytest.raises(InvalidParameter, match="Attempt 0"):
        POLICY.bound_error(0)


def test_an_unknown_tier_is_refused_with_the_known_ones():
    with pytest.raises(InvalidParameter, match="public, registered, enclave"):
        POLICY.tier("friends")


def test_the_digest_is_that_of_the_file_and_a_changed_file_is_another_policy(tmp_path):
    changed = tmp_path / "policy.toml"
    text = (load_policy.__globals__["_DEFAULT"]).read_text()
    changed.write_text(text.replace("auc = 0.60", "auc = 0.61"))
    assert load_policy(changed).digest != POLICY.digest
    assert load_policy(changed).tier("registered").auc == 0.61


@pytest.mark.parametrize(
    "damage",
    [
        ("auc = 0.60", "auk = 0.60"),
        ('version = "2026.5"', ""),
        ("upper_bound = 0.05", "upper_bound = 2"),
    ],
)
def test_a_policy_with_missing_unknown_or_absurd_entries_is_refused(tmp_path, damage):
    path = tmp_path / "policy.toml"
    path.write_text((load_policy.__globals__["_DEFAULT"]).read_text().replace(*damage))
    with pytest.raises(InvalidParameter, match="was refused"):
        load_policy(path)


def test_an_undecided_gate_says_on_how_many_the_same_value_would_pass():
    """Half as wide an interval needs four times as many."""
    area = Metric(name="auc", value=0.5, ci_low=0.3, ci_high=0.7, n=100)
    finding = Finding(audit="sample_membership", metrics=(area,))
    tier = POLICY.tier("registered")  # its tolerance is 0.60
    gate = judge_membership(finding, policy=POLICY, tier=tier, ceiling={})[0]
    assert gate.status is GateStatus.INCONCLUSIVE
    assert "measured on 100, and the same value on about 400 would pass" in gate.reason
    above = finding.model_copy(update={"metrics": (area.model_copy(update={"value": 0.65}),)})
    gate = judge_membership(above, policy=POLICY, tier=tier, ceiling={})[0]
    assert "the value itself is not below it" in gate.reason
