"""Rounds on tables: a person moves no marginal by more than 1, rounds cost what they charge, and two
worlds that differ by a person are as hard to tell apart as the accountant says."""

import math

import numpy as np
import pytest
from scipy.stats import beta, norm

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import GaussianMechanism, ZcdpMechanism
from privacy.table_schema import Column, TableSchema
from training import generators
from training.checkpoints import Progress
from training.randomness import PrivacyRandomness, noised_sum
from training.run import LocalRun
from training.table_records import TableRecords
from training.tables.constraints import masks
from training.tables.measurements import marginal
from training.tables.rounds import (
    Answers,
    Purse,
    keep,
    kept_measurements,
    measurable_pairs,
    preferences,
)

SIZES = (3, 4, 2)


def _schema(sizes=SIZES, **more):
    columns = tuple(
        Column(name=f"c{n}", kind="category", levels=tuple(f"l{i}" for i in range(size)))
        for n, size in enumerate(sizes)
    )
    return TableSchema(unit="record", declared_count=50, columns=columns, **more)


def _rows(count, *, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=count) for size in SIZES], axis=1).astype(np.int16)


@pytest.mark.parametrize("rows_of_person", [1, 2, 3, 50])
@pytest.mark.parametrize("columns", [(0,), (1, 2), (0, 1, 2)])
def test_a_person_moves_a_marginal_by_at_most_one_whatever_their_rows(rows_of_person, columns):
    others = _rows(90)
    rest = TableRecords(codes=others, persons=np.arange(90) // 3)
    for own in (_rows(rows_of_person, seed=1), np.zeros((rows_of_person, 3), np.int16)):
        whole = TableRecords(
            codes=np.concatenate([others, own]),
            persons=np.append(rest.persons, np.full(rows_of_person, 30)),
        )
        before, after = (
            marginal(r.codes, columns, sizes=SIZES, weights=r.weights) for r in (rest, whole)
        )
        moved = after - before
        assert (moved >= 0).all()
        assert 1 - 1e-6 < moved.sum() <= 1.0  # exactly: weights and sums are multiples of 2^-26
        assert np.linalg.norm(moved) <= 1.0


def test_the_order_of_rows_changes_no_sum_in_its_last_bit():
    codes, persons = _rows(1000), np.random.default_rng(2).integers(0, 77, size=1000)
    order = np.random.default_rng(3).permutation(1000)
    first, second = (
        TableRecords(codes=codes[o], persons=persons[o]) for o in (np.arange(1000), order)
    )
    found = [marginal(r.codes, (0, 1), sizes=SIZES, weights=r.weights) for r in (first, second)]
    np.testing.assert_array_equal(*found)


def test_noise_has_the_deviation_that_was_paid_for_and_lies_on_one_lattice():
    values = np.arange(40_000) / 7.0
    found = noised_sum(values, 12.5, sensitivity=2.0, source=PrivacyRandomness())
    assert (found - values).std() == pytest.approx(25.0, rel=0.02)
    grid = 2.0 ** (math.floor(math.log2(25.0)) - 34)
    np.testing.assert_array_equal(found / grid, np.round(found / grid))


def test_choosing_is_the_exponential_mechanism():
    scores, epsilon = np.asarray([0.0, 2.0, 5.0, 5.5]), 1.2
    source = PrivacyRandomness()
    first = [
        preferences(scores, epsilon=epsilon, sensitivity=2.0, source=source)[0]
        for _ in range(20_000)
    ]
    expected = np.exp(epsilon * scores / 4.0)
    expected /= expected.sum()
    found = np.bincount(first, minlength=4) / 20_000
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / math.sqrt(20_000))


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidParameter, match="must be finite"):
        preferences(
            np.asarray([1.0, np.nan]), epsilon=1.0, sensitivity=1.0, source=PrivacyRandomness()
        )


def test_pairs_with_too_many_cells_are_never_measured_and_wide_tables_keep_the_smallest():
    assert measurable_pairs((200, 60, 3)) == ((0, 2), (1, 2))
    kept = measurable_pairs((100,) * 80)
    assert len(kept) == 2500
    assert measurable_pairs((7,)) == ()


def _fit(name, records, *, rho, schema, quanta, **settings):
    module = generators.load(name)
    noise = math.sqrt(quanta / (2 * rho))
    run = LocalRun([ZcdpMechanism(stage="z", noise_multiplier=noise, steps=quanta)])
    return module.fit(records, module.Config(**settings), schema=schema, run=run, seed=0)


@pytest.mark.parametrize(("name", "choosing"), [("aim", 0.1), ("mst", None)])
def test_what_was_measured_and_chosen_costs_what_was_reserved_and_never_more(name, choosing):
    records = TableRecords(codes=_rows(200), persons=np.arange(200))
    fitted = _fit(name, records, rho=0.5, schema=_schema(), quanta=300)
    costs = [1 / (2 * m.deviation**2) for m in fitted.measurements]
    if choosing is None:
        assert sum(costs) == pytest.approx(0.5 * 2 / 3)  # the other third chose the tree
        return
    columns, rounds = sum(costs[:3]), sum(costs[3:])
    assert columns + rounds / (1 - choosing) == pytest.approx(0.5)


def test_only_zcdp_pays_for_rounds_and_no_more_quanta_than_there_are():
    with pytest.raises(UnsupportedMechanism, match="need zcdp"):
        Purse(LocalRun([GaussianMechanism(stage="g", noise_multiplier=1.0)]))
    purse = Purse(LocalRun([ZcdpMechanism(stage="z", noise_multiplier=2.0, steps=4)]))
    assert purse.spend(3) == pytest.approx(3 / 8)
    with pytest.raises(Exception, match="reserved steps"):
        purse.spend(2)


def test_measurements_come_back_from_a_checkpoint():
    records = TableRecords(codes=_rows(30), persons=np.arange(30))
    answers = Answers.of(records, ((0,), (0, 2)), SIZES)
    source = PrivacyRandomness()
    measured = [answers.measure(c, 0.1, source=source) for c in ((0,), (0, 2))]
    run = LocalRun([])
    keep(Progress(run), measured, round_quanta=8)
    found, numbers = kept_measurements(Progress(run), SIZES)
    assert numbers == {"round_quanta": 8.0}
    for before, after in zip(measured, found, strict=True):
        assert before.columns == after.columns
        assert before.deviation == after.deviation
        np.testing.assert_array_equal(before.values, after.values)


def test_a_constraint_too_large_for_the_model_is_kept_by_drawing_again():
    constraints = [{"name": "c", "when": {"c0": ("l0",)}, "then": {"c1": ("l1",)}}]
    schema = _schema(constraints=constraints)
    assert masks(schema, most_bytes=10_000)[1] == ()
    assert [c.name for c in masks(schema, most_bytes=64)[1]] == ["c"]
    records = TableRecords(codes=_rows(200), persons=np.arange(200))
    fitted = _fit("mst", records, rho=2.0, schema=schema, quanta=30, model_megabytes=64 / 2**20)
    assert fitted.left_over
    assert not any(v.any() for v in schema.violations(fitted.sample(500, seed=0)).values())


def _statistic(fitted, rows, extra):
    """Return the log likelihood ratio of the measured marginals: with the person against without."""
    total = 0.0
    for m in fitted.measurements:
        without = marginal(rows, m.columns, sizes=SIZES)
        person = marginal(extra, m.columns, sizes=SIZES) / len(extra)
        scaled = person / m.deviation**2
        total += float((m.values - without) @ scaled - 0.5 * (person @ scaled))
    return total


def _least_mu(name, *, rho, claimed, repeats, settings):
    """Return a 95 % lower bound on how far apart the two worlds are, and what was claimed.

    The distance is that of Gaussian DP, of the measurements given what was chosen; the person has
    three equal rows, unlike everybody else's.
    """
    rows = _rows(40, seed=5)
    rows[:, 0] = np.minimum(rows[:, 0], 1)
    extra = np.asarray([[2, 3, 1]] * 3, dtype=np.int16)
    without = TableRecords(codes=rows, persons=np.arange(40))
    both = TableRecords(
        codes=np.concatenate([rows, extra]), persons=np.append(np.arange(40), [40] * 3)
    )
    schema = _schema()
    hits = []
    for records in (without, both):
        found = [
            _statistic(
                _fit(name, records, rho=rho, schema=schema, quanta=30, **settings), rows, extra
            )
            for _ in range(repeats)
        ]
        hits.append(int((np.asarray(found) > 0).sum()))
    false_high = beta.ppf(0.975, hits[0] + 1, max(repeats - hits[0], 1))
    true_low = beta.ppf(0.025, max(hits[1], 1), repeats - hits[1] + 1)
    return norm.ppf(true_low) - norm.ppf(false_high), math.sqrt(2 * claimed)


QUICK = {"iterations": 1}
AIM = QUICK | {"rounds_per_column": 4, "final_iterations": 1}


def test_two_worlds_are_as_near_as_claimed_and_halved_noise_is_found_out():
    # Two thirds of the budget of a tree are measured; half the noise is four times the rho.
    kept, limit = _least_mu("mst", rho=1.8, claimed=1.2, repeats=150, settings=QUICK)
    assert 0.2 < kept <= limit  # the audit sees something, and not too much
    broken, limit = _least_mu("mst", rho=7.2, claimed=1.2, repeats=150, settings=QUICK)
    assert broken > limit


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings", "repeats"), [("mst", QUICK, 800), ("aim", AIM, 300)])
def test_two_worlds_audited_at_length(name, settings, repeats):
    kept, limit = _least_mu(name, rho=1.0, claimed=1.0, repeats=repeats, settings=settings)
    assert 0.3 * limit < kept <= limit
    broken, _ = _least_mu(name, rho=4.0, claimed=1.0, repeats=repeats, settings=settings)
    assert broken > limit
