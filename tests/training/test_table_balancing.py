"""Drawn rows that trade: cliques keep their counts, pairs outside of them come nearer to the model, masks
hold, and nothing rare is rounded away."""

import itertools

import numpy as np

from training.tables.balancing import balance, passes_for, rounded
from training.tables.beliefs import Propagation
from training.tables.drawing import draw
from training.tables.junction_trees import junction_tree
from training.tables.measurements import marginal
from training.tables.pairs import pair_marginals

SIZES = (4, 3, 5, 2, 6, 4)
FACTORS = [(0, leaf) for leaf in range(1, 6)]


def _star(*, allowed=None):
    rng = np.random.default_rng(0)
    potentials = [1.5 * rng.standard_normal((SIZES[0], SIZES[b])) for _, b in FACTORS]
    tree = junction_tree(FACTORS, SIZES)
    beliefs = Propagation(tree, FACTORS, SIZES, allowed=allowed).marginals(potentials)
    return tree, beliefs, pair_marginals(tree, beliefs, SIZES)


def _distances(rows, pairs):
    return {
        pair: 0.5 * np.abs(marginal(rows, pair, sizes=SIZES) / len(rows) - table.ravel()).sum()
        for pair, table in pairs.items()
    }


def test_balanced_rows_agree_with_the_model_in_every_pair_of_columns():
    tree, beliefs, pairs = _star()
    apart, balanced = (
        _distances(
            draw(tree, beliefs, SIZES, count=4000, rng=np.random.default_rng(1), pairs=given), pairs
        )
        for given in (None, pairs)
    )
    outside = [pair for pair in itertools.combinations(range(6), 2) if 0 not in pair]
    assert np.mean([apart[p] for p in outside]) > 0.01
    assert np.mean([balanced[p] for p in outside]) < 0.4 * np.mean([apart[p] for p in outside])
    assert max(balanced[p] for p in pairs if 0 in p) < 3e-3


def test_a_trade_changes_no_count_of_a_clique_and_no_column_that_stays():
    tree, beliefs, pairs = _star()
    rows = draw(tree, beliefs, SIZES, count=2000, rng=np.random.default_rng(2))
    before = rows.copy()
    balance(
        rows,
        rows[:, 0].astype(np.int64),
        fresh=(5,),
        earlier=(1, 2, 3, 4),
        wanted=pairs,
        sizes=SIZES,
        passes=10,
        rng=np.random.default_rng(3),
    )
    assert (rows[:, 5] != before[:, 5]).any()
    np.testing.assert_array_equal(rows[:, :5], before[:, :5])
    counts = [marginal(r, (0, 5), sizes=SIZES) for r in (before, rows)]
    np.testing.assert_array_equal(*counts)


def test_balanced_rows_have_nothing_that_a_mask_forbids():
    mask = np.ones((4, 6), dtype=bool)
    mask[1, :3] = mask[2, 3:] = False
    tree, beliefs, pairs = _star(allowed={(0, 4): mask})
    rows = draw(tree, beliefs, SIZES, count=3000, rng=np.random.default_rng(4), pairs=pairs)
    assert mask[rows[:, 0], rows[:, 4]].all()


def test_rows_of_small_tables_have_the_distribution_of_the_model_on_average():
    tree, beliefs, pairs = _star()
    rng = np.random.default_rng(5)
    rows = np.concatenate(
        [draw(tree, beliefs, SIZES, count=100, rng=rng, pairs=pairs) for _ in range(25)]
    )
    for pair, table in pairs.items():
        found = marginal(rows, pair, sizes=SIZES) / len(rows)
        scatter = np.sqrt(table * (1 - table) / len(rows)).ravel()
        assert (np.abs(found - table.ravel()) < 5 * scatter + 2e-3).all()


def test_rounding_keeps_the_total_and_is_right_on_average():
    counts = np.asarray([[0.05, 0.95, 3.3], [0.2, 0.0, 1.5]])
    rng = np.random.default_rng(6)
    drawn = np.stack([rounded(counts, rng) for _ in range(4000)])
    assert (np.abs(drawn - counts.ravel()) < 1).all()
    assert (drawn.sum(axis=1) == 6).all()
    np.testing.assert_allclose(drawn.mean(axis=0), counts.ravel(), atol=0.04)


def _chain():
    """Return the model of a column and two that each depend on it, and its shares of all cells."""
    first, second, third = [0.3, 0.7], [[0.9, 0.1], [0.2, 0.8]], [[0.85, 0.15], [0.3, 0.7]]
    shares = np.einsum("b,ba,bc->abc", first, second, third)
    tree = junction_tree([(0, 1), (1, 2)], (2, 2, 2))
    beliefs = [
        shares.sum(axis=tuple(c for c in range(3) if c not in clique)) for clique in tree.cliques
    ]
    return tree, beliefs, pair_marginals(tree, beliefs, (2, 2, 2)), shares


def test_a_handful_of_rows_has_the_model_s_shares_of_three_columns_on_average():
    tree, beliefs, pairs, shares = _chain()
    rng = np.random.default_rng(8)
    counts = np.zeros((3000, 2, 2, 2))
    for each in counts:
        rows = draw(tree, beliefs, (2, 2, 2), count=6, rng=rng, pairs=pairs)
        np.add.at(each, tuple(rows.T), 1 / 6)
    error = counts.std(axis=0) / np.sqrt(len(counts))
    assert (np.abs(counts.mean(axis=0) - shares) < 4.5 * error).all()


def test_rows_drawn_again_for_a_constraint_are_balanced_only_where_they_are_many():
    tree, beliefs, pairs, _ = _chain()
    for count, is_balanced in ((39, False), (40, True)):
        drawn = [
            [
                draw(
                    tree, beliefs, (2, 2, 2), count=count, rng=np.random.default_rng(seed), pairs=p
                )
                for p in (None, pairs)
            ]
            for seed in range(5)
        ]
        assert any((apart != given).any() for apart, given in drawn) == is_balanced


def test_large_tables_get_fewer_passes_and_the_smallest_and_largest_none():
    assert passes_for(6_000, 11) == passes_for(40, 2) == 30
    assert passes_for(39, 2) == 0
    assert 0 < passes_for(50_000, 40) < 30
    assert passes_for(1_000_000, 40) == 0
