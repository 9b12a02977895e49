"""The same persons and the same columns are known again, however a program wrote them."""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from service.domain.persons import is_float
from tests.workers.intake import uploads
from tests.workers.table_uploads import clinic_rows, clinic_schema, write_csv
from workers.intake import read_upload
from workers.intake.tables import read_table_upload

KEY = b"key"
ROWS = 600
COLUMNS = (
    {"name": "age", "kind": "integer", "edges": [0, 20, 40, 60, 80, 100]},
    {"name": "sex", "kind": "category", "levels": ["f", "m"]},
    {"name": "pressure", "kind": "number", "edges": [50, 100, 150, 200]},
    {"name": "visit", "kind": "integer", "edges": [-1, ROWS]},
)


def measured(seed: int = 0) -> list[dict[str, object]]:
    """Return rows with a coarse column, two that tell tables apart, and one that counts rows."""
    rng = np.random.default_rng(seed)
    return [
        {
            "age": int(rng.integers(0, 100)),
            "sex": "fm"[int(rng.integers(2))],
            "pressure": round(float(rng.uniform(50, 200)), 1),
            "visit": number,
        }
        for number in range(ROWS)
    ]


def columns_of(folder, rows, columns=COLUMNS):
    """Return the digests of a table's columns, declared so, with a row as the unit."""
    folder.mkdir()
    schema = TableSchema.model_validate(
        {"unit": "record", "declared_count": ROWS, "columns": columns}
    )
    path = write_csv(folder / "a.csv", rows)
    found = read_table_upload(path, schema=schema, tenant_key=KEY, out=folder / "out")
    return set(map(bytes, found.column_digests)), set(map(bytes, found.content_digests))


def without(place: int):
    return tuple(column for at, column in enumerate(COLUMNS) if at != place)


def test_a_table_is_known_again_with_a_column_left_out_renamed_or_bounded_otherwise(tmp_path):
    rows = measured()
    first, contents = columns_of(tmp_path / "first", rows)
    wider = ({**COLUMNS[0], "edges": [5, 50, 95]}, {**COLUMNS[2], "edges": [60, 190]})
    renamed = ({**COLUMNS[0], "name": "years"}, *COLUMNS[1:])
    named = [{"years": row["age"], **row} for row in rows[::-1]]
    others = {
        "no age": columns_of(tmp_path / "a", rows, without(0)),
        "no pressure": columns_of(tmp_path / "b", rows, without(2)),
        "other bounds": columns_of(tmp_path / "c", rows, wider),
        "renamed and turned round": columns_of(tmp_path / "d", named, renamed),
        "three rows fewer": columns_of(tmp_path / "e", rows[3:]),
    }
    for what, (columns, rows_of) in others.items():
        assert len(first & columns) > 10, what
        if what != "three rows fewer":
            assert not contents & rows_of, what  # whole rows are not enough


def test_tables_of_other_persons_share_no_column_and_each_column_few_digests(tmp_path):
    first, _ = columns_of(tmp_path / "first", measured())
    for seed in range(1, 9):
        strangers, _ = columns_of(tmp_path / f"{seed}", measured(seed))
        assert not first & strangers
    assert len(first) <= 2 * 2 * 64


def test_columns_that_every_table_could_have_are_not_known_again(tmp_path):
    coarse, _ = columns_of(tmp_path / "coarse", measured(), (COLUMNS[1], COLUMNS[3]))
    assert not coarse


@pytest.mark.parametrize("written", ["17.0", "17.", "17.000", " 17.0 ", "1e+16", "1.5e3", "+17.0"])
def test_an_id_written_as_a_float_is_refused_in_tables_and_beside_images(tmp_path, written):
    rows = clinic_rows()
    rows[3]["patient_id"] = written
    with pytest.raises(InputRefused, match=r"looks like a decimal number.*17, not 17\.0"):
        read_table_upload(
            write_csv(tmp_path / "a.csv", rows),
            schema=clinic_schema(),
            tenant_key=KEY,
            out=tmp_path / "table",
        )
    assert not list((tmp_path / "table").glob("*.npy"))
    if written.startswith("+"):
        return  # beside images, refused as a formula
    images = uploads.png_upload()
    images.rows[3][1] = written
    with pytest.raises(InputRefused, match="looks like a decimal number"):
        read_upload(
            images.write(tmp_path / "upload.zip"),
            schema=uploads.schema(),
            tenant_key=KEY,
            out=tmp_path / "images",
        )


@pytest.mark.parametrize("written", ["17", "017", "A17.0", "12E5", "12E-5", "1.2.0", "17.5", "p-1"])
def test_other_ids_are_taken_as_they_are(written):
    assert not is_float(written)


def persons_of(tmp_path, cells: pa.Array):
    """Return digests of the persons of a Parquet file whose ids are these cells."""
    schema = clinic_schema(
        declared_count=len(cells),
        constraints=[],
        columns=[{"name": "age", "kind": "integer", "edges": [0, 100]}],
    )
    pq.write_table(pa.table({"patient_id": cells, "age": [5] * len(cells)}), tmp_path / "a.parquet")
    out = tmp_path / str(cells.type)
    read_table_upload(tmp_path / "a.parquet", schema=schema, tenant_key=KEY, out=out)
    return np.load(out / "person_digests.npy")


def test_whole_numbers_are_the_same_persons_whatever_type_parquet_gives_them(tmp_path):
    numbers = list(range(100, 180))
    expected = persons_of(tmp_path, pa.array(map(str, numbers)))
    for kind in (pa.int64(), pa.float64(), pa.float32()):
        found = persons_of(tmp_path, pa.array(numbers, kind))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([float(2**53 + 2 * n) for n in range(80)]),
        pa.array([float(2**24 + 2 * n) for n in range(80)], pa.float32()),
        pa.array([decimal.Decimal(f"{n}.00") for n in range(80)]),
    ],
    ids=["float64", "float32", "decimal"],
)
def test_floats_too_large_to_tell_whole_numbers_apart_and_decimals_are_refused(tmp_path, cells):
    with pytest.raises(InputRefused, match="looks like a decimal number"):
        persons_of(tmp_path, cells)
