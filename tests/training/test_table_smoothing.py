"""The smoothed fit of a table: without a prior it is the fit nearest to the measurements, with one it is the
minimum of what it says, it takes noise away where neighbours are alike, and what cannot be stays so."""

import numpy as np
import pytest

from privacy.table_schema import Column
from training.tables.beliefs import Propagation
from training.tables.estimation import Goal, Measurement, estimate
from training.tables.junction_trees import junction_tree
from training.tables.pairs import pair_marginals
from training.tables.smoothing import Prior, contrasts, smoothed


def _numbers(name, bins, **more):
    return Column(name=name, kind="number", edges=tuple(range(bins + 1)), **more)


def _category(name, levels):
    return Column(name=name, kind="category", levels=tuple(f"l{n}" for n in range(levels)))


COLUMNS = (_numbers("a", 8), _numbers("b", 6), _category("c", 3))
SIZES = tuple(column.size for column in COLUMNS)
COUNT = 5000.0


def _smooth_world():
    """Return exact counts of all columns and of two pairs in which neighbours are related alike."""
    a, b, c = (np.linspace(-1, 1, size) for size in SIZES)
    factors = [(0,), (1,), (2,), (0, 1), (1, 2)]
    potentials = [-a * a, 0.5 * b, np.zeros(3), 1.5 * np.outer(a, b), 0.8 * np.outer(b, c)]
    tree = junction_tree(factors, SIZES)
    propagation = Propagation(tree, factors, SIZES)
    beliefs = propagation.marginals([p.ravel() for p in potentials])
    return factors, propagation.onto_factors(beliefs), pair_marginals(tree, beliefs, SIZES)


def _measured(deviation, *, seed=0):
    rng = np.random.default_rng(seed)
    factors, marginals, _ = _smooth_world()
    return [
        Measurement(
            columns=f, deviation=deviation, values=COUNT * m + rng.normal(0, deviation, m.size)
        )
        for f, m in zip(factors, marginals, strict=True)
    ]


def _distance(model):
    pairs = pair_marginals(model.propagation.tree, model.beliefs, SIZES)
    return np.mean([0.5 * np.abs(pairs[p] - t).sum() for p, t in _smooth_world()[2].items()])


def test_neighbours_are_compared_in_the_declared_order_and_what_is_missing_with_the_mean():
    found = contrasts(_numbers("n", 3, missing=True))
    np.testing.assert_allclose(found, [[-1, 1, 0, 0], [0, -1, 1, 0], [-1 / 3, -1 / 3, -1 / 3, 1]])
    np.testing.assert_allclose(contrasts(_category("c", 2)), [[-1, 1]])
    np.testing.assert_allclose(contrasts(_category("c", 3)) @ np.ones(3), np.zeros(3), atol=1e-12)


def test_a_relation_that_changes_nothing_from_bin_to_bin_costs_next_to_nothing():
    prior = Prior.of((0, 1), COLUMNS, strength=2.0)
    rng = np.random.default_rng(0)
    apart = np.add.outer(rng.normal(size=8), rng.normal(size=6)).ravel()
    assert apart @ prior.slope(apart) == pytest.approx(0.01 * apart @ apart)
    rough = rng.normal(size=48)
    assert rough @ prior.slope(rough) > 10.0
    whole = np.stack([prior.slope(one) for one in np.eye(48)])
    np.testing.assert_allclose(np.diag(whole), prior.diagonal(48))


def test_the_smoothed_fit_is_the_least_of_distance_and_penalty():
    measurements = _measured(60.0)
    model = smoothed(measurements, COLUMNS, strength=2.0, iterations=2000)
    goal = Goal.of(measurements)
    priors = [Prior.of(f, COLUMNS, strength=2.0) for f in model.propagation.factors]

    def cost(potentials):
        marginals = model.propagation.onto_factors(model.propagation.marginals(potentials))
        penalty = sum(0.5 * float(q.slope(p) @ p) for q, p in zip(priors, potentials, strict=True))
        return goal.loss_and_gradient(marginals)[0] + penalty

    least = cost(model.potentials)
    rng = np.random.default_rng(1)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(8):
            moved = [p + size * rng.normal(size=p.size) for p in model.potentials]
            assert cost(moved) > least
    plain = estimate(measurements, SIZES, iterations=2000)
    assert plain.loss < model.loss  # it gives up some nearness for smoothness
    assert least < cost(plain.potentials)


def test_the_passes_of_a_last_fit_come_near_to_the_least_on_a_sparse_table():
    # Half of the cells have nobody, so that noise leaves nothing in many: the hard case for a fit.
    columns = tuple(_numbers(f"n{n}", 8) for n in range(8))
    factors = [(n,) for n in range(8)] + [(n, n + 1) for n in range(7)]
    rng = np.random.default_rng(7)
    exact = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) < 2
    measurements = [
        Measurement(columns=f, deviation=20.0, values=values + rng.normal(0, 20.0, values.size))
        for f in factors
        for values in [np.full(8, 100.0) if len(f) == 1 else 800 * exact.ravel() / exact.sum()]
    ]
    costs = []
    for passes in (400, 800):
        model = smoothed(measurements, columns, strength=2.0, iterations=passes)
        priors = [Prior.of(f, columns, strength=2.0) for f in model.propagation.factors]
        pairs = zip(priors, model.potentials, strict=True)
        costs.append(model.loss + sum(0.5 * float(q.slope(p) @ p) for q, p in pairs))
    assert costs[1] <= costs[0] < 1.1 * costs[1]


def test_smoothing_takes_noise_away_where_neighbours_are_alike():
    for seed in range(2):
        measurements = _measured(60.0, seed=seed)
        plain = _distance(estimate(measurements, SIZES, iterations=1000))
        smooth = _distance(smoothed(measurements, COLUMNS, strength=2.0, iterations=200))
        assert smooth < 0.8 * plain


def test_without_noise_next_to_nothing_is_smoothed():
    measurements = _measured(0.5)
    assert _distance(smoothed(measurements, COLUMNS, strength=2.0, iterations=1000)) < 2e-3


def test_what_a_mask_forbids_stays_impossible():
    mask = np.ones((8, 6), dtype=bool)
    mask[0, 3:] = False
    model = smoothed(_measured(60.0), COLUMNS, strength=2.0, iterations=100, allowed={(0, 1): mask})
    found = model.marginal((0, 1)).reshape(8, 6)
    assert (found[~mask] == 0).all()
    assert (found[mask] > 0).all()


@pytest.mark.parametrize("iterations", [1, 3])
def test_few_passes_and_hopeless_noise_still_give_a_model(iterations):
    model = smoothed(_measured(1e6), COLUMNS, strength=2.0, iterations=iterations)
    assert sum(float(b.sum()) for b in model.beliefs) == pytest.approx(len(model.beliefs))
