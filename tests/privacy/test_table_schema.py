"""A table's domain is declared before a record is seen, and every cell has a place in it."""

import numpy as np
import pytest
from pydantic import ValidationError

from privacy.errors import InvalidParameter
from privacy.table_schema import TableSchema, read_schema

TEXT = """
declared_count = 2000
person = "id"

[[columns]]
name = "age"
kind = "integer"
edges = [40, 50, 60, 100]

[[columns]]
name = "dead"
kind = "category"
levels = ["no", "yes"]
role = "target"

[[columns]]
name = "cause"
kind = "category"
levels = ["heart", "cancer"]
other = true
missing = true

[[constraints]]
name = "only the dead have a cause"
when = { dead = ["no"] }
then = { cause = ["missing"] }
"""


@pytest.fixture
def schema(tmp_path) -> TableSchema:
    path = tmp_path / "schema.toml"
    path.write_text(TEXT, encoding="utf-8")
    return read_schema(path)


def test_numbers_become_bins_and_what_lies_outside_goes_to_the_nearest(schema):
    values = np.array([[39.0, 0, 0], [50, 1, 2], [100, 1, 3], [1e9, 0, 3]])
    codes = schema.codes_of(values)
    assert codes[:, 0].tolist() == [0, 1, 2, 2]
    assert schema.sizes == (3, 2, 4)
    assert schema.columns[2].names == ("heart", "cancer", "OTHER", "missing")


def test_a_missing_number_has_a_code_of_its_own():
    column = TableSchema.model_validate(
        {
            "unit": "record",
            "declared_count": 100,
            "columns": [{"name": "bmi", "kind": "number", "edges": [15, 25, 60], "missing": True}],
        }
    ).columns[0]
    assert column.codes_of(np.array([np.nan, 20, 25])).tolist() == [2, 0, 1]


def test_rows_that_cannot_be_are_found(schema):
    codes = np.array([[0, 0, 3], [0, 0, 1], [0, 1, 1]], dtype=np.int16)
    (broken,) = schema.violations(codes).values()
    assert broken.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("edges = [40, 50, 60, 100]", "edges = [40, 40]", "larger than the one"),
        ("edges = [40, 50, 60, 100]", 'levels = ["a"]', "give edges, not levels"),
        ('levels = ["heart", "cancer"]', 'levels = ["heart", "OTHER"]', "means something else"),
        ('then = { cause = ["missing"] }', 'then = { cause = ["plague"] }', "has no 'plague'"),
        ('then = { cause = ["missing"] }', 'then = { reason = ["a"] }', "no such column"),
        ('person = "id"', 'person = "age"', "cannot be released"),
        ('person = "id"', "", "name the person column"),
        ('name = "dead"', 'name = "AGE"', "distinct names"),
        ('name = "dead"', 'name = "=1+1"', "not plain"),
        ("declared_count = 2000", "declared_count = 20", "declared_count"),
    ],
)
def test_a_schema_that_says_two_things_is_refused(tmp_path, old, new, reason):
    path = tmp_path / "schema.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidParameter, match=reason):
        read_schema(path)


SURVIVAL = """
[survival]
time = "age"
event = "dead"
happened = ["yes"]
"""


def test_time_and_event_are_declared_or_not_at_all(schema, tmp_path):
    assert schema.survival is None
    path = tmp_path / "survival.toml"
    path.write_text(TEXT + SURVIVAL, encoding="utf-8")
    assert read_schema(path).survival.happened == ("yes",)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('time = "age"', 'time = "dead"', "a time of numbers"),
        ('event = "dead"', 'event = "died"', "no such column"),
        ('happened = ["yes"]', 'happened = ["maybe"]', "has no 'maybe'"),
    ],
)
def test_survival_of_what_there_is_not_is_refused(tmp_path, old, new, reason):
    path = tmp_path / "survival.toml"
    path.write_text(TEXT + SURVIVAL.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidParameter, match=reason):
        read_schema(path)


@pytest.mark.parametrize(
    ("place", "field"),
    [("columns", "unit"), ("columns", "description"), ("constraints", "name"), ("", "person")],
)
def test_text_that_a_terminal_would_obey_is_refused(place: str, field: str) -> None:
    document = {
        "declared_count": 100,
        "person": "id",
        "columns": [{"name": "sex", "kind": "category", "levels": ["f", "m"]}],
        "constraints": [{"name": "two", "then": {"sex": ["f", "m"]}}],
    }
    TableSchema.model_validate(document)
    where = document[place][0] if place else document
    where[field] = "a\x00b\x1b[2J"
    with pytest.raises(ValidationError, match="pattern"):
        TableSchema.model_validate(document)
