"""Trajectories in the utility report: steps against a count by hand, and sources that must differ."""

import numpy as np
import pytest

from privacy.table_schema import TableSchema
from training.utility.tables import Effort, measure_table_utility
from training.utility.tables.material import Rows
from training.utility.tables.trajectories import autocorrelation, dealt_out, look, steps_of

SCHEMA = TableSchema.model_validate(
    {
        "declared_count": 500,
        "person": "id",
        "visits": {"order": "month", "most": 4},
        "columns": [
            {"name": "month", "kind": "integer", "edges": [0, 1, 2, 3, 4, 5]},
            {"name": "grade", "kind": "ordinal", "levels": ["0", "1", "2", "3"], "missing": True},
            {"name": "sex", "kind": "category", "levels": ["f", "m"]},
        ],
    }
)


def cohort(persons, seed, *, most=4):
    """One to `most` visits; sex stays, and the grade stays or rises."""
    rng = np.random.default_rng(seed)
    rows, whose = [], []
    for person in range(persons):
        sex, grade = rng.integers(2), rng.integers(3)
        for month in range(1 + rng.integers(most)):
            grade = min(3, grade + int(rng.random() < 0.3))
            rows.append((month, 4 if rng.random() < 0.05 else grade, sex))
            whose.append(person)
    mixed = rng.permutation(len(rows))
    return np.asarray(rows, dtype=np.int16)[mixed], np.asarray(whose)[mixed]


def rows_of(persons, seed, **how):
    return Rows.of(*cohort(persons, seed, **how), schema=SCHEMA)


def test_steps_join_following_rows_of_one_person_and_persons_count_alike():
    codes = np.asarray([[2, 0, 1], [0, 1, 1], [1, 2, 0], [0, 3, 0], [4, 0, 0]], dtype=np.int16)
    steps = steps_of(Rows.of(codes, np.asarray([7, 7, 9, 9, 7]), schema=SCHEMA), 0)
    assert steps.before[:, 0].tolist() == [0, 2, 0]
    assert steps.after[:, 0].tolist() == [2, 4, 1]
    assert steps.weights.tolist() == [0.25, 0.25, 0.5]
    assert steps.persons == 2


def test_autocorrelation_is_that_of_the_pairs_without_empty_cells():
    steps = steps_of(rows_of(400, 0), 0)
    known = (steps.before[:, 1] < 4) & (steps.after[:, 1] < 4)
    alike = np.full(len(steps.before), 1 / len(steps.before))
    plain = np.corrcoef(steps.before[known, 1], steps.after[known, 1])[0, 1]
    flat = type(steps)(steps.before, steps.after, alike, steps.persons)
    assert autocorrelation(flat, 1, missing=4) == pytest.approx(plain)
    assert autocorrelation(flat, 1, missing=None) != pytest.approx(plain)


def test_others_of_the_same_cohort_are_near_and_rows_dealt_out_are_not():
    found = look(rows_of(600, 1), rows_of(600, 2), rows_of(600, 3), schema=SCHEMA, seed=0)
    assert found.beats_rows_dealt_out
    assert found.mean_distance["synthetic"] < 0.1 < found.mean_distance["rows_dealt_out"]
    assert found.rows_distance["synthetic"] < 0.1
    sex = found.columns[2]
    assert sex.distance["synthetic"] < 0.1 < sex.distance["rows_dealt_out"]
    assert sex.autocorrelation is None
    grade = found.columns[1].autocorrelation
    assert grade["held_out"] > 0.5 > abs(grade["rows_dealt_out"])


def test_rows_dealt_out_keep_every_single_row_and_how_many_a_person_has():
    rows = rows_of(300, 4)
    dealt = dealt_out(rows, seed=0)
    assert np.array_equal(np.sort(dealt.codes, axis=0), np.sort(rows.codes, axis=0))
    assert np.array_equal(np.bincount(dealt.persons), np.bincount(rows.persons))


def report(synthetic, persons):
    (trained, theirs), (held, others) = cohort(300, 5), cohort(300, 6)
    return measure_table_utility(
        trained,
        held,
        synthetic,
        schema=SCHEMA,
        trained_persons=theirs,
        held_out_persons=others + 300,
        synthetic_persons=persons,
        effort=Effort(bootstraps=2, ways=(1,)),
    )


def test_a_report_warns_where_visits_follow_each_other_as_nobody_does():
    codes, persons = cohort(300, 7)
    codes[:, 1:] = codes[:, [0]] % 2 * [3, 1]  # sex and grade change at every visit
    found = report(codes, persons)
    assert found.trajectories.beats_rows_dealt_out is False
    assert any("trajectories in this table mean nothing" in one for one in found.warnings)


def test_synthetic_persons_of_one_row_each_have_no_trajectories_to_compare():
    codes, _ = cohort(300, 8)
    found = report(codes, None)
    assert found.trajectories.mean_distance["synthetic"] is None
    assert found.trajectories.rows_distance["synthetic"] > 0.5
    assert any("Too few persons have two rows" in one for one in found.warnings)
