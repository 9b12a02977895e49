"""Leaks in either direction are seen, and an attack without numbers never vanishes."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from privacy.epsilon_findings import epsilon_finding
from privacy.evidence import Finding
from privacy.families import NOT_COMPUTED, family_of
from privacy.groups import UNUSUAL_PER_ARM, with_groups
from privacy.membership import Pool, Settings, measure, pool_of
from privacy.neighbourhoods import population_of
from privacy.policy import judge_membership, load_policy
from privacy.report import GateStatus
from tests.privacy.audit_material import innocent

POLICY = load_policy()
SETTINGS = Settings(0.025, 0.02, 1e-5, POLICY.grid.fpr, POLICY.grid.guesses, permutations=400)
ARM = 500


def pool(rng):
    coins = np.repeat([1, 0], ARM)
    return Pool(
        persons=np.arange(2 * ARM),
        coins=coins,
        folds=rng.integers(1, 3, 2 * ARM),
        strata=np.zeros(2 * ARM, dtype=int),
        tossed=np.ones(2 * ARM, dtype=bool),
    )


def gates(scores, of, rng, *, tier="public", ceiling=None):
    finding = measure("sample_membership", scores, of, settings=SETTINGS, rng=rng)
    rules = {"policy": POLICY, "tier": POLICY.tier(tier), "ceiling": ceiling or {}}
    return finding, judge_membership(finding, **rules)


def statuses(of_gates):
    return [gate.status for gate in of_gates]


def test_a_filter_that_keeps_samples_away_from_members_fails():
    """A "privacy filter" drops every sample near a trained-on record: members then lie farther off."""
    rng = np.random.default_rng(0)
    known = pool(rng)
    persons = rng.normal(size=(2 * ARM, 4))
    samples = rng.normal(size=(20_000, 4))
    too_near = cKDTree(persons[known.coins == 1]).query(samples)[0] < 0.5
    nearest = -cKDTree(samples[~too_near]).query(persons)[0]
    finding, judged = gates({"nearest": nearest}, known, rng)
    assert finding.metric("auc").ci_low > 0.8
    assert finding.metric("leak_p_value").value < 0.01
    assert finding.metric("epsilon_lower_bound").value > 1
    assert statuses(judged) == [GateStatus.FAIL, GateStatus.FAIL]


def test_multiplicity_counts_both_directions():
    rng = np.random.default_rng(1)
    attacks = family_of({"a": rng.normal(size=400), "b": rng.normal(size=400)}).attacks
    assert set(attacks) == {"a", "b", "not_a", "not_b"}
    coins = rng.integers(0, 2, 400)
    rules = {"delta": 1e-5, "grid": (100,), "error": 0.02, "claim": (), "rng": rng}
    one = epsilon_finding({"a": attacks["a"]}, coins, **rules)
    all_four = epsilon_finding(attacks, coins, **rules)
    certifiable = "epsilon_max_certifiable"
    assert all_four.metric(certifiable).value < one.metric(certifiable).value
    needed = "epsilon_detectable_accuracy"
    assert all_four.details[needed]["100"] > one.details[needed]["100"]


@pytest.mark.slow
def test_p_values_over_both_directions_are_no_smaller_than_they_say():
    """False alarm: the count of p ≤ 0.05 in 200 draws is binomial; its 0.999 quantile is the limit."""
    rng = np.random.default_rng(2)
    known = pool(rng)
    few = 0
    for _ in range(200):
        scores = {name: rng.normal(size=2 * ARM) for name in "ab"}
        finding, _ = gates(scores, known, rng)
        few += finding.metric("leak_p_value").value <= 0.05
    assert few <= 21


def leaking_score(of, rng):
    return of.coins + 0.01 * rng.normal(size=len(of.coins))


def test_one_person_without_a_score_does_not_clear_an_attack():
    rng = np.random.default_rng(3)
    known = pool(rng)
    leak = leaking_score(known, rng)
    leak[7] = np.nan
    finding, judged = gates({"loss": leak, "other": rng.normal(size=2 * ARM)}, known, rng)
    assert finding.details["attacks_without_scores"] == []
    assert statuses(judged) == [GateStatus.FAIL, GateStatus.FAIL]


def test_scores_that_are_missing_for_members_alone_are_an_attack():
    rng = np.random.default_rng(4)
    known = pool(rng)
    values = rng.normal(size=2 * ARM)
    values[np.flatnonzero(known.coins)[:10]] = np.nan
    noise, _ = gates({"loss": np.nan_to_num(values)}, known, rng)
    told, _ = gates({"loss": values}, known, rng)
    assert "missing_loss" in told.details["attacks"]
    assert told.metric("leak_p_value").value < 0.05 < noise.metric("leak_p_value").value


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_an_attack_that_scores_too_few_is_named_and_nothing_passes(share):
    rng = np.random.default_rng(5)
    known = pool(rng)
    values = rng.normal(size=2 * ARM)
    values[: int(share * len(values))] = np.nan
    scores = {"loss": values, "other": rng.normal(size=2 * ARM)}
    finding, judged = gates(scores, known, rng, tier="enclave")
    assert finding.metric(NOT_COMPUTED).value == 1
    assert "loss: no score for" in finding.metric(NOT_COMPUTED).reason
    assert statuses(judged) == [GateStatus.INCONCLUSIVE] * 2
    assert all("loss" in gate.reason for gate in judged)


def test_an_attack_with_one_score_for_everybody_is_named_and_nothing_passes():
    rng = np.random.default_rng(6)
    known = pool(rng)
    noise = rng.normal(size=2 * ARM)
    _, alone = gates({"other": noise}, known, rng, tier="enclave")
    assert statuses(alone) == [GateStatus.PASS] * 2
    finding, judged = gates({"dead": np.ones(2 * ARM), "other": noise}, known, rng, tier="enclave")
    assert finding.details["attacks_without_scores"] == ["dead"]
    assert statuses(judged) == [GateStatus.INCONCLUSIVE] * 2
    _, proven = gates({"dead": np.ones(2 * ARM), "other": noise}, known, rng, ceiling={"auc": 0.5})
    assert proven[0].status is GateStatus.INCONCLUSIVE


def test_an_attack_without_numbers_does_not_hide_one_that_fires():
    rng = np.random.default_rng(7)
    known = pool(rng)
    scores = {"dead": np.ones(2 * ARM), "loss": leaking_score(known, rng)}
    assert statuses(gates(scores, known, rng)[1]) == [GateStatus.FAIL] * 2


@pytest.mark.parametrize(("share", "measured"), [(0.05, False), (0.5, True)])
def test_the_most_unusual_are_measured_only_where_they_are_enough(share, measured):
    rng = np.random.default_rng(8)
    evidence = innocent(rng, persons=900, samples=10)
    population = population_of(evidence)
    of = pool_of(population)
    found = with_groups(
        Finding(audit="a", metrics=()),
        {"loss": leaking_score(of, rng)},
        of,
        population=population,
        settings=SETTINGS,
        rng=rng,
        unusual=rng.random(len(of.persons)) < share,
    )
    metric = found.metric("auc_unusual")
    assert (metric.value is not None) == measured
    if not measured:
        assert f"{UNUSUAL_PER_ARM} of each are needed" in metric.reason
