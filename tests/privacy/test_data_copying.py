"""The data-copying diagnostic sees crowding that no single sample shows, and only that."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.audits import data_copying
from privacy.audits.data_copying import Config, _lists, _rank_z
from privacy.audits.data_copying import _nearby as looked_at
from privacy.evidence import Arm
from privacy.neighbourhoods import population_of, survey
from privacy.policy import load_policy
from tests.privacy.audit_material import (
    draw_arms,
    innocent,
    innocent_table,
    pictures,
    trained_rows,
)

QUICK = Config(shuffles=200, most=500)


def measured(evidence, rng, config=QUICK):
    population = population_of(evidence)
    seen = survey(evidence, keep=np.empty(0, int), population=population, progress=lambda *_: None)
    finding = data_copying.run(evidence, seen, settings=None, detector=None, rng=rng, config=config)
    return finding, seen


def smeared(evidence, rng, *, strength):
    """Return evidence of a generator that mixes training records with fresh pictures."""
    rows = rng.choice(trained_rows(evidence), len(evidence.samples))
    fresh = pictures(len(rows), rng).astype(float)
    mixed = strength * evidence.records[rows] + (1 - strength) * fresh
    return replace(evidence, samples=np.rint(mixed).astype(np.uint8))


def test_a_generator_that_smears_its_training_set_is_accused():
    rng = np.random.default_rng(1)
    finding, _ = measured(smeared(innocent(rng, persons=500, samples=600), rng, strength=0.7), rng)
    assert finding.metric("p_value").value < 0.01
    assert finding.metric("c_t").value < finding.metric("c_t").baseline


def test_a_release_of_everybody_is_seen_though_few_units_and_few_samples_are_looked_at():
    rng = np.random.default_rng(8)
    evidence = innocent_table(rng, persons=4000, samples=50)
    population = population_of(evidence)
    seen = survey(
        evidence,
        keep=np.empty(0, int),
        population=population,
        progress=lambda *_: None,
        most_spaces=1,
    )
    everybody = replace(evidence, samples=evidence.records[trained_rows(evidence)])
    config = Config(shuffles=200, most=100)
    finding = data_copying.run(
        everybody, seen, settings=None, detector=None, rng=rng, config=config
    )
    assert finding.metric("c_t").n == 100
    assert finding.metric("p_value").value < 0.01


def test_the_samples_looked_at_are_those_nearest_to_the_records():
    rng = np.random.default_rng(9)
    queries, points = rng.normal(size=(30, 3)), rng.normal(size=(8, 3))
    gaps = np.linalg.norm(queries[:, None] - points, axis=2)
    usual = rng.uniform(1, 2, 8)
    closest = gaps[:, np.argmin(gaps.min(axis=0) / usual)].argmin()
    assert np.isin(gaps.argmin(axis=0), looked_at(queries, points, usual, rng, most=20)).all()
    assert looked_at(queries, points, usual, rng, most=1).tolist() == [closest]
    assert len(looked_at(queries, points, usual, rng, most=20)) == 20
    assert looked_at(queries, points, usual, rng, most=30).tolist() == list(range(30))


def test_a_generator_stuck_on_one_picture_is_near_everybody_and_not_accused():
    rng = np.random.default_rng(2)
    evidence = innocent(rng, persons=500, samples=600)
    mean = np.rint(pictures(300, rng).mean(axis=0)).astype(np.uint8)
    stuck = replace(evidence, samples=np.tile(mean, (600, 1, 1)))
    finding, _ = measured(stuck, rng)
    assert finding.metric("p_value").value > 0.01


def test_scarce_held_out_units_are_all_looked_at():
    rng = np.random.default_rng(7)
    evidence = innocent(rng, persons=600, samples=100)
    arms = np.full(600, int(Arm.TRAIN))
    arms[rng.choice(600, 30, replace=False)] = int(Arm.AUDIT_OUT)
    population = replace(population_of(evidence), arms=arms)
    judged = data_copying._judged(population, rng, most=200)
    assert len(judged) == 200
    assert np.isin(np.flatnonzero(population.held_out), judged).all()


@pytest.mark.slow
@pytest.mark.parametrize("most", [500, 100])
def test_shuffled_arms_give_uniform_p_values(most):
    rng = np.random.default_rng(3)
    evidence = innocent(rng, persons=500, samples=300)
    _, seen = measured(evidence, rng)
    p_values = []
    for _ in range(80):
        arms = draw_arms(500, rng).astype(np.int64)
        other = replace(seen, population=replace(seen.population, arms=arms))
        finding = data_copying.run(
            evidence,
            other,
            settings=None,
            detector=None,
            rng=rng,
            config=Config(shuffles=200, most=most),
        )
        p_values.append(finding.metric("p_value").value)
    assert np.mean(np.array(p_values) <= 0.05) <= stats.binom.ppf(0.999, 80, 0.05) / 80
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_too_few_units_are_said_and_not_measured():
    rng = np.random.default_rng(4)
    finding, _ = measured(innocent(rng, persons=30, samples=50), rng)
    assert finding.metric("p_value").value is None
    assert "20 held-out units" in finding.metric("p_value").reason


def test_the_rank_score_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=80), rng.normal(0.3, size=50)
    slow = stats.mannwhitneyu(one, other, method="asymptotic", use_continuity=False)
    z = _rank_z(one, other)
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(slow.pvalue, rel=1e-6)
    assert z < 0


def test_lists_hold_the_nearest_units_whatever_the_block():
    rng = np.random.default_rng(6)
    points, owners = rng.normal(size=(40, 3)), rng.permutation(np.arange(40) // 2)
    queries = rng.normal(size=(7, 3))
    lists = _lists(queries, points, owners, count=20)
    gaps = np.linalg.norm(queries[:, None] - points, axis=2)
    slow = np.stack([gaps[:, owners == u].min(axis=1) for u in range(20)], axis=1)
    assert lists.far == pytest.approx(np.sort(slow, axis=1)[:, :19], abs=1e-6)
    group = rng.random(20) < 0.5
    assert lists.nearest_in(group)[0] == pytest.approx(slow[:, group].min(axis=1), abs=1e-6)


def test_one_statistic_alone_can_reach_the_level_of_the_policy():
    policy = load_policy()
    level = policy.errors.diagnostics / len(policy.audits.diagnostics)
    assert 3 / (data_copying.Config().shuffles + 1) < level
