"""The table benchmark asks every method the same, and says why one was not measured."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import table_sets, tables
from benchmarks.table_source import TABLES
from privacy.table_schema import read_schema

SCHEMA = """
declared_count = 400
person = "id"

[[columns]]
name = "age"
kind = "integer"
edges = [40, 50, 60, 70, 80]

[[columns]]
name = "dead"
kind = "category"
levels = ["no", "yes"]
role = "target"
"""


@pytest.fixture
def files(tmp_path):
    """Write a table of 400 persons with one or two rows, and its schema."""
    rng = np.random.default_rng(0)
    schema, data = tmp_path / "schema.toml", tmp_path / "cohort.csv"
    schema.write_text(SCHEMA, encoding="utf-8")
    with data.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "age", "dead", "ignored"])
        for person in range(400):
            for _ in range(1 + person % 2):
                age = int(rng.integers(40, 81))
                dead = "yes" if rng.random() < (age - 35) / 60 else "no"
                writer.writerow([f"P{person}", age, dead, "x"])
    return data, schema


def test_a_file_is_read_like_an_upload_and_its_parts_share_nobody(files):
    data, schema = files
    table = table_sets.load(str(data), schema_file=schema)
    assert table.name == "cohort"
    assert table.codes.shape == (600, 2)
    taught, judged = tables.divided(table.persons, share=tables.TRAIN_SHARE, seed=0)
    assert not set(table.persons[taught]) & set(table.persons[judged])
    part = table.part(taught)
    assert part.schema.declared_count == 300
    assert part.persons.max() == 299


@pytest.mark.parametrize("name", table_sets.NAMES)
def test_the_schemas_of_named_tables_can_be_read(name):
    schema = read_schema(table_sets._SCHEMAS / f"{name}.toml")
    assert len(schema.targets) == 1
    assert name in TABLES


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "nowhere.csv"], "needs --schema"),
        (["--data", "flchain", "--methods", "sdv"], "--methods sdv was refused"),
        (["--data", "flchain", "--peers", "sdv"], "--peers sdv was refused"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(tmp_path, arguments, reason):
    out = tmp_path / "out.json"
    done = CliRunner().invoke(tables.main, [*arguments, "--epsilon", "1", "--json", str(out)])
    assert done.exit_code == 2
    assert reason in done.output
    assert not out.exists()


def test_a_setting_of_a_method_that_does_not_run_is_refused():
    with pytest.raises(tables.Refused, match=r"METHOD\.FIELD"):
        tables._settings(("mst.cells=3",), ("aim",))
    assert tables._settings(("aim.cells=3",), ("aim",)) == {"aim": {"cells": 3}}


def test_persons_of_both_parts_have_numbers_of_their_own(files):
    data, schema = files
    table = table_sets.load(str(data), schema_file=schema)
    taught, judged = tables.divided(table.persons, share=tables.TRAIN_SHARE, seed=0)
    train, test = table.part(taught), table.part(judged)
    found = tables.score(train.codes, train, test, epsilon=1.0, effort=tables.Effort(bootstraps=2))
    assert found.trained_persons == 300
    assert found.held_out_persons == 100
    row = tables.as_row(found)
    assert row["tvd_2"] == pytest.approx(0, abs=0.1)
    assert row["beats_independent_columns"]


@pytest.mark.slow
def test_the_document_has_the_floor_real_rows_and_reasons(files, tmp_path, monkeypatch):
    monkeypatch.setitem(tables.PEERS, "mbi_mst", tables.Peer(("./no-such-folder",)))
    monkeypatch.setenv("KAIMA_BENCHMARK_CACHE", str(tmp_path / "cache"))
    data, schema = files
    out = tmp_path / "out.json"
    arguments = ["--data", str(data), "--schema", str(schema), "--epsilon", "1"]
    arguments += ["--methods", tables.FLOOR, "--peers", "mbi_mst", "--json", str(out)]
    done = CliRunner().invoke(tables.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    document = json.loads(out.read_text())
    (row,) = document["results"]
    assert row["method"] == tables.FLOOR
    assert row["epsilon_rederived"] <= 1
    assert row["cpu_seconds"] > 0 < row["peak_bytes"]
    assert document["real"]["tvd"]["drawn_again"]["tvd_1"] > 0
    assert document["summary"][tables.FLOOR]["tvd_2"]["seeds"] == 1
    (failure,) = document["failures"]
    assert failure["what"].startswith("mbi_mst")
    assert "pip" in failure["reason"]
