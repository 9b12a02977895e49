"""Phantom radiographs and their table: each row names its picture, and says what it was drawn from."""

import csv
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from privacy.table_schema import parse_schema
from training.phantom_clinic import COLUMNS, make_rows, schema_text, write_zip
from training.phantoms import make_cohort

PERSONS = 200
PIXELS = 16


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(PERSONS, pixels=PIXELS, seed=3)


@pytest.fixture(scope="module")
def upload(cohort, tmp_path_factory):
    path = tmp_path_factory.mktemp("clinic") / "clinic.zip"
    write_zip(cohort, path, seed=3)
    return path


@pytest.fixture(scope="module")
def rows(upload) -> list[dict[str, str]]:
    with zipfile.ZipFile(upload) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("table.csv").decode())))


def test_every_cell_is_within_what_is_declared(rows):
    schema = parse_schema(schema_text(PERSONS, pixels=PIXELS).encode(), name="clinic.toml")
    named = {schema.person, schema.images.column, *(column.name for column in schema.columns)}
    assert named == set(COLUMNS)
    for column in schema.columns:
        cells = {row[column.name] for row in rows}
        assert column.missing == ("" in cells)
        told = cells - {""}
        if column.is_numeric:
            assert all(column.edges[0] <= float(cell) <= column.edges[-1] for cell in told)
        else:
            assert told == set(column.levels)


def test_each_row_names_the_picture_of_its_own_knee(cohort, upload, rows):
    with zipfile.ZipFile(upload) as archive:
        assert sorted(archive.namelist()) == sorted(["table.csv", *(row["file"] for row in rows)])
        for (knee, _), row in list(zip(make_rows(cohort, seed=3), rows, strict=True))[:20]:
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(row["file"]))))
            is_right = row["side"] == "right"
            np.testing.assert_array_equal(pixels[:, :: -1 if is_right else 1], cohort.images[knee])
            assert row["kl_grade"] == str(cohort.grades[knee])
            assert is_right == bool(cohort.knees.is_right[knee])


def test_some_persons_have_two_pictures_and_one_age(rows):
    ages: dict[str, set[str]] = {}
    for row in rows:
        ages.setdefault(row["patient_id"], set()).add(row["age"])
    assert len(ages) == PERSONS < len(rows) < 2 * PERSONS
    assert all(len(found) == 1 for found in ages.values())


def test_the_same_cohort_and_seed_give_the_same_zip(cohort, upload, tmp_path):
    write_zip(cohort, tmp_path / "again.zip", seed=3)
    assert (tmp_path / "again.zip").read_bytes() == upload.read_bytes()


def test_pain_goes_with_the_grade_that_a_knee_was_drawn_from(rows):
    pain, grade = (np.array([float(row[name]) for row in rows]) for name in ("pain", "kl_grade"))
    assert np.corrcoef(pain, grade)[0, 1] > 0.6
