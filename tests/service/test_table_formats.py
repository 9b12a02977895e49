"""A table's bundle whose formats differ, or hold what was not declared, is refused although it is signed."""

import shutil
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from privacy import bundle
from service.bundle_formats import compare
from service.domain.datasets import Dataset
from service.domain.declarations import ReleaseDeclaration
from service.domain.errors import InputRefused
from service.operations.declaring import fit_formats
from service.spreadsheets import escaped, is_formula, unescaped
from tests.service.test_bundle_formats import sign_again
from tests.workers.bundle_material import synthetic_set
from tests.workers.table_material import SCHEMA, make_table_bundle, synthetic_table

FILE = "parquet/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_table_bundle(
        tmp_path_factory.mktemp("made") / "bundle", synthetic_table(60, test_share=0.1)
    )


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "bundle")


def in_csv(change, reason):
    def edit(folder):
        path = folder / "csv" / "train.csv"
        lines = path.read_text(encoding="utf-8").split("\n")
        changed = change(lines)
        path.write_text("\n".join(lines if changed is None else changed), encoding="utf-8")
        return "csv/train.csv", reason

    return edit


def in_parquet(change, reason):
    def edit(folder):
        parquet.write_table(change(parquet.read_table(folder / FILE)), folder / FILE)
        return FILE, reason

    return edit


def cell(lines, column, text):
    cells = lines[1].split(",")
    cells[column] = text
    lines[1] = ",".join(cells)


def column(table, name, array):
    return table.set_column(table.schema.names.index(name), name, array)


BROKEN = {
    "a number": in_csv(lambda lines: cell(lines, 0, "41"), "has 41 for 'age' in row 0"),
    "a level": in_csv(lambda lines: cell(lines, 3, '"x"'), "holds 'x' in 'sex'"),
    "an empty text": in_csv(lambda lines: cell(lines, 4, '""'), "holds '' in 'grade'"),
    "a missing cell": in_csv(lambda lines: cell(lines, 0, ""), "has an empty cell in 'age'"),
    "out of bounds": in_csv(lambda lines: cell(lines, 0, "111"), "outside of 0 to 110"),
    "no number": in_csv(lambda lines: cell(lines, 1, "nan"), "outside of -40 to 40"),
    "a formula": in_csv(lambda lines: cell(lines, 3, '"=1+1"'), "a spreadsheet would run"),
    "a formula for a number": in_csv(lambda lines: cell(lines, 0, "=1+1"), "cannot be read as CSV"),
    "one row less": in_csv(lambda lines: lines.pop(1) and None, "in row 0"),
    "a lost end": in_csv(lambda lines: [*lines[:-2], ""], "holds 53 of the 54 rows of train"),
    "one row more": in_csv(lambda lines: lines.insert(1, lines[1]), "holds 55 of the 54 rows"),
    "a cell more": in_csv(lambda lines: cell(lines, 0, "1,1"), "cannot be read as CSV"),
    "a column's name": in_csv(
        lambda lines: [lines[0].replace("age", "Age"), *lines[1:]], "has other columns"
    ),
    "no CSV": in_csv(lambda _: ["\x00\n\x00"], "has other columns"),
    "a Parquet level": in_parquet(
        lambda table: column(table, "sex", pa.array(["?"] * len(table))), "holds '?' in 'sex'"
    ),
    "a Parquet type": in_parquet(
        lambda table: column(table, "age", pa.array([str(n) for n in table["age"].to_pylist()])),
        "holds string for 'age'",
    ),
    "a Parquet NaN": in_parquet(
        lambda table: column(table, "change", pa.array(np.full(len(table), np.nan))),
        "outside of -40 to 40",
    ),
    "a Parquet column": in_parquet(lambda table: table.drop_columns("visits"), "other columns"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_signed_table_whose_formats_differ_is_refused_and_says_where(folder, change):
    file, expected = change(folder)
    sign_again(folder)
    found = compare(folder).problems
    # Either file of two that differ may be named; one that breaks the declaration is itself.
    assert any(expected in reason for _, reason in found), found
    assert any(name == file for name, _ in found), found


def test_a_parquet_file_that_is_none_is_named(folder):
    (folder / FILE).write_bytes(b"PAR1")
    sign_again(folder)
    [(file, reason), *_] = compare(folder).problems
    assert file == FILE
    assert "cannot be read as Parquet" in reason


def test_a_zip_of_a_table_is_compared_like_its_folder(made, tmp_path):
    bundle.write_zip(made, tmp_path / "b.zip")
    found = compare(tmp_path / "b.zip")
    assert found == compare(made)
    assert not found.problems
    assert [(check.format, check.rows) for check in found.formats] == [("parquet", 60), ("csv", 60)]


def test_tables_are_reported_as_not_checked_where_their_library_is_missing(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = compare(made)
    assert not any(check.checked for check in found.formats)
    assert all("pyarrow is not installed" in (check.reason or "") for check in found.formats)


@pytest.mark.parametrize(
    ("text", "cell_text"),
    [
        ("plain", "plain"), ("'s", "'s"), ("x=1", "x=1"), ("=1", "'=1"), ("-1", "'-1"), ("@a", "'@a"),
        ("'=1", "''=1"), ("''+", "'''+"), ("\tx", "'\tx"), ("\uff1d1", "'\uff1d1"), ("", ""),
    ],
)  # fmt: skip
def test_an_escaped_text_is_no_formula_and_comes_back(text, cell_text):
    assert escaped(text) == cell_text
    assert not is_formula(escaped(text))
    assert unescaped(escaped(text)) == text


def dataset_of(declared):
    return Dataset(
        id="dst_1", tenant_id="ten_1", cohort_id="coh_1", name="knees", purpose="teaching",
        declared=declared.model_dump(mode="json"), created_by="usr_1", created_at=datetime.now(UTC),
    )  # fmt: skip


TABLE, IMAGES = dataset_of(SCHEMA), dataset_of(synthetic_set().schema)


@pytest.mark.parametrize(
    ("dataset", "declared", "said"),
    [
        (TABLE, {"formats": ("dicom",)}, "format dicom was refused: this dataset holds a table"),
        (TABLE, {"formats": ("csv", "medmnist")}, "Choose from: parquet, csv"),
        (IMAGES, {"formats": ("csv",)}, "format csv was refused: this dataset holds images"),
        (IMAGES, {"marginals": True}, "Noisy marginals were refused: this dataset holds images"),
    ],
)
def test_a_format_that_the_records_cannot_have_is_refused(dataset, declared, said):
    with pytest.raises(InputRefused, match=said):
        fit_formats(ReleaseDeclaration(**declared), dataset)


def test_a_table_has_both_its_formats_unless_one_is_chosen():
    assert fit_formats(ReleaseDeclaration(), TABLE).formats == ("parquet", "csv")
    assert fit_formats(ReleaseDeclaration(formats=("csv",)), TABLE).formats == ("csv",)
    assert fit_formats(ReleaseDeclaration(), IMAGES) == ReleaseDeclaration()
