"""Utility of tables: distances against brute force, known survival, and persons on one side only."""

from itertools import combinations

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from privacy.table_schema import TableSchema
from training.utility.tables import Effort, measure_table_utility
from training.utility.tables.copies import combine, estimates, parts
from training.utility.tables.distances import chosen_combinations, compare, variation
from training.utility.tables.distinguishing import told_apart
from training.utility.tables.learning import predictions, telling
from training.utility.tables.material import Rows, divided
from training.utility.tables.survival import concordance, cox, kaplan_meier

SCHEMA = TableSchema.model_validate(
    {
        "unit": "person",
        "declared_count": 500,
        "person": "id",
        "columns": [
            {"name": "age", "kind": "integer", "edges": [40, 50, 60, 70, 80]},
            {"name": "sex", "kind": "category", "levels": ["f", "m"], "role": "quasi_identifier"},
            {"name": "dead", "kind": "category", "levels": ["no", "yes"], "role": "target"},
            {"name": "cause", "kind": "category", "levels": ["heart", "other"], "missing": True},
            {"name": "days", "kind": "integer", "edges": [0, 10, 20, 30, 40, 50]},
            {"name": "bmi", "kind": "number", "edges": [15, 20, 25, 30], "role": "target"},
        ],
        "constraints": [
            {
                "name": "only the dead have a cause",
                "when": {"dead": ["no"]},
                "then": {"cause": ["missing"]},
            }
        ],
        "survival": {"time": "days", "event": "dead", "happened": ["yes"]},
    }
)
NAMES = tuple(column.name for column in SCHEMA.columns)
QUICK = Effort(bootstraps=10)


def cohort(count, seed):
    """Rows in which the old die sooner; nobody alive has a cause."""
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 4, count)
    dead = (rng.random(count) < 0.1 + 0.25 * age).astype(int)
    cause = np.where(dead, rng.integers(0, 2, count), 2)
    days = np.clip(rng.integers(0, 5, count) - dead * (age > 1), 0, 4)
    bmi = np.clip(age - 1 + rng.integers(0, 2, count), 0, 2)
    columns = [age, rng.integers(0, 2, count), dead, cause, days, bmi]
    return np.stack(columns, axis=1).astype(np.int16)


@pytest.fixture(scope="module")
def report():
    return measure_table_utility(
        cohort(600, 1), cohort(300, 2), cohort(600, 3), schema=SCHEMA, epsilon=1.0, effort=QUICK
    )


def rows(codes, persons=None):
    return Rows.of(codes, persons, schema=SCHEMA)


def distances(real, other):
    return compare(real, {"other": other}, names=NAMES, sizes=SCHEMA.sizes)["other"]


def test_a_table_is_at_distance_nought_from_itself_however_persons_are_repeated():
    codes = cohort(200, 0)
    twice = rows(np.repeat(codes, 2, axis=0), np.repeat(np.arange(200), 2))
    for found in distances(rows(codes), twice):
        assert found.max == pytest.approx(0, abs=1e-12)


def test_disjoint_tables_are_at_distance_one():
    low, high = np.zeros((50, 6), dtype=np.int16), np.ones((70, 6), dtype=np.int16)
    for found in distances(rows(low), rows(high)):
        assert (found.mean, found.max) == pytest.approx((1, 1))


def test_distances_are_those_of_brute_force():
    rng = np.random.default_rng(5)
    one, other = rows(cohort(80, 1), rng.integers(0, 30, 80)), rows(cohort(90, 2))

    def shares(table, columns):
        found = {}
        for row, weight in zip(table.codes, table.weights, strict=True):
            key = tuple(row[list(columns)].tolist())
            found[key] = found.get(key, 0) + weight
        return found

    for found in distances(one, other):
        values = []
        for columns in combinations(range(6), found.way):
            p, q = shares(one, columns), shares(other, columns)
            values.append(sum(abs(p.get(k, 0) - q.get(k, 0)) for k in {*p, *q}) / 2)
        assert found.mean == pytest.approx(np.mean(values))
        assert found.max == pytest.approx(max(values))


def test_a_domain_too_large_to_count_in_an_array_has_the_same_distance():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 50, 300), rng.integers(0, 60, 400)
    weights = np.full(300, 1 / 300), np.full(400, 1 / 400)
    small = variation((one, weights[0]), (other, weights[1]), cells=60)
    far = np.int64(10**15)
    large = variation((one * far, weights[0]), (other * far, weights[1]), cells=10**17)
    assert large == pytest.approx(small)


def test_where_combinations_are_too_many_the_same_ones_are_measured_again():
    chosen = chosen_combinations(40, 3, most=100)
    assert len(set(chosen)) == 100
    assert chosen == chosen_combinations(40, 3, most=100)


def test_persons_are_never_split():
    persons = np.random.default_rng(0).integers(0, 50, 400)
    first, second = divided(persons, share=0.6, seed=3)
    assert not set(persons[first]) & set(persons[second])
    assert len(np.unique(persons[first])) == round(0.6 * len(np.unique(persons)))
    some = rows(cohort(400, 0), persons).at_most(100, seed=1)
    kept, counts = np.unique(some.codes[:, :5], axis=0, return_counts=True)
    assert len(kept) <= len(some) <= 100
    assert counts.sum() == len(some)


def test_a_drawn_person_keeps_all_rows():
    persons = np.repeat(np.arange(100), np.arange(1, 101))
    codes = np.zeros((len(persons), 6), dtype=np.int16)
    drawn = rows(codes, persons).resampled(seed=0)
    assert drawn.count == 100
    assert drawn.weights.sum() == pytest.approx(1)
    assert set(np.bincount(drawn.persons)) <= set(range(1, 101))


def test_what_gives_a_target_away_is_no_feature():
    assert {NAMES[index] for index in telling(SCHEMA, 2)} == {"dead", "cause", "days"}
    assert telling(SCHEMA, 5) == {5}


def test_synthetic_rows_of_the_same_distribution_teach_as_much_as_real_ones():
    sources = {"synthetic": rows(cohort(800, 1)), "real": rows(cohort(800, 2))}
    found = predictions(sources, rows(cohort(800, 3)), schema=SCHEMA, bootstraps=20)
    assert [(one.target, one.learner) for one in found] == [
        ("dead", "linear"),
        ("dead", "boosted_trees"),
        ("bmi", "linear"),
        ("bmi", "boosted_trees"),
    ]
    for one in found:
        metric = "auc" if one.target == "dead" else "r2"
        made, real = one.scores["synthetic"][metric], one.scores["real"][metric]
        assert made.ci_low <= made.value <= made.ci_high
        assert made.value == pytest.approx(real.value, abs=0.05)
        assert real.value > 0.4


def test_one_level_to_learn_from_is_a_reason_and_no_score():
    alive = cohort(100, 0)
    alive[:, 2], alive[:, 3] = 0, 2
    found = predictions({"synthetic": rows(alive)}, rows(cohort(100, 1)), schema=SCHEMA)
    assert found[0].scores["synthetic"]["auc"].value is None
    assert "one level" in found[0].scores["synthetic"]["auc"].reason


def test_kaplan_and_meier_by_hand():
    # At risk 5, 4, 2: two events of five, none of three left, one of two.
    times, events = np.array([0, 0, 1, 2, 2]), np.array([True, True, False, True, False])
    curve = kaplan_meier(times, events, np.full(5, 0.2), bins=3)
    assert curve == pytest.approx([0.6, 0.6, 0.3])


def test_concordance_by_hand():
    times, events = np.array([0, 1, 2]), np.array([True, True, False])
    assert concordance(times, events, np.array([3.0, 2, 1])) == 1
    assert concordance(times, events, np.array([1.0, 2, 3])) == 0
    assert concordance(times, events, np.zeros(3)) == 0.5
    assert concordance(times, np.zeros(3, dtype=bool), np.zeros(3)) is None


def test_cox_finds_the_hazard_ratio():
    rng = np.random.default_rng(0)
    exposed = rng.integers(0, 2, 6000)
    exact = rng.exponential(1 / np.exp(0.8 * exposed))
    found = cox(exposed[:, None].astype(float), (exact * 200).astype(int), exact < 2)
    assert found[0] == pytest.approx(0.8, abs=0.08)


def test_alike_tables_cannot_be_told_apart_and_disjoint_ones_can():
    alike = told_apart(rows(cohort(500, 1)), rows(cohort(500, 2)), schema=SCHEMA)
    assert alike.value == pytest.approx(0.5, abs=0.06)
    other = cohort(500, 3)
    other[:, 1] = 0
    real = cohort(500, 4)
    real[:, 1] = 1
    assert told_apart(rows(other), rows(real), schema=SCHEMA).value == pytest.approx(1)


def test_rows_that_were_drawn_with_the_seed_of_the_judge_are_judged_alike():
    real, drawn = cohort(300, 1), cohort(1500, 2)
    # As a generator lays them out that takes levels in the random order of its seed.
    laid_out = np.empty_like(drawn)
    laid_out[np.random.default_rng(0).permutation(1500)] = drawn[np.argsort(drawn[:, 0])]
    found = told_apart(rows(laid_out), rows(real), schema=SCHEMA, seed=0)
    assert found.value == pytest.approx(0.5, abs=0.07)


def test_copies_shrink_what_they_differ_by_and_noise_widens():
    one = combine([0.5], [0.01])
    many = combine([0.45, 0.55, 0.5, 0.5], [0.01] * 4)
    noisy = combine([0.45, 0.55, 0.5, 0.5], [0.01] * 4, noise_variance=0.02)
    assert one.variance == 0.01
    assert many.estimate == pytest.approx(0.5)
    assert many.variance == pytest.approx(0.01 + np.var([0.45, 0.55, 0.5, 0.5], ddof=1) / 4)
    assert noisy.high - noisy.low > many.high - many.low
    assert sum(len(part) for part in parts(rows(cohort(103, 0)), 5)) == 103


def test_intervals_of_shares_hold_the_truth_about_as_often_as_they_say_and_noise_widens_them():
    held_out = rows(cohort(4000, 99))
    exact = rows(cohort(200_000, 5))
    held = 0
    for start in range(20):
        copies = [rows(cohort(600, 1000 + 5 * start + number)) for number in range(5)]
        found = estimates(copies, held_out, schema=SCHEMA, persons=600)
        noised = estimates(copies, held_out, schema=SCHEMA, persons=600, noise=(1e-3,) * 6)
        assert all(b.high - b.low > a.high - a.low for a, b in zip(found, noised, strict=True))
        one = next(e for e in found if e.column == "dead" and e.level == "yes")
        held += one.low <= exact.codes[:, 2].mean() <= one.high
    assert held >= 17


def test_a_synthetic_person_counts_once_however_many_rows():
    held_out = rows(cohort(100, 1))
    once = cohort(100, 2)
    often = np.repeat(once, 1 + 4 * once[:, 2], axis=0)
    whose = np.repeat(np.arange(100), 1 + 4 * once[:, 2])
    found, wanted = (
        estimates([copy], held_out, schema=SCHEMA, persons=100)
        for copy in (rows(often, whose), rows(once))
    )
    assert [e.share for e in found] == pytest.approx([e.share for e in wanted])
    told = measure_table_utility(
        cohort(100, 3), cohort(100, 4), often, schema=SCHEMA, synthetic_persons=whose,
        copies=[(often, whose)] * 2, effort=Effort(bootstraps=2, learners=("linear",)),
    )  # fmt: skip
    assert [e.share for e in told.estimates] == pytest.approx([e.share for e in wanted])


def test_the_report_holds_everything_that_it_promises(report):
    assert set(report.to_trained) == {
        "synthetic",
        "other_persons",
        "drawn_again",
        "independent_columns",
    }
    assert report.beats_independent_columns
    assert report.any_constraint_broken == 0
    assert report.survival.mean_difference["synthetic"] < 0.1
    assert report.survival.concordance["real"].value > 0.6
    assert {group.level for group in report.subgroups} == {"f", "m"}
    assert report.coverage.real > 0.8
    assert any("P-values" in text for text in report.warnings)
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_independent_columns_are_called_what_they_are():
    real = cohort(600, 1)
    apart = rows(real).shuffled_apart(count=600, seed=9).codes
    found = measure_table_utility(
        real, cohort(300, 2), apart, schema=SCHEMA, epsilon=5.0, effort=QUICK
    )
    assert found.any_constraint_broken > 0.1
    pairs = {name: one[1].mean for name, one in found.to_held_out.items()}
    assert pairs["synthetic"] == pytest.approx(pairs["independent_columns"], rel=0.2)
    assert pairs["synthetic"] > 1.5 * pairs["other_persons"]
    assert not any("P-values" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"held_out_persons": np.arange(300) + 599}, "held out at once"),
        ({"held_out": cohort(19, 0), "held_out_persons": np.arange(19) + 600}, "too few"),
        ({"synthetic": cohort(50, 0)[:, :4]}, "has 6 columns"),
        ({"synthetic": np.full((50, 6), 4, dtype=np.int16)}, "'age' was refused"),
    ],
    ids=["a person on both sides", "nineteen persons", "columns missing", "an unknown code"],
)
def test_material_that_cannot_be_measured_is_refused(change, reason):
    given = {
        "trained": cohort(600, 1),
        "held_out": cohort(300, 2),
        "synthetic": cohort(600, 3),
        "trained_persons": np.arange(600),
        "held_out_persons": np.arange(300) + 600,
    } | change
    with pytest.raises(InvalidParameter, match=reason):
        measure_table_utility(
            given.pop("trained"),
            given.pop("held_out"),
            given.pop("synthetic"),
            schema=SCHEMA,
            **given,
        )
