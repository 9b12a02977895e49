"""A CSV and a Parquet file of one table become the same stored rows, without identifiers."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from tests.workers.table_uploads import SECRET, clinic_rows, clinic_schema, write_csv
from workers.intake import Limits
from workers.intake.tables import read_table_upload
from workers.intake.tables.cells import ColumnCells

KEY = b"key"


def read(path, folder, *, schema=None, **limits):
    result = read_table_upload(
        path,
        schema=schema or clinic_schema(),
        tenant_key=KEY,
        out=folder,
        limits=Limits(**limits),
    )
    names = ("table", "persons", "person_digests", "duplicated_persons")
    return result, {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in names}


def write_parquet(path, rows):
    columns = {name: [None if row[name] == "" else row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns), path)
    return path


def test_csv_and_parquet_of_one_table_are_stored_alike(tmp_path):
    rows = clinic_rows()
    from_csv, one = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "csv")
    from_parquet, two = read(write_parquet(tmp_path / "a.parquet", rows), tmp_path / "parquet")
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])
    assert from_csv.blobs == from_parquet.blobs
    assert from_csv.columns == from_parquet.columns
    assert (from_csv.source_format, from_parquet.source_format) == ("csv", "parquet")
    np.testing.assert_array_equal(from_csv.content_digests, from_parquet.content_digests)


def test_rows_keep_their_order_and_persons_all_their_rows(tmp_path):
    rows = clinic_rows()
    result, stored = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "out")
    assert stored["table"][:, 0].tolist() == [row["age"] for row in rows]
    assert stored["table"][:, 2].tolist() == ["fm".index(row["sex"]) for row in rows]
    whose = [row["patient_id"] for row in rows]
    same = stored["persons"][:, None] == stored["persons"]
    assert (same == (np.array(whose)[:, None] == np.array(whose))).all()
    assert result.person_count == len(set(whose)) == len(stored["person_digests"])
    assert sorted(map(bytes, stored["person_digests"])) == list(
        map(bytes, stored["person_digests"])
    )


def test_no_identifier_is_in_what_is_stored_or_told(tmp_path):
    result, _ = read(write_csv(tmp_path / "a.csv", clinic_rows()), tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        assert SECRET.encode() not in file.read_bytes()
    told = (result.dropped, result.ignored_columns, result.columns, result.violations)
    assert SECRET not in json.dumps(told)
    assert result.ignored_columns == ("note",)


def test_what_lies_outside_of_the_bounds_is_clipped_and_counted(tmp_path):
    rows = clinic_rows()
    rows[0] |= {"age": 12, "grade": 1, "cause": ""}
    rows[1] |= {"bmi": "99.5", "age": 104}
    result, stored = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "out")
    assert stored["table"][0, 0] == 40
    assert stored["table"][1, :2].tolist() == [100, 60]
    assert result.columns["age"] == {"clipped_below": 1, "clipped_above": 1}
    assert result.columns["bmi"]["clipped_above"] == 1


def test_rows_that_break_a_constraint_are_counted(tmp_path):
    rows = clinic_rows()
    broken = [row for row in rows if row["grade"] == 0][:3]
    for row in broken:
        row["cause"] = "heart"
    result, _ = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "out")
    assert result.violations == {"no cause without a grade": 3}


def test_undeclared_levels_are_one_where_the_column_takes_others(tmp_path):
    columns = [c.model_dump() for c in clinic_schema().columns]
    columns[2] |= {"other": True}
    rows = clinic_rows()
    rows[4]["sex"] = SECRET
    result, stored = read(
        write_csv(tmp_path / "a.csv", rows), tmp_path / "out", schema=clinic_schema(columns=columns)
    )
    assert stored["table"][4, 2] == 2
    assert result.columns["sex"] == {"other": 1}


def test_twins_are_persons_all_of_whose_rows_are_equal(tmp_path):
    rows = clinic_rows()
    rows[0] |= {"bmi": 21.125}  # person 0 has one row, and person 2 gets the same
    third = next(row for row in rows if row["patient_id"].endswith("-2"))
    third |= {name: value for name, value in rows[0].items() if name != "patient_id"}
    rows[2] |= {name: value for name, value in rows[1].items() if name != "patient_id"}
    result, stored = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "out")
    twins = {rows[n]["patient_id"] for n in np.flatnonzero(
        stored["duplicated_persons"][stored["persons"]])}  # fmt: skip
    assert {rows[0]["patient_id"], third["patient_id"]} <= twins
    assert rows[1]["patient_id"] not in twins
    assert result.duplicates.persons == len(twins)
    assert result.duplicates.rows_repeated_within_person == 1


def test_a_row_that_is_its_own_unit_needs_no_person(tmp_path):
    schema = clinic_schema(unit="record", person="", declared_count=300)
    rows = clinic_rows()
    rows[1] = dict(rows[0])
    _, stored = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "one", schema=schema)
    _, again = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "two", schema=schema)
    assert len(stored["person_digests"]) == len(rows)
    assert stored["duplicated_persons"][stored["persons"][:2]].all()
    np.testing.assert_array_equal(stored["person_digests"], again["person_digests"])


def test_the_same_table_is_known_again_under_other_ids_and_in_another_order(tmp_path):
    rows = clinic_rows()
    other = [{**row, "patient_id": f"x{n}"} for n, row in enumerate(rows[5:])][::-1]
    columns = [column.model_dump() for column in clinic_schema().columns][::-1]
    first, _ = read(write_csv(tmp_path / "a.csv", rows), tmp_path / "one")
    second, _ = read(
        write_csv(tmp_path / "b.csv", other),
        tmp_path / "two",
        schema=clinic_schema(columns=columns, declared_count=300),
    )
    strangers, _ = read(write_csv(tmp_path / "c.csv", clinic_rows(seed=9)), tmp_path / "three")

    def contents(result):
        return set(map(bytes, result.content_digests))

    assert len(contents(first) & contents(second)) > len(contents(first)) / 2
    assert not contents(first) & contents(strangers)


def test_large_files_are_read_in_pieces_with_rows_in_place(tmp_path):
    count = 60_000
    schema = TableSchema.model_validate(
        {
            "unit": "record",
            "declared_count": count,
            "columns": [{"name": "n", "kind": "integer", "edges": [0, count]}],
        }
    )
    numbers = np.random.default_rng(0).permutation(count)
    text = "n,rest\n" + "\n".join(f'{n},"a line\nand another, {"x" * 90}"' for n in numbers)
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    pq.write_table(pa.table({"n": numbers}), tmp_path / "a.parquet", row_group_size=25_000)
    for name in ("a.csv", "a.parquet"):
        _, stored = read(tmp_path / name, tmp_path / f"out-{name}", schema=schema)
        np.testing.assert_array_equal(stored["table"][:, 0], numbers)


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=12
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=30))
def test_any_text_is_read_or_refused_and_never_repeated(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("any")
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("sex", "bmi"), *pairs])
    (folder / "a.csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
    schema = clinic_schema(
        unit="record",
        person="",
        declared_count=50,
        constraints=(),
        columns=[
            {"name": "sex", "kind": "category", "levels": ["f"], "other": True, "missing": True},
            {"name": "bmi", "kind": "number", "edges": [0, 10], "missing": True},
        ],
    )
    try:
        _, stored = read(folder / "a.csv", folder / "out", schema=schema, minimum_units=1)
    except InputRefused as refusal:
        sentence = refusal.sentence
    else:
        sentence = "the table is read"
        assert set(stored["table"][:, 0].tolist()) <= {0, 1, 2}
    words = ("is read", "is no number", "too few", "be parsed", "number of cells", "has no rows")
    assert any(word in sentence for word in words)


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.none(), st.just(float("nan")))), st.booleans())
def test_a_number_is_stored_as_it_is_however_it_was_written(numbers, as_text):
    column = clinic_schema(
        columns=[{"name": "x", "kind": "number", "edges": [-2e6, 2e6], "missing": True}],
        constraints=(),
    ).columns[0]
    written = [("NA" if n is None else repr(n)) if as_text else n for n in numbers]
    cells = ColumnCells(column, cell_characters=256)
    stored = cells.values(pa.array(written, pa.string() if as_text else pa.float64()), first_row=1)
    expected = [float("nan") if n is None else n for n in numbers]
    np.testing.assert_array_equal(stored, np.asarray(expected, dtype=np.float64))
    assert cells.refusal("a.csv") is None


@pytest.mark.parametrize(
    ("levels", "written", "kind"),
    [
        (("0", "1"), [0.0, 1.0, None], pa.float64()),
        (("0", "1"), [0, 1, None], pa.int32()),
        (("no", "yes"), [False, True, None], pa.bool_()),
        (("false", "true"), [False, True, None], pa.bool_()),
        (("none", "NA"), ["none", "NA", ""], pa.string()),
        (("Ä", "軽度"), [" Ä", "軽度 ", "nan"], pa.large_string()),
    ],
)
def test_a_level_is_known_however_a_program_writes_it(levels, written, kind):
    columns = [{"name": "x", "kind": "category", "levels": levels, "missing": True}]
    column = clinic_schema(columns=columns, constraints=()).columns[0]
    cells = ColumnCells(column, cell_characters=256)
    assert cells.values(pa.array(written, kind), first_row=1).tolist() == [0, 1, 2]
    assert cells.refusal("a.csv") is None
