"""Rows that no declared constraint forbids, and refusals before anything is charged."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from privacy.mechanisms import ZcdpMechanism
from privacy.table_schema import Column, Constraint, TableSchema
from training import generators
from training.audit_twin import make_row_canaries
from training.run import LocalRun
from training.table_records import TableRecords
from training.tables.constraints import masks
from training.tables.possible_rows import possible_rows, refuse_the_impossible


def _schema(sizes, constraints):
    columns = tuple(
        Column(name=f"c{n}", kind="category", levels=tuple(f"l{i}" for i in range(size)))
        for n, size in enumerate(sizes)
    )
    return TableSchema(
        unit="record", declared_count=5000, columns=columns, constraints=tuple(constraints)
    )


def _all(column, size):
    return {f"c{column}": tuple(f"l{i}" for i in range(size))}


def _broken(schema, codes):
    return int(sum(broken.sum() for broken in schema.violations(codes).values()))


def test_canaries_of_tables_break_no_constraint_even_where_nearly_all_rows_do():
    # Each of 12 pairs leaves a third of its cells: 1 in 500,000 rows drawn over the domain is left.
    chain = [
        Constraint(name=f"{a}{level}", when={f"c{a}": (level,)}, then={f"c{a + 1}": (level,)})
        for a in range(12)
        for level in ("l0", "l1", "l2")
    ]
    schema = _schema([3] * 13 + [5], chain)
    drawn = make_row_canaries(900, schema=schema, rng=np.random.default_rng(0)).codes
    assert drawn.shape == (900, 14)
    assert drawn.dtype == np.int16
    assert _broken(schema, drawn) == 0
    assert (np.bincount(drawn[:, 0], minlength=3) > 250).all()
    assert len(np.unique(drawn, axis=0)) == 15  # all that are possible


def test_canaries_without_constraints_are_spread_over_the_whole_domain():
    schema = _schema([4, 5, 6], [])
    first, again, other = (
        make_row_canaries(2000, schema=schema, rng=np.random.default_rng(seed)).codes
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first, axis=0)) == 120
    assert abs(np.corrcoef(first.T)[np.triu_indices(3, 1)]).max() < 0.12


def test_constraints_too_large_for_masks_are_kept_by_drawing_again():
    schema = _schema([150, 150], [Constraint(name="one", when={}, then=_all(1, 30) | _all(0, 75))])
    assert masks(schema, most_bytes=2**20)[1] == schema.constraints
    rows = possible_rows(500, schema=schema, rng=np.random.default_rng(0))
    assert _broken(schema, rows) == 0
    assert len(np.unique(rows[:, 0])) > 60


def _contradicting():
    """Two constraints over more cells than a mask may have, which no row keeps both."""
    return _schema(
        [150, 150, 2],
        [
            Constraint(name="one", when=_all(0, 150), then={"c1": ("l0",)}),
            Constraint(name="two", when=_all(0, 150), then={"c1": ("l1",)}),
        ],
    )


@pytest.mark.parametrize("name", ["aim", "mst"])
def test_contradictions_too_large_for_masks_are_refused_before_anything_is_charged(name):
    module, schema = generators.load(name), _contradicting()
    quanta = module.STAGES[0].steps
    run = LocalRun([ZcdpMechanism(stage="z", noise_multiplier=5.0, steps=quanta)])
    codes = np.zeros((100, 3), dtype=np.int16)
    records = TableRecords(codes=codes, persons=np.arange(100))
    with pytest.raises(InvalidParameter, match=r"'one', 'two' were refused.* 0 keep them all"):
        module.fit(records, module.Config(), schema=schema, run=run, seed=0)
    assert not any(run.charges)


def test_canaries_of_a_schema_that_no_row_keeps_are_refused():
    with pytest.raises(InvalidParameter, match="contradict each other"):
        make_row_canaries(10, schema=_contradicting(), rng=np.random.default_rng(0))


def test_constraints_that_leave_one_row_in_a_hundred_and_fifty_are_not_refused():
    one = _contradicting().constraints[:1]
    schema = _contradicting().model_copy(update={"constraints": one})
    allowed, left_over = masks(schema, most_bytes=2**20)
    assert left_over == one
    refuse_the_impossible(schema, allowed, left_over)
