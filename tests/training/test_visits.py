"""Tables with several rows of a person in order: what is measured, and what is drawn."""

import numpy as np
import pytest

from privacy import planning
from privacy.errors import InvalidParameter
from privacy.mechanisms import PrivacyTarget
from privacy.table_schema import Column, Constraint, TableSchema, Visits
from training.checkpoints import Progress, ReleaseLost
from training.generators import autoregressive
from training.generators.autoregressive import Config, fit, from_state
from training.run import LocalRun
from training.table_records import TableRecords
from training.tables.rounds import Purse
from training.tables.visits import _measured, codes_before, follow, rows_before

PERSONS = 1500
CONFIG = Config(
    steps=10,
    hidden=8,
    expected_batch_size=200,
    rounds_per_column=2,
    iterations=60,
    final_iterations=100,
)
TARGET = PrivacyTarget(epsilon=20.0, delta=1e-5)


def _schema(**changes):
    declared = {
        "declared_count": PERSONS,
        "person": "id",
        "visits": Visits(order="visit", most=5),
        "columns": (
            Column(name="visit", kind="integer", edges=(0, 1, 2, 3, 4, 5)),
            Column(name="sex", kind="category", levels=("f", "m")),
            Column(name="grade", kind="ordinal", levels=("0", "1", "2", "3")),
            Column(name="replaced", kind="category", levels=("no", "yes")),
        ),
        "constraints": (
            Constraint(name="only grade 3", when={"replaced": ("yes",)}, then={"grade": ("3",)}),
        ),
    }
    return TableSchema(**(declared | changes))


def _records(*, persons=PERSONS, seed=0):
    """One to four visits; sex stays, the grade stays or rises, of grade 3 half are replaced."""
    rng = np.random.default_rng(seed)
    rows, owner = [], []
    for person in range(persons):
        sex, grade = rng.integers(2), rng.integers(3)
        for visit in range(1 + rng.integers(4)):
            grade = min(3, grade + int(rng.random() < 0.25))
            rows.append((visit, sex, grade, int(grade == 3 and rng.random() < 0.5)))
            owner.append(person)
    mixed = rng.permutation(len(rows))
    codes = np.asarray(rows, dtype=np.int16)[mixed]
    return TableRecords(codes=codes, persons=np.asarray(owner)[mixed])


def _run():
    mechanisms = planning.plan_mechanisms(
        autoregressive.STAGES, config=CONFIG.model_dump(), target=TARGET, public_train_count=PERSONS
    )
    return LocalRun(mechanisms)


@pytest.fixture(scope="module")
def fitted():
    return fit(_records(), CONFIG, schema=_schema(), run=_run(), seed=0)


def _steps(codes, persons):
    """Return consecutive rows of one person: (before, now)."""
    same = persons[1:] == persons[:-1]
    return codes[:-1][same], codes[1:][same]


def test_rows_follow_each_other_by_the_declared_column_within_a_person_only():
    codes = np.asarray([[2, 0], [0, 1], [1, 0], [0, 0]], dtype=np.int16)
    records = TableRecords(codes=codes, persons=np.asarray([0, 0, 0, 1]))
    before = rows_before(records, 0)
    np.testing.assert_array_equal(before, [2, -1, 1, -1])
    found = codes_before(codes, before, np.asarray([0, 1, 3]), (3, 2))
    np.testing.assert_array_equal(found, [[1, 0], [3, 2], [3, 2]])


def test_a_person_with_fifty_rows_moves_every_measured_joint_by_one_at_most():
    schema, base = _schema(), _records(persons=20)
    codes = np.concatenate([base.codes, np.random.default_rng(1).integers(2, size=(50, 4))])
    more = TableRecords(
        codes=codes.astype(np.int16), persons=np.concatenate([base.persons, np.full(50, 99)])
    )
    exact = {"order": 0, "most": 5, "rho": 1e18}  # hardly any noise
    without, with_one = (_measured(records, schema, **exact) for records in (base, more))
    for name in without.keys() - {"sigma"}:
        moved = np.abs(with_one[name] - without[name])
        assert 0.9 < moved.sum() <= 1 + 1e-6
        assert np.linalg.norm(moved) <= 1 + 1e-6


def test_synthetic_persons_go_on_as_real_ones_do(fitted):
    codes, persons = fitted.sample_persons(6000, seed=0)
    before, now = _steps(codes, persons)
    assert (now[:, 0] >= before[:, 0]).all()  # nobody goes back
    real_before, real_now = _steps(*_in_order(_records()))
    for column in (1, 2):
        real = (real_before[:, column] == real_now[:, column]).mean()
        assert abs((before[:, column] == now[:, column]).mean() - real) < 0.1
    counts = np.bincount(np.bincount(persons)[:-1], minlength=6)[1:5] / (persons[-1])
    np.testing.assert_allclose(counts, 0.25, atol=0.06)
    assert not any(broken.any() for broken in _schema().violations(codes).values())


def _in_order(records):
    order = np.lexsort((records.codes[:, 0], records.persons))
    return records.codes[order], records.persons[order]


def test_persons_repeat_for_a_seed_and_come_back_from_the_arrays(fitted):
    again = from_state(fitted.state(), config=CONFIG, schema=_schema())
    for one, other in zip(
        fitted.sample_persons(500, seed=3), again.sample_persons(500, seed=3), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    codes, persons = fitted.sample_persons(500, seed=3)
    np.testing.assert_array_equal(fitted.sample(500, seed=3), codes)
    assert persons[0] == 0
    assert set(np.diff(persons)) == {0, 1}
    assert fitted.sample(0, seed=3).shape == (0, 4)


def test_what_was_charged_and_lost_is_not_measured_again():
    run = _run()
    schema, records = _schema(), _records(persons=50)
    purse = Purse(run)
    purse.spend(500)
    with pytest.raises(ReleaseLost, match="Request a new job"):
        follow(records, schema=schema, visits=schema.visits, purse=purse, kept=Progress(run))
    assert run.charges[0] == 500


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"visits": {"order": "month"}}, "no such column"),
        ({"visits": {"order": "sex"}}, "numbers or an ordinal one"),
        ({"unit": "record", "person": ""}, "rows of one person"),
    ],
)
def test_visits_that_cannot_be_are_refused_with_the_schema(changes, why):
    with pytest.raises(ValueError, match=why):
        _schema(**changes)


def test_persons_are_not_drawn_where_no_visits_are_declared():
    schema = _schema(visits=None)
    plain = fit(_records(persons=300), CONFIG, schema=schema, run=_run(), seed=0)
    with pytest.raises(InvalidParameter, match="declares no visits"):
        plain.sample_persons(10, seed=0)
