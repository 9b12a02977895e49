"""The graphical model of tables: exact against brute force, and its rows agree with it."""

import itertools

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from training.tables.beliefs import Propagation
from training.tables.drawing import draw
from training.tables.estimation import Measurement, estimate, noised_total
from training.tables.junction_trees import junction_tree, maximal_cliques, model_bytes
from training.tables.measurements import marginal, on_simplex
from training.tables.pairs import pair_marginals

SIZES = (3, 2, 4, 3)
GRAPHS = [
    [(0, 1), (1, 2), (2, 3), (0, 3)],
    [(0,), (1, 2)],
    [(0, 1), (0, 2), (0, 3)],
    [(0, 1, 2), (2, 3)],
    [(0, 3), (1,), (2,)],
]


def joint(factors, potentials, mask=None):
    """Return the whole density, cell by cell."""
    logs = np.zeros(SIZES)
    for factor, potential in zip(factors, potentials, strict=True):
        shape = [SIZES[c] if c in factor else 1 for c in range(len(SIZES))]
        logs = logs + potential.reshape(shape)
    density = np.exp(logs) * (1.0 if mask is None else mask)
    return density / density.sum()


def onto(density, columns):
    return density.sum(axis=tuple(c for c in range(density.ndim) if c not in columns))


def potentials_for(factors, seed=0):
    rng = np.random.default_rng(seed)
    return [2 * rng.standard_normal([SIZES[c] for c in factor]) for factor in factors]


@pytest.mark.parametrize("factors", GRAPHS)
def test_marginals_of_every_clique_and_every_pair_are_those_of_the_whole_density(factors):
    potentials = potentials_for(factors)
    whole = joint(factors, potentials)
    tree = junction_tree(factors, SIZES)
    propagation = Propagation(tree, factors, SIZES)
    beliefs = propagation.marginals(potentials)
    for clique, belief in zip(tree.cliques, beliefs, strict=True):
        np.testing.assert_allclose(belief, onto(whole, clique), atol=1e-12)
    for factor, found in zip(factors, propagation.onto_factors(beliefs), strict=True):
        np.testing.assert_allclose(found, onto(whole, factor).ravel(), atol=1e-12)
    pairs = pair_marginals(tree, beliefs, SIZES)
    assert set(pairs) == set(itertools.combinations(range(4), 2))
    for pair, found in pairs.items():
        np.testing.assert_allclose(found, onto(whole, pair), atol=1e-12)


def test_pairs_are_exact_across_long_paths_whose_separators_overlap():
    sizes = (2, 3, 2, 3, 2, 2)
    factors = [(0, 1, 2), (1, 2, 3), (2, 3, 4), (4, 5)]
    rng = np.random.default_rng(1)
    logs, potentials = np.zeros(sizes), []
    for factor in factors:
        potential = rng.standard_normal([sizes[c] for c in factor])
        potentials.append(potential)
        logs = logs + potential.reshape([sizes[c] if c in factor else 1 for c in range(6)])
    whole = np.exp(logs) / np.exp(logs).sum()
    tree = junction_tree(factors, sizes)
    beliefs = Propagation(tree, factors, sizes).marginals(potentials)
    for pair, found in pair_marginals(tree, beliefs, sizes).items():
        np.testing.assert_allclose(found, onto(whole, pair), atol=1e-12)


def test_what_a_mask_forbids_has_no_probability_and_the_rest_keeps_its_proportions():
    factors = [(0, 1), (2, 3)]
    allowed = np.ones((3, 4), dtype=bool)
    allowed[0, 1:] = False
    potentials = potentials_for(factors)
    potentials[1][:, 2] += 400.0  # far above everything that is allowed together with it
    tree = junction_tree([*factors, (0, 2)], SIZES)
    propagation = Propagation(tree, factors, SIZES, allowed={(0, 2): allowed})
    beliefs = propagation.marginals(potentials)
    whole = joint(factors, potentials, mask=allowed[:, None, :, None])
    found = pair_marginals(tree, beliefs, SIZES)
    np.testing.assert_allclose(found[0, 2], onto(whole, (0, 2)), atol=1e-12)
    assert (found[0, 2][0, 1:] == 0).all()


def test_masks_that_allow_nothing_are_refused():
    nothing = np.zeros((3, 2), dtype=bool)
    tree = junction_tree([(0, 1)], SIZES)
    propagation = Propagation(tree, [(0, 1)], SIZES, allowed={(0, 1): nothing})
    with pytest.raises(InvalidParameter, match="no row satisfies every constraint"):
        propagation.marginals([np.zeros(6)])


@pytest.mark.parametrize("seed", range(6))
def test_a_junction_tree_keeps_cliques_together_and_every_column_connected(seed):
    rng = np.random.default_rng(seed)
    sizes = tuple(int(size) for size in rng.integers(2, 6, size=9))
    cliques = [tuple(sorted(rng.choice(9, size=2, replace=False).tolist())) for _ in range(11)]
    tree = junction_tree(cliques, sizes)
    assert all(tree.home_of(clique) is not None for clique in cliques)
    for column in range(9):
        holding = [n for n, clique in enumerate(tree.cliques) if column in clique]
        tops = [n for n in holding if tree.parents[n] < 0 or column not in tree.separators[n]]
        assert len(tops) == 1  # a connected part of a tree has one top
    cells = sum(int(np.prod([sizes[c] for c in clique])) for clique in tree.cliques)
    assert model_bytes(cliques, sizes) == 8 * cells
    assert sorted(tree.cliques) == maximal_cliques(cliques, sizes)


def measured(whole, cliques, *, total=1000.0, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for clique in cliques:
        counts = total * onto(whole, clique).ravel()
        deviation = max(noise, 1e-3)
        values = counts + noise * rng.standard_normal(len(counts))
        found.append(Measurement(columns=clique, deviation=deviation, values=values))
    return found


def test_an_estimate_reproduces_marginals_that_agree_with_each_other():
    factors = GRAPHS[0]
    whole = joint(factors, potentials_for(factors, seed=3))
    model = estimate(measured(whole, factors), SIZES, iterations=4000)
    assert model.total == pytest.approx(1000.0)
    for factor in factors:
        np.testing.assert_allclose(
            model.marginal(factor) / 1000, onto(whole, factor).ravel(), atol=2e-3
        )


def test_an_estimate_is_the_best_model_nearby_and_its_fit_only_improves():
    factors = GRAPHS[0]
    whole = joint(factors, potentials_for(factors, seed=4))
    noisy = measured(whole, [*factors, (0,), (1,)], noise=40.0)
    losses = [estimate(noisy, SIZES, iterations=n).loss for n in (1, 10, 100, 3000)]
    assert losses == sorted(losses, reverse=True)
    best = estimate(noisy, SIZES, iterations=3000)
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = {f: p + 0.05 * rng.standard_normal(len(p)) for f, p in best.warm().items()}
        nearby = estimate(noisy, SIZES, iterations=0, start=moved)
        assert nearby.loss >= best.loss - 1e-6


def test_a_warm_start_begins_where_the_last_estimate_ended():
    whole = joint(GRAPHS[0], potentials_for(GRAPHS[0]))
    noisy = measured(whole, GRAPHS[0], noise=20.0)
    first = estimate(noisy, SIZES, iterations=50)
    again = estimate(noisy, SIZES, iterations=0, start=first.warm())
    assert again.loss == pytest.approx(first.loss)


def test_the_total_weighs_marginals_by_their_precision():
    exact = Measurement(columns=(0,), deviation=1.0, values=np.asarray([50.0, 50.0]))
    vague = Measurement(columns=(1,), deviation=100.0, values=np.asarray([500.0, 0.0]))
    assert noised_total([exact, vague]) == pytest.approx(100.0, abs=0.1)
    none = Measurement(columns=(0,), deviation=1.0, values=np.asarray([-5.0, -5.0]))
    assert noised_total([none]) == 1.0


def test_rows_of_a_star_agree_with_the_model_they_were_drawn_from():
    # A hub with five leaves: the shape on which a sampler that forgets its separators goes wrong.
    sizes, count = (4, 3, 5, 2, 6, 4), 20_000
    factors = [(0, leaf) for leaf in range(1, 6)]
    rng = np.random.default_rng(0)
    potentials = [1.5 * rng.standard_normal((sizes[0], sizes[b])) for _, b in factors]
    tree = junction_tree(factors, sizes)
    beliefs = Propagation(tree, factors, sizes).marginals(potentials)
    rows = draw(tree, beliefs, sizes, count=count, rng=rng)
    pairs = pair_marginals(tree, beliefs, sizes)
    for pair, expected in pairs.items():
        found = marginal(rows, pair, sizes=sizes) / count
        distance = 0.5 * np.abs(found - expected.ravel()).sum()
        # Pairs on the tree are drawn systematically: within about one row per cell.
        assert distance < (5e-4 if 0 in pair else 0.02)


def test_single_rows_have_the_distribution_of_the_model():
    factors = GRAPHS[0]
    potentials = potentials_for(factors, seed=2)
    whole = joint(factors, potentials)
    tree = junction_tree(factors, SIZES)
    beliefs = Propagation(tree, factors, SIZES).marginals(potentials)
    rng = np.random.default_rng(0)
    rows = np.concatenate([draw(tree, beliefs, SIZES, count=1, rng=rng) for _ in range(2000)])
    found = marginal(rows, (0, 1, 2, 3), sizes=SIZES) / 2000
    scatter = np.sqrt(whole * (1 - whole) / 2000).ravel()
    assert (np.abs(found - whole.ravel()) < 5 * scatter + 1e-9).all()


@pytest.mark.parametrize("count", [0, 1, 7])
def test_few_rows_are_drawn_as_well_and_impossible_cells_never(count):
    belief = np.zeros((3, 4))
    belief[1, [0, 2]] = 0.5
    tree = junction_tree([(0, 1)], (3, 4))
    rows = draw(tree, [belief], (3, 4), count=count, rng=np.random.default_rng(0))
    assert rows.shape == (count, 2)
    assert (rows[:, 0] == 1).all()
    assert np.isin(rows[:, 1], [0, 2]).all()


def test_a_vector_is_moved_to_the_nearest_distribution():
    np.testing.assert_allclose(on_simplex(np.asarray([0.7, 0.5, -0.4])), [0.6, 0.4, 0.0])
    np.testing.assert_allclose(on_simplex(np.full(4, -3.0)), np.full(4, 0.25))
