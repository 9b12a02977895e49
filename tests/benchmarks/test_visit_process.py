"""The made-up clinic: rows keep to the declared domain, and are measured from visit to visit."""

import numpy as np
import pytest

from benchmarks import table_sets, tables
from benchmarks.visit_process import COLUMNS, MOST_VISITS, make_rows, schema_text


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic")
    lines = [",".join(row) for row in (COLUMNS, *make_rows(300, seed=1))]
    (folder / "clinic.csv").write_text("\n".join(lines) + "\n")
    (folder / "clinic.toml").write_text(schema_text(300))
    return table_sets.load(str(folder / "clinic.csv"), schema_file=folder / "clinic.toml")


def test_nobody_goes_back_and_no_constraint_is_broken(clinic):
    assert 2 < np.bincount(clinic.persons).max() <= MOST_VISITS
    assert not any(broken.any() for broken in clinic.schema.violations(clinic.codes).values())
    months = clinic.codes[:, 0]
    same = clinic.persons[1:] == clinic.persons[:-1]
    assert (months[1:][same] >= months[:-1][same]).all()


def test_a_row_of_the_benchmark_says_how_visits_follow_each_other(clinic):
    taught, judged = tables.divided(clinic.persons, share=0.5, seed=0)
    train, test = clinic.part(taught), clinic.part(judged)
    effort = tables.Effort(bootstraps=2, ways=(1,))
    persons = train.persons
    found = tables.score(train.codes, train, test, epsilon=1.0, effort=effort, persons=persons)
    visits = tables.as_row(found)["visits"]
    floor = tables.real_lines(found)["visits"]["rows_dealt_out"]
    assert visits["row_after_row"] < floor["row_after_row"]
    assert visits["autocorrelation_error"] < floor["autocorrelation_error"]
