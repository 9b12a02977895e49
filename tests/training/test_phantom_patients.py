"""Phantom patients: rows keep to the schema that declares them, and hang together as the formula says."""

from collections import Counter

import numpy as np
import pytest

from privacy.table_schema import TableSchema, parse_schema
from training.phantom_patients import COLUMNS, make_rows, schema_text

PERSONS = 400


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in make_rows(PERSONS, seed=3)]


@pytest.fixture(scope="module")
def schema() -> TableSchema:
    return parse_schema(schema_text(PERSONS).encode(), name="patients.toml")


def test_every_cell_is_within_what_is_declared(rows, schema):
    assert {schema.person, *(column.name for column in schema.columns)} == set(COLUMNS)
    assert schema.declared_count == PERSONS
    for column in schema.columns:
        cells = {row[column.name] for row in rows}
        assert column.missing == ("" in cells)
        told = cells - {""}
        if column.is_numeric:
            assert all(column.edges[0] <= float(cell) <= column.edges[-1] for cell in told)
        else:
            assert told == set(column.levels)


def test_a_time_stands_exactly_beside_a_replacement(rows):
    assert all((row["replaced"] == "yes") == bool(row["years_to_replacement"]) for row in rows)


def test_persons_have_one_to_three_visits_and_seeds_repeat(rows):
    visits = Counter(row["patient_id"] for row in rows)
    assert (len(visits), set(visits.values())) == (PERSONS, {1, 2, 3})
    again = list(make_rows(PERSONS, seed=3))
    assert again == [tuple(row.values()) for row in rows] != list(make_rows(PERSONS, seed=4))


def test_visits_are_declared_on_request_and_nothing_else_changes(schema):
    declared = parse_schema(schema_text(PERSONS, visits=True).encode(), name="patients.toml")
    assert (declared.visits.order, declared.visits.most) == ("visit_year", 3)
    assert declared.model_copy(update={"visits": None}) == schema


def test_grades_go_with_pain_and_with_a_narrow_joint(rows):
    numbers = {
        name: [float(row[name]) for row in rows] for name in ("kl_grade", "pain", "joint_space")
    }
    assert np.corrcoef(numbers["kl_grade"], numbers["pain"])[0, 1] > 0.4
    assert np.corrcoef(numbers["kl_grade"], numbers["joint_space"])[0, 1] < -0.5
