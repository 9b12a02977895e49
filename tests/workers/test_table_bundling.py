"""A table's bundle holds the same rows in every format, and nothing that is not on the whitelist."""

import csv
import io
import json
import re
import tracemalloc

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from privacy import bundle
from privacy.errors import InvalidParameter
from privacy.manifests import ReleaseCertificate
from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import Column, TableSchema
from service.bundle_formats import compare
from service.domain.declarations import ReleaseDeclaration
from service.spreadsheets import unescaped
from tests.workers.bundle_material import PUBLIC, certificate_of
from tests.workers.table_material import (
    HOSTILE,
    HOSTILE_LEVELS,
    SCHEMA,
    make_table_bundle,
    synthetic_table,
)
from workers.bundling import contents, marginals
from workers.bundling.marginals import Marginal
from workers.bundling.table_files import write_csv, write_parquet
from workers.bundling.table_preview import draw_preview
from workers.bundling.table_rows import SyntheticTable
from workers.statements import statements

TRAIN = "parquet/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_table_bundle(tmp_path_factory.mktemp("plain") / "bundle", synthetic_table())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    synthetic = synthetic_table(80, schema=HOSTILE, test_share=0.25)
    return make_table_bundle(tmp_path_factory.mktemp("hostile") / "bundle", synthetic)


def accepted(folder):
    result = bundle.verify_bundle(folder, public_key=PUBLIC)
    assert result.accepted, result.problems
    found = compare(folder)
    assert not found.problems
    assert all(check.checked for check in found.formats)
    return {check.format: check.rows for check in found.formats}


def csv_rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def one_column(column, values):
    schema = TableSchema(declared_count=100, unit="record", columns=(column,))
    return SyntheticTable(values=np.asarray(values, dtype=np.float64)[:, None], schema=schema)


def test_every_format_holds_the_same_rows(plain, hostile):
    assert accepted(plain) == {"parquet": 50, "csv": 50}
    assert accepted(hostile) == {"parquet": 80, "csv": 80}


def test_values_come_back_typed_with_missing_cells_and_negative_numbers(tmp_path):
    synthetic = synthetic_table()
    for index, column in enumerate(synthetic.schema.columns):
        synthetic.values[0, index] = {"change": -0.5, "visits": -5}.get(column.name, 0)
        synthetic.values[1, index] = np.nan if column.name in {"change", "visits"} else 0
    synthetic.values[1, 4] = 3  # the code of a missing grade
    folder = make_table_bundle(tmp_path / "bundle", synthetic)
    rows = parquet.read_table(folder / TRAIN).to_pylist()
    assert rows[0] == {"age": 0, "change": -0.5, "visits": -5, "sex": "f", "grade": "0"}
    assert rows[1] == {"age": 0, "change": None, "visits": None, "sex": "f", "grade": None}
    _, first, second, *_ = (folder / "csv" / "train.csv").read_text().split("\n")
    assert first == '0,-0.5,-5,"f","0"'
    assert second == '0,,,"f",'


def test_columns_are_typed_and_carry_their_units(plain):
    schema = parquet.read_schema(plain / TRAIN)
    kinds = [field.type for field in schema]
    assert kinds[:3] == [pa.int64(), pa.float64(), pa.int64()]
    assert all(pa.types.is_dictionary(kind) for kind in kinds[3:])
    assert [kind.ordered for kind in kinds[3:]] == [False, True]
    assert schema.field("age").metadata[b"unit"] == b"years"
    assert schema.field("grade").metadata == {b"kind": b"ordinal", b"role": b"target"}
    assert schema.metadata is None
    told = parquet.ParquetFile(plain / TRAIN).metadata.row_group(0).column(3)
    assert "RLE_DICTIONARY" in told.encodings


def test_no_cell_of_a_hostile_table_is_a_formula_and_each_comes_back(hostile):
    header, *rows = csv_rows(hostile / "csv" / "train.csv")
    assert header[0] == "'\uff1dcmd"
    words = {row[0] for row in rows} | {row[0] for row in csv_rows(hostile / "csv" / "test.csv")}
    assert {"'\uff1d1+1", "''\uff0b1", "'s", "NA", "01", "", "OTHER"} <= words
    assert not any(word[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20") for word in words)
    assert any(float(row[1]) < 0 for row in rows)
    stored = parquet.read_table(hostile / TRAIN).column(0).to_pylist()
    read = [unescaped(row[0]) or None for row in rows]
    assert read == stored
    assert set(stored) <= {*HOSTILE_LEVELS, "OTHER", None}


@pytest.mark.parametrize("level", ["=1+1", "+1", "-1", "@SUM", "a\nb", "a\rb", "a\tb", "a|b", " a"])
def test_levels_that_no_format_could_carry_are_refused_by_the_schema(level):
    with pytest.raises(ValidationError, match="is not plain"):
        Column(name="x", kind="category", levels=(level,))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (Column(name="n", kind="integer", edges=(0, 9)), 10, "10 in 'n' is no cell"),
        (Column(name="n", kind="integer", edges=(0, 9)), 1.5, "1.5 in 'n' is no cell"),
        (Column(name="n", kind="number", edges=(0, 9)), np.inf, "inf in 'n' is no cell"),
        (Column(name="n", kind="number", edges=(0, 9)), np.nan, "a cell of 'n' is empty"),
        (Column(name="c", kind="category", levels=("a",)), 1, "1 in 'c' is no cell"),
        (Column(name="c", kind="category", levels=("a",)), -1, "-1 in 'c' is no cell"),
        (Column(name="c", kind="category", levels=("a",)), np.nan, "nan in 'c' is no cell"),
    ],
)
def test_a_cell_that_was_not_declared_stops_the_packaging(column, value, said):
    synthetic = one_column(column, [0, value])
    with pytest.raises(InvalidParameter, match=said):
        list(synthetic.batches("train"))


def test_numbers_come_back_from_csv_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=500) * 10.0 ** rng.integers(-12, 12, 500)
    column = Column(name="x", kind="number", edges=(-1e30, 0, 1e30))
    values = np.concatenate([drawn, [-0.0, 1e-300, -1e30, 0.1, -1 / 3]])
    write_csv(tmp_path, one_column(column, values), "train")
    read = [float(row[0]) for row in csv_rows(tmp_path / "csv" / "train.csv")[1:]]
    assert np.array_equal(read, values)
    assert not np.signbit(read[500])


@pytest.mark.parametrize(("share", "test"), [(0.0, 0), (0.25, 20), (0.5, 40)])
def test_a_split_takes_its_share_and_leaves_no_row_out(share, test):
    synthetic = synthetic_table(80, test_share=share)
    assert synthetic.splits == ({"train": 80 - test} | ({"test": test} if test else {}))
    whole = np.concatenate([synthetic.numbers(split) for split in synthetic.splits])
    assert sorted(whole.tolist()) == list(range(80))


@pytest.mark.parametrize("chosen", [("csv",), ("parquet",)], ids=str)
def test_a_table_bundle_holds_the_formats_that_the_owner_chose(tmp_path, chosen):
    declared = ReleaseDeclaration(formats=chosen)
    folder = make_table_bundle(tmp_path / "bundle", synthetic_table(), declared=declared)
    assert accepted(folder) == dict.fromkeys(chosen, 50)
    sheet = (folder / "FORMATS.md").read_text(encoding="utf-8")
    assert {name for name in ("csv", "parquet") if f"`{name}/" in sheet} == set(chosen)


def test_equal_tables_give_equal_files(plain, tmp_path):
    again = make_table_bundle(tmp_path / "bundle", synthetic_table())
    for path in plain.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(plain)).read_bytes(), path


@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_every_key_of_a_table_bundle_is_on_the_whitelist(which, request):
    folder = request.getfixturevalue(which)
    document = (folder / "certificate.json").read_bytes()
    contents.check(folder, ReleaseCertificate.model_validate_json(document))
    for path in (folder / "parquet").iterdir():
        for field in parquet.read_schema(path):
            assert set(field.metadata) <= {b"kind", b"role", b"unit", b"description"}


@pytest.mark.parametrize("name", ["gallery.html", "notes.txt", "csv/val.csv", "medmnist/a.npz"])
def test_a_file_that_no_table_has_stops_the_packaging(tmp_path, name):
    synthetic, declared = synthetic_table(), ReleaseDeclaration(formats=("csv",))
    folder = make_table_bundle(tmp_path / "bundle", synthetic, declared=declared)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(InvalidParameter, match=f"{name} is not on the whitelist"):
        contents.check(folder, certificate_of(synthetic, declared))


def test_a_key_that_somebody_adds_to_the_data_package_stops_the_packaging(tmp_path):
    synthetic, declared = synthetic_table(), ReleaseDeclaration(formats=("csv",))
    folder = make_table_bundle(tmp_path / "bundle", synthetic, declared=declared)
    document = json.loads((folder / "datapackage.json").read_text())
    document["resources"][0]["schema"]["fields"][0]["mean_of_real_rows"] = 41.5
    (folder / "datapackage.json").write_text(json.dumps(document))
    with pytest.raises(InvalidParameter, match=r"mean_of_real_rows of datapackage\.json"):
        contents.check(folder, certificate_of(synthetic, declared))


@pytest.mark.parametrize("name", ["csv/train.csv", TRAIN, "datapackage.json", "preview.html"])
def test_a_tampered_table_bundle_is_refused_and_the_file_named(tmp_path, name):
    folder = make_table_bundle(tmp_path / "bundle", synthetic_table())
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    result = bundle.verify_bundle(folder, public_key=PUBLIC)
    assert not result.accepted
    assert [problem.file for problem in result.problems] == [name]


# What the Data Package standard 2.0 asks of a package, a resource, a dialect and a table schema.
DATA_PACKAGE = {
    "required": ["resources"],
    "properties": {
        "name": {"pattern": "^[a-z0-9._-]+$"},
        "created": {"format": "date-time"},
        "licenses": {"items": {"anyOf": [{"required": ["name"]}, {"required": ["path"]}]}},
        "contributors": {"items": {"properties": {"roles": {"type": "array"}}}},
        "resources": {
            "minItems": 1,
            "items": {
                "required": ["name", "path"],
                "properties": {
                    "type": {"enum": ["table", "file"]},
                    "path": {"pattern": r"^(?!/)(?!.*\.\.)[a-z0-9/.-]+$"},
                    "bytes": {"type": "integer", "minimum": 1},
                    "hash": {"pattern": "^sha256:[0-9a-f]{64}$"},
                    "schema": {
                        "required": ["fields"],
                        "properties": {
                            "fields": {
                                "minItems": 1,
                                "items": {
                                    "required": ["name", "type"],
                                    "properties": {
                                        "type": {"enum": ["integer", "number", "string"]},
                                        "constraints": {"required": ["required"]},
                                    },
                                },
                            }
                        },
                    },
                },
            },
        },
    },
}


@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_the_data_package_describes_the_rows_that_are_there(which, request):
    folder = request.getfixturevalue(which)
    document = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, DATA_PACKAGE, cls=jsonschema.Draft202012Validator)
    tables = [resource for resource in document["resources"] if resource["type"] == "table"]
    assert {resource["format"] for resource in document["resources"]} == {"csv", "parquet"}
    for resource in tables:
        header, *rows = csv_rows(folder / resource["path"])
        fields = resource["schema"]["fields"]
        assert header == [field["name"] for field in fields]
        for row in rows:
            for field, cell in zip(fields, row, strict=True):
                check_cell(field, cell)


def check_cell(field, cell):
    limits = field["constraints"]
    if cell == "":
        assert not limits["required"]
    elif field["type"] == "string":
        assert cell in limits["enum"]
        assert limits["enum"] == field["categories"]
    else:
        number = int(cell) if field["type"] == "integer" else float(cell)
        assert limits["minimum"] <= number <= limits["maximum"]


def test_card_and_preview_need_no_network_and_escape_what_owners_write(hostile):
    card = (hostile / "README.md").read_text(encoding="utf-8")
    page = (hostile / "preview.html").read_text(encoding="utf-8")
    assert "\\<script\\>" in card
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "{{ 7*7 }}" in page
    header = contents.read_document(hostile / "README.md")
    assert header["task_categories"] == ["tabular-classification"]
    assert header["configs"][0]["data_files"][0]["path"] == TRAIN


def test_the_card_counts_the_synthetic_rows_that_break_a_constraint(plain):
    synthetic = synthetic_table()
    broken = int((synthetic.values[:, 3] == 1).sum())
    assert broken > 0
    assert f"- women only: {broken} of 50" in (plain / "README.md").read_text(encoding="utf-8")
    assert "shares of persons" in (plain / "README.md").read_text(encoding="utf-8")


def test_the_picture_of_a_release_is_drawn_for_names_in_any_script():
    assert draw_preview(synthetic_table(schema=HOSTILE)).startswith(b"\x89PNG")


def test_noisy_marginals_go_along_with_their_sigma_if_the_owner_wants(tmp_path):
    synthetic = synthetic_table()
    noisy = Marginal(columns=(3, 4), sigma=12.5, counts=np.linspace(-3, 9, 8))
    folder = make_table_bundle(
        tmp_path / "bundle",
        SyntheticTable(values=synthetic.values, schema=SCHEMA, marginals=(noisy,)),
    )
    accepted(folder)
    document = json.loads((folder / "marginals.json").read_text(encoding="utf-8"))
    [found] = document["marginals"]
    assert (found["columns"], found["shape"], found["sigma"]) == (["sex", "grade"], [2, 4], 12.5)
    assert found["counts"] == noisy.counts.tolist()
    assert "weigh 1 together" in document["about"]
    assert "marginals.json" in (folder / "FORMATS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sigma", "counts"),
    [(0.0, [1.0, 2.0]), (np.nan, [1.0, 2.0]), (1.0, [1.0]), (1.0, [1.0, np.inf])],
)
def test_marginals_without_noise_or_of_another_shape_are_refused(tmp_path, sigma, counts):
    wrong = Marginal(columns=(3,), sigma=sigma, counts=np.asarray(counts))
    with pytest.raises(InvalidParameter, match="noisy marginal over"):
        marginals.write(tmp_path, (wrong,), schema=SCHEMA)


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    peaks = []
    for count in (20_000, 100_000):
        path = tmp_path / f"{count}.npy"
        np.save(path, synthetic_table(count).values)
        mapped = SyntheticTable(values=np.load(path, mmap_mode="r"), schema=SCHEMA, test_share=0.1)
        tracemalloc.start()
        write_parquet(tmp_path, mapped, "train")
        write_csv(tmp_path, mapped, "train")
        peaks.append(tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory())
        tracemalloc.stop()
    # The larger table is 4 MB; what grows is the list of the rows of a split.
    assert peaks[1] - peaks[0] < 3 << 20, peaks


def test_the_bytes_of_a_bundle_are_utf_8_without_a_mark(hostile):
    content = (hostile / "csv" / "train.csv").read_bytes()
    assert not content.startswith(b"\xef\xbb\xbf")
    assert "tëst" in io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()


@pytest.mark.parametrize(("modality", "other"), [("image", "row"), ("table", "image")])
@pytest.mark.parametrize("unit", UnitOfPrivacy)
def test_the_statements_of_a_certificate_speak_of_its_own_records(unit, modality, other):
    told = " ".join(statements(unit, modality=modality))
    assert not re.search(rf"\b{other}s?\b", told)
    assert ("per person" in told) is (unit is UnitOfPrivacy.PERSON)
