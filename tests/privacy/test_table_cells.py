"""Cells of a table: agreeing in rare ones says more, a copy stands out of a crowd, pairs count once."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.changes import jitter
from privacy.natural_nearness import NearestPairs, nearest_pairs
from privacy.table_cells import cell_costs, crowding
from tests.privacy.audit_material import draw_arms, innocent_table, trained_rows, with_samples
from tests.privacy.test_copies import inspected


def crowded(rng, *, persons=1500, samples=1500):
    """Return innocent evidence of rows that lie near each other: few columns, half of them coarse."""
    scores = rng.normal(size=(persons + samples, 3)) @ rng.normal(size=(3, 7))
    scores += rng.normal(size=scores.shape)
    coarse = np.round(scores[:, :3])
    skewed = np.exp(0.5 * scores[:, 3:5])
    rows = np.hstack([coarse, skewed, scores[:, 5:]])
    return replace(
        innocent_table(rng, persons=4, samples=4),
        records=rows[:persons],
        labels=np.zeros(persons, dtype=int),
        persons=np.arange(persons),
        arms=draw_arms(persons, rng),
        folds=rng.integers(1, 3, persons),
        excluded=np.zeros(persons, dtype=bool),
        samples=rows[persons:],
        sample_labels=np.zeros(samples, dtype=int),
    )


def test_a_cell_costs_nothing_to_itself_and_a_rare_one_more_than_a_common_one_elsewhere():
    column = np.repeat([0.0, 1.0, 2.0], [900, 90, 10])[:, None]
    costs = cell_costs(column)
    values = costs.codes(np.array([[0.0], [1.0], [2.0]]))
    found = costs.between(values, values)
    assert np.diagonal(found).tolist() == [0.0, 0.0, 0.0]
    assert 0 < found[0, 1] < found[1, 0] < found[2, 0]


def test_many_values_are_told_apart_as_finely_as_noise_leaves_them():
    rng = np.random.default_rng(1)
    column = rng.normal(size=(5000, 1))
    costs = cell_costs(column)
    assert len(costs.values[0]) <= 512
    near = costs.between(costs.codes(np.zeros((1, 1))), costs.codes(np.array([[0.02], [0.3]])))
    assert near[0, 0] < 1.0
    assert near[0, 1] > 4.0


def test_a_noised_copy_is_told_from_a_fresh_row_by_how_crowded_it_is():
    rng = np.random.default_rng(2)
    evidence = crowded(rng)
    costs = cell_costs(evidence.records)
    codes = costs.codes(evidence.records)

    def crowdings(rows):
        found = costs.between(costs.codes(rows), codes)
        nearest = found.argmin(axis=1)
        lowest = found[np.arange(len(rows)), nearest].copy()
        found[np.arange(len(rows)), nearest] = np.inf
        return crowding(lowest, found)

    fresh = crowdings(evidence.samples)
    copied = crowdings(jitter(evidence.records[:300], "table", rng))
    assert np.median(copied) < np.quantile(fresh, 0.02)


def test_a_pair_of_persons_counts_once_however_many_rows_see_it():
    ratios = np.linspace(0.5, 1.0, 400)
    ratios[:6] = [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    pairs = np.arange(400)
    pairs[:6] = [7, 7, 8, 8, 9, 9]
    second, third = nearest_pairs(ratios, pairs, ranks=(2, 3))
    assert (second.threshold, second.pairs) == (0.2, 1)
    assert (third.threshold, third.pairs) == (0.3, 2)
    assert second.looks == third.looks == 200
    assert nearest_pairs(ratios[:100], pairs[:100], ranks=(2,)) == ()


@pytest.mark.parametrize(("level", "most"), [(0.05, 0.062), (0.01, 0.016)])
def test_fresh_records_are_found_nearer_than_pairs_no_more_often_than_it_says(level, most):
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(2000):
        looks = rng.random(600)
        threshold = np.sort(looks)[1]
        met = rng.random(800) < threshold
        share = rng.random(800) < 0.8
        pair = NearestPairs(float(threshold), 1, 600.0)
        inside, outside = int((met & share).sum()), int((met & ~share).sum())
        alarms += pair.chance_of(inside, outside, samples=800, share=0.8) < level
    assert alarms / 2000 < most


def test_jittered_rows_are_found_where_real_rows_lie_as_near_and_those_of_others_accuse_nobody():
    rng = np.random.default_rng(4)
    evidence = crowded(rng)
    assert inspected(evidence, rng)[0].p_value > 0.01
    copied = jitter(evidence.records[trained_rows(evidence)[:40]], "table", rng)
    copies, *_, population = inspected(with_samples(evidence, copied), rng)
    assert copies.p_value < 0.01
    assert copies.p_ratio < copies.p_arms
    assert len(copies.copied) > 10
    held_out = np.flatnonzero(population.held_out)[:40]
    copied = jitter(evidence.records[held_out], "table", rng)
    assert inspected(with_samples(evidence, copied), rng)[0].p_value > 0.01
