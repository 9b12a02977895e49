"""Large tables: a draw of the units is looked at, blind to coins, and every array follows it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from privacy import battery
from privacy.audits import run_battery
from privacy.evidence import Arm, Finding
from privacy.looked_at import MOST_RECORDS, MOST_UNITS, WHOLE_UNITS, in_all, looked_at
from privacy.policy import load_policy
from privacy.report import Verdict
from privacy.statements import not_tested
from tests.privacy.audit_material import draw_arms, innocent_table, quick, trained_rows

IN_POOL = (Arm.AUDIT_IN, Arm.AUDIT_OUT)


def marked(persons=2000, each=2):
    """Return evidence whose records, labels, folds and scores all tell their person."""
    evidence = innocent_table(np.random.default_rng(3), persons=persons, samples=10)
    owner = np.random.default_rng(4).permutation(np.repeat(np.arange(persons), each))
    return replace(
        evidence,
        records=np.tile(owner[:, None].astype(float), (1, 8)),
        labels=owner,
        persons=owner,
        folds=np.arange(persons) % 2 + 1,
        arms=draw_arms(persons, np.random.default_rng(5)),
        excluded=np.arange(persons) % 7 == 0,
        record_scores={"score": owner / 2},
    )


def drawn(evidence, **limits):
    return looked_at(evidence, rng=np.random.default_rng(6), whole_units=1900, **limits)


def test_everybody_is_looked_at_below_the_limits_and_nothing_is_drawn():
    evidence, rng = marked(), np.random.default_rng(7)
    assert looked_at(evidence, rng=rng) is evidence
    assert rng.random() == np.random.default_rng(7).random()
    assert MOST_RECORDS >= WHOLE_UNITS >= MOST_UNITS >= 20_000


def test_every_array_follows_the_units_that_were_drawn():
    evidence = marked()
    found = drawn(evidence, most_units=1200)
    assert len(found.arms) == len(np.unique(found.persons)) == 1200
    names = np.zeros(1200, dtype=int)
    names[found.persons] = found.labels
    assert np.array_equal(names[found.persons], found.labels)
    assert np.array_equal(found.records[:, 0], found.labels)
    assert np.array_equal(found.record_scores["score"], found.labels / 2)
    for name in ("arms", "folds", "excluded"):
        assert np.array_equal(getattr(found, name), getattr(evidence, name)[names]), name
    assert (np.bincount(found.persons) == 2).all()


def test_the_whole_audit_pool_is_looked_at_and_no_arm_is_left_out():
    evidence = marked()
    found = drawn(evidence, most_units=1700)
    assert np.isin(found.arms, IN_POOL).sum() == np.isin(evidence.arms, IN_POOL).sum()
    assert set(found.arms) == set(Arm)


def test_who_is_drawn_does_not_depend_on_coins():
    evidence = marked()
    other = np.random.default_rng(8).permutation(evidence.arms[np.isin(evidence.arms, IN_POOL)])
    arms = evidence.arms.copy()
    arms[np.isin(arms, IN_POOL)] = other
    again = drawn(replace(evidence, arms=arms), most_units=500)
    assert np.array_equal(again.labels, drawn(evidence, most_units=500).labels)


def test_persons_with_many_rows_are_fewer():
    found = drawn(marked(persons=500, each=8), most_records=800)
    assert len(found.arms) == 100
    assert len(found.records) == 800


def test_where_nobody_else_was_trained_on_the_pool_fills_the_draw():
    evidence = marked()
    found = drawn(replace(evidence, arms=np.full(2000, Arm.AUDIT_OUT)), most_units=900)
    assert len(found.arms) == 900


def test_a_report_says_how_many_were_not_drawn():
    evidence = marked()
    told = [not_tested(evidence, (), looked_at=count) for count in (2000, 1200)]
    assert len(told[1]) == len(told[0]) + 1
    assert any("800 of 2,000" in line for line in told[1])


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [False, True])
def test_a_draw_of_a_table_is_audited_as_a_small_table_is(monkeypatch, leaks):
    monkeypatch.setattr(battery, "looked_at", partial(looked_at, whole_units=2000, most_units=1200))
    rng = np.random.default_rng(9)
    evidence = innocent_table(rng, persons=4000, samples=800)
    if leaks:
        chosen = rng.choice(trained_rows(evidence), 800, replace=False)
        evidence = replace(evidence, samples=evidence.records[chosen])
    report = run_battery(
        evidence, policy=quick(load_policy()), tier="registered", attempt=1, rng=rng
    )
    assert report.self_test_passed is not False  # so few units miss small leaks, and say so
    assert (report.verdict is Verdict.FAIL) == leaks
    assert report.units["total"] == report.records["total"] == 4000
    assert any("2,800 of 4,000" in line for line in report.not_tested)


def test_a_pair_among_drawn_units_is_told_by_its_place_among_all():
    evidence = marked()
    found = drawn(evidence, most_units=1200)
    pair = {"sample": 3, "train_record": 17, "held_out_record": 1500, "ratio": 0.5}
    told = in_all(
        Finding(audit="x", metrics=(), details={"copied_units": [7], "pairs": [pair]}), found
    )
    [shown] = told.details["pairs"]
    assert shown["sample"] == 3
    for name in ("train_record", "held_out_record"):
        assert evidence.labels[shown[name]] == found.labels[pair[name]]
    [unit] = told.details["copied_units"]
    assert evidence.arms[unit] == found.arms[7]
    assert unit in evidence.labels[evidence.persons == unit]
    whole = Finding(audit="x", metrics=(), details={"pairs": [pair]})
    assert in_all(whole, evidence) is whole
