"""Audits of tables: gains are differences with bounds, counts tell copied rows, codes follow the rows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.evidence import Finding
from privacy.gains import gain_metrics, judge_gains, tolerated_gain
from privacy.membership import pool_of
from privacy.neighbourhoods import population_of
from privacy.policy import load_policy
from privacy.report import GateStatus
from privacy.statistics import auc
from privacy.table_codes import coder_of, nearest_points
from privacy.table_marginals import ATTACKS, marginal_scores
from tests.privacy.audit_material import innocent_table, trained_rows, with_samples

TIER = load_policy().tier("registered")


def judged(members, others, *, name="linkability"):
    coins = np.repeat([1, 0], [len(members), len(others)])
    hits = {name: np.concatenate([members, others]).astype(bool)}
    metrics = gain_metrics(hits, coins, error=0.05, reason=None, expected=())
    return judge_gains(Finding(audit="disclosure", metrics=metrics), tier=TIER)[0]


@pytest.mark.parametrize(
    ("rate", "status"),
    [(0.1, GateStatus.PASS), (0.22, GateStatus.INCONCLUSIVE), (0.5, GateStatus.FAIL)],
)
def test_a_gain_is_judged_by_its_bounds(rate, status):
    members = np.arange(400) < 400 * rate
    assert judged(members, np.arange(400) < 40).status is status


@pytest.mark.parametrize(
    ("rate", "status"), [(0.5, GateStatus.NOTHING_SEEN), (0.9, GateStatus.FAIL)]
)
def test_inference_may_accuse_and_never_clears(rate, status):
    members = np.arange(400) < 400 * rate
    assert judged(members, np.arange(400) < 200, name="inference").status is status


def test_the_tolerated_gain_is_that_of_the_curve_with_the_auc_of_the_tier():
    mu = 2 * stats.norm.ppf((1 + tolerated_gain(TIER)) / 2)
    assert stats.norm.cdf(mu / np.sqrt(2)) == pytest.approx(TIER.auc)


def test_rows_that_are_copied_agree_with_more_synthetic_rows_than_others_do():
    rng = np.random.default_rng(1)
    evidence = innocent_table(rng, persons=600, samples=400)
    rows = trained_rows(evidence)
    leaky = with_samples(evidence, evidence.records[rows][:400])
    population = population_of(leaky)
    pool = pool_of(population)
    scores = marginal_scores(leaky, population, pool, rng=rng)
    assert set(scores) == set(ATTACKS)
    assert auc(scores["density"], pool.coins) > 0.7


def test_copies_among_many_synthetic_rows_are_all_counted():
    rng = np.random.default_rng(3)
    evidence = innocent_table(rng, persons=600, samples=1)
    evidence = replace(evidence, records=rng.normal(size=(600, 12)))
    fresh = rng.normal(size=(25_000, 12))
    leaky = replace(
        evidence, samples=np.concatenate([evidence.records[trained_rows(evidence)], fresh])
    )
    population = population_of(leaky)
    pool = pool_of(population)
    scores = marginal_scores(leaky, population, pool, rng=rng, sets=20)
    assert auc(scores["density"], pool.coins) > 0.95


def test_a_coder_keeps_few_values_and_bins_many():
    rows = np.stack([np.arange(100) % 3, np.arange(100)], axis=1)
    coder = coder_of(rows, most=10)
    assert coder.sizes == (3, 10)
    assert coder.indicators(coder.codes(rows)).sum(axis=0).tolist() == [34, 33, 33] + [10] * 10


def test_the_nearest_points_are_those_that_a_search_of_all_finds():
    rng = np.random.default_rng(2)
    targets, points = rng.normal(size=(20, 3)), rng.normal(size=(50, 3))
    gaps = np.linalg.norm(targets[:, None] - points, axis=2)
    found = nearest_points(targets, points, count=4)
    assert np.array_equal(np.sort(found), np.sort(np.argsort(gaps, axis=1)[:, :4]))
