"""The scale benchmark's phantom table is one that the service would take."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import table_scale, table_sets
from privacy.table_schema import TableSchema


def test_sizes_grow_to_the_one_that_is_asked_for():
    assert table_scale.sizes(1_000_000, 3) == [100_000, 316_228, 1_000_000]
    assert table_scale.sizes(2_000, 2) == [2_000, 2_000]


def test_the_phantom_table_fits_its_schema_and_its_columns_hang_together(tmp_path):
    table_scale.write_table(tmp_path, rows=3_000, columns=9, seed=1)
    schema = TableSchema.model_validate_json((tmp_path / "schema.json").read_text())
    table = table_sets.read(tmp_path / "table.csv", schema, name="phantoms")
    assert table.codes.shape == (3_000, 9)
    assert all(len(np.unique(table.codes[:, column])) > 1 for column in range(9))
    related = np.abs(np.corrcoef(table.codes.T)) - np.eye(9)
    assert related.max() > 0.3


def test_slopes_are_those_of_logarithms():
    rows = [{"rows": n, "stage": "fit", "seconds": 2e-3 * n} for n in (100, 1000, 10_000)]
    found = table_scale.slopes([*rows, {"rows": 5, "stage": "audit", "seconds": 1.0}], "seconds")
    assert found["fit"] == pytest.approx(1)
    assert found["audit"] is None


@pytest.mark.slow
def test_every_stage_is_measured(tmp_path):
    out = tmp_path / "out.json"
    arguments = ["--rows", "2000", "--columns", "5", "--sizes", "1", "--json", str(out)]
    arguments += ["--method", "independent_columns", "--audit-samples", "300"]
    done = CliRunner().invoke(table_scale.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    document = json.loads(out.read_text())
    assert not document["failures"]
    assert [row["stage"] for row in document["results"]] == list(table_scale.STAGES)
    assert all(row["cpu_seconds"] > 0 < row["peak_bytes"] for row in document["results"])
