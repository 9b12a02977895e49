"""A value that is drawn for a code has that code again, and can be written as declared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.table_schema import Column, TableSchema
from privacy.table_values import column_values, values_of

edges = st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=12, unique=True).map(sorted)


@given(edges, st.sampled_from([1, 3, 10, 1000]), st.integers(0, 4), st.booleans())
def test_a_number_drawn_for_a_bin_lies_in_it(whole, divisor, decimals, may_miss):
    column = Column(
        name="x",
        kind="number",
        edges=tuple(edge / divisor for edge in whole),
        decimals=decimals,
        missing=may_miss,
    )
    codes = np.repeat(np.arange(column.size, dtype=np.int16), 20)
    values = column_values(codes, column, np.random.default_rng(0))
    assert column.codes_of(values).tolist() == codes.tolist()
    assert np.isnan(values).sum() == (20 if may_miss else 0)


@given(edges)
def test_an_integer_is_whole_and_every_integer_of_a_bin_is_drawn(whole):
    column = Column(name="x", kind="integer", edges=tuple(float(edge) for edge in whole[:2]))
    values = column_values(np.zeros(4000, dtype=np.int16), column, np.random.default_rng(0))
    assert (values == np.floor(values)).all()
    low, high = whole[0], whole[1]
    if high - low <= 100:
        assert set(values.astype(int).tolist()) == set(range(low, high + 1))


def test_a_number_has_the_declared_decimals():
    column = Column(name="x", kind="number", edges=(0.3, 0.9, 2.1), decimals=1)
    codes = np.repeat(np.array([0, 1], dtype=np.int16), 2000)
    values = column_values(codes, column, np.random.default_rng(0))
    assert sorted(set(values[codes == 0].tolist())) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert max(values) == 2.1
    np.testing.assert_array_equal(values, np.round(values, 1))


@pytest.mark.parametrize("other", [False, True])
def test_a_category_keeps_its_code_and_rows_keep_theirs(other):
    schema = TableSchema.model_validate(
        {
            "unit": "record",
            "declared_count": 100,
            "columns": [
                {"name": "sex", "kind": "category", "levels": ["f", "m"], "other": other},
                {"name": "age", "kind": "integer", "edges": [0, 50, 120], "missing": True},
            ],
        }
    )
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, 300) for size in schema.sizes], axis=1)
    values = values_of(codes.astype(np.int16), schema, rng)
    np.testing.assert_array_equal(schema.codes_of(values), codes)
