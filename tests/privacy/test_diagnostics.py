"""Gates that may accuse and never clear, and what runs at which depth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from privacy.audits import available, load
from privacy.battery import attacks, wanted
from privacy.claims import believable, epsilon_of
from privacy.criteria import criteria
from privacy.diagnostics import judge_diagnostic, judge_groups
from privacy.evidence import Finding, Goal, Knowledge, Metric, SplitOrigin, ThreatModel
from privacy.mechanisms import UnitOfPrivacy
from privacy.policy import Depth, load_policy
from privacy.report import Attack, Gate, GateStatus, Verdict
from privacy.statements import disclaimers, not_tested
from privacy.verdicts import decide, verdict_of
from tests.privacy.audit_material import innocent

POLICY = load_policy()
AUDITS = {name: load(name) for name in available()}


@pytest.fixture(scope="module")
def evidence():
    return innocent(np.random.default_rng(1), persons=60, samples=50)


def with_audits(**changes):
    return POLICY.model_copy(update={"audits": POLICY.audits.model_copy(update=changes)})


def diagnosed(p_value, *names):
    finding = Finding(audit="d", metrics=(Metric(name="p_value", value=p_value, reason="few"),))
    policy = with_audits(diagnostics=names or ("d",))
    (gate,) = judge_diagnostic(finding, policy=policy, tier=policy.tier("registered"))
    return gate


def invented(needs):
    model = ThreatModel(Goal.MEMBERSHIP, Knowledge.GRADIENTS, reference=False, description="Who?")
    return SimpleNamespace(NEEDS=needs, THREAT_MODEL=model)


def test_a_diagnostic_accuses_and_never_clears():
    assert diagnosed(0.005).status is GateStatus.FAIL
    assert diagnosed(0.5).status is GateStatus.NOTHING_SEEN
    assert diagnosed(None).status is GateStatus.NOT_APPLICABLE
    assert verdict_of([diagnosed(0.5)]) is Verdict.INCONCLUSIVE
    assert decide([diagnosed(0.5), diagnosed(0.001)], [])[0] is Verdict.FAIL


def test_a_diagnostic_of_membership_fails_where_a_gate_would_and_clears_nobody():
    def judged(low, high):
        metric = Metric(name="auc", value=(low + high) / 2, ci_low=low, ci_high=high)
        finding = Finding(audit="d", metrics=(metric,))
        return judge_diagnostic(finding, policy=POLICY, tier=POLICY.tier("registered"))

    area, recognised = judged(0.61, 0.7)
    assert (area.status, recognised.status) == (GateStatus.FAIL, GateStatus.NOT_APPLICABLE)
    assert judged(0.45, 0.55)[0].status is GateStatus.NOTHING_SEEN


def test_diagnostics_share_their_level():
    assert diagnosed(0.006, "d").status is GateStatus.FAIL
    assert diagnosed(0.006, "d", "e").status is GateStatus.NOTHING_SEEN


def test_a_group_fails_by_its_lower_bound_alone_and_never_passes():
    def judged(low):
        metric = Metric(name="auc_unusual", value=0.7, ci_low=low, ci_high=0.9)
        (gate,) = judge_groups(
            Finding(audit="a", metrics=(metric,)), tier=POLICY.tier("registered")
        )
        return gate

    assert judged(0.61).status is GateStatus.FAIL
    assert judged(0.3).status is GateStatus.NOTHING_SEEN
    assert "unusual tenth" in judged(0.3).title
    absent = Finding(audit="a", metrics=(Metric(name="auc_label_3", value=None, reason="too few"),))
    (gate,) = judge_groups(absent, tier=POLICY.tier("registered"))
    assert (gate.status, gate.reason) == (GateStatus.NOT_APPLICABLE, "too few")


def test_what_takes_long_runs_in_a_full_battery_only(evidence):
    policy = with_audits(full=("sample_membership",))
    assert "sample_membership" not in wanted(AUDITS, evidence, policy, depth=Depth.QUICK)
    assert "sample_membership" in wanted(AUDITS, evidence, policy, depth=Depth.FULL)
    assert policy.at(Depth.QUICK).grid.self_test_repeats == 5
    assert policy.at(Depth.FULL).grid.self_test_repeats == 20


def test_an_audit_runs_where_its_evidence_is_given_though_no_policy_names_it(evidence):
    audits = {**AUDITS, "new": invented(("samples",)), "other": invented(("record_scores",))}
    running = wanted(audits, evidence, POLICY, depth=Depth.QUICK)
    assert "new" in running
    assert "other" not in running
    assert running[0] == "near_copies"
    listed = {
        attack.audit: attack
        for attack in attacks(audits, evidence, POLICY, ran={}, depth=Depth.QUICK)
    }
    assert listed["new"].role == "reported"
    assert "record scores, which nobody handed over" in listed["other"].reason
    assert any(
        "record scores" in line
        for line in not_tested(evidence, tuple(listed.values()), looked_at=60)
    )


def test_a_split_without_coins_gets_no_epsilon_bound_and_says_what_that_means(evidence):
    metrics = (
        Metric(name="auc", value=0.5),
        Metric(name="epsilon_lower_bound", value=2.0),
        Metric(name="epsilon_max_certifiable", value=3.0),
    )
    finding = Finding(audit="a", metrics=metrics)
    assert believable(finding, evidence) is finding
    for origin in (SplitOrigin.RANDOM, SplitOrigin.UNKNOWN):
        foreign = replace(evidence, split=origin)
        found = believable(finding, foreign)
        assert found.metric("auc").value == 0.5
        assert epsilon_of({"a": found})[0] is None
        assert "coin" in epsilon_of({"a": found})[2]
        assert "drawn" in disclaimers(foreign, attempt=1, seed=None)[0]
    assert "drawn" not in disclaimers(evidence, attempt=1, seed=None)[0]


def attack(audit, goal, *, ran=True):
    return Attack(
        audit=audit, goal=goal, knowledge="samples", description="", ran=ran, role="gates"
    )


def gate(audit, status):
    return Gate(
        name=audit, audit=audit, title=f"title of {audit}", status=status, value=1, bound=1,
        tolerance=1, reason="",
    )  # fmt: skip


def answers(*gates):
    both = (attack("near_copies", "memorization"), attack("sample_membership", "membership"))
    found = criteria(both, gates, unit=UnitOfPrivacy.PERSON)
    return {criterion.name: criterion.answer for criterion in found}


def test_each_of_the_three_criteria_is_answered_by_the_attacks_that_bear_on_it():
    good = gate("near_copies", GateStatus.PASS), gate("sample_membership", GateStatus.PROVEN)
    assert set(answers(*good).values()) == {"below tolerance"}
    copied = answers(gate("near_copies", GateStatus.FAIL), good[1])
    assert copied == {
        "singling out": "violated",
        "linkability": "violated",
        "inference": "below tolerance",
    }
    doubted = answers(good[0], gate("sample_membership", GateStatus.INCONCLUSIVE))
    assert doubted["singling out"] == "below tolerance"
    assert doubted["inference"] == "not shown"


def test_a_criterion_without_any_judged_attack_is_not_shown():
    assert set(answers().values()) == {"not shown"}
    silent = gate("near_copies", GateStatus.NOTHING_SEEN)
    assert answers(silent)["singling out"] == "not shown"
