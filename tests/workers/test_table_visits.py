"""Visits from the drawing of persons to the bundle: whose a synthetic row is stays told."""

import csv
import json

import numpy as np
import pytest
from pyarrow import parquet

from privacy import bundle
from privacy.manifests import SamplesManifest
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from privacy.table_schema import Column, Constraint, TableSchema, Visits
from service.bundle_formats import compare
from service.domain.declarations import ReleaseDeclaration
from tests.workers.bundle_material import KEY, PUBLIC, certificate_of
from training.generators import load
from training.run import LocalRun
from training.table_records import TableRecords
from workers.bundling.writer import write_bundle
from workers.modalities import tables

SCHEMA = TableSchema(
    declared_count=200,
    person="patient",
    visits=Visits(order="years", most=4),
    columns=(
        Column(name="years", kind="number", edges=(0, 2, 4, 8)),
        Column(name="grade", kind="ordinal", levels=("0", "1", "2"), role="target"),
    ),
)
SMALL = {
    "steps": 2, "hidden": 4, "expected_batch_size": 50, "rounds_per_column": 2, "iterations": 20,
    "final_iterations": 20,
}  # fmt: skip
SETTINGS = {"autoregressive": SMALL, "independent_columns": {}}


def _samples(name):
    module = load(name)
    config = module.Config(**SETTINGS[name])
    mechanisms = plan_mechanisms(
        module.STAGES,
        config=config.model_dump(),
        target=PrivacyTarget(epsilon=10.0, delta=1e-5),
        public_train_count=200,
    )
    codes = np.random.default_rng(0).integers(3, size=(400, 2)).astype(np.int16)
    records = TableRecords(codes=codes, persons=np.repeat(np.arange(200), 2))
    fitted = module.fit(records, config, schema=SCHEMA, run=LocalRun(mechanisms), seed=0)
    drawn = tables.draw(fitted, 90, schema=SCHEMA, seed=1, progress=lambda *_: None)
    manifest = SamplesManifest(generator="0" * 64, count=drawn.count, seed=1, blobs={})
    arrays = {name.removesuffix(".npy"): blob for name, blob in drawn.blobs.items()}
    return tables.samples(manifest, schema=SCHEMA, arrays=arrays)


def test_nobody_goes_back_in_time_within_a_bin_either():
    samples = _samples("autoregressive")
    same = samples.persons[1:] == samples.persons[:-1]
    assert same.any()
    years = samples.values[:, 0]
    assert (years[1:][same] >= years[:-1][same]).all()
    assert samples.records.shape == (90, 2)  # audits look at declared columns alone


def test_rows_that_a_constraint_sent_back_in_time_are_put_in_order_whole():
    schema = TableSchema(
        declared_count=200,
        person="patient",
        visits=Visits(order="year", most=4),
        columns=(
            Column(name="stage", kind="category", levels=("new", "seen")),
            Column(name="year", kind="number", edges=(0, 1, 2)),
        ),
        constraints=(
            Constraint(name="new", when={"stage": ("new",)}, then={"year": ("0 to under 1",)}),
        ),
    )
    values = np.asarray([[1, 1.5], [0, 0.9], [1, 0.2], [1, 1.1], [0, 0.5]])
    persons = np.asarray([0, 0, 0, 0, 1])
    found = tables.in_order(values, persons, schema)
    np.testing.assert_array_equal(found, [[0, 0.2], [1, 0.9], [1, 1.1], [1, 1.5], [0, 0.5]])
    assert not schema.violations(schema.codes_of(found))["new"].any()


def test_a_generator_that_draws_rows_apart_makes_persons_of_one_row():
    np.testing.assert_array_equal(_samples("independent_columns").persons, np.arange(90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("visits") / "bundle"
    found.mkdir()
    synthetic = _samples("autoregressive").synthetic_set(test_share=0.3)
    declared = ReleaseDeclaration(formats=("parquet", "csv"), test_share=0.3)
    certificate = certificate_of(synthetic, declared).model_copy(update={"declared": SCHEMA})
    write_bundle(
        found, synthetic, certificate=certificate, declared=declared, terms="", key=KEY,
        progress=lambda *_: None,
    )  # fmt: skip
    return found


def test_every_file_of_a_bundle_says_whose_a_row_is(folder):
    assert bundle.verify_bundle(folder, public_key=PUBLIC).accepted
    assert not compare(folder).problems
    with (folder / "csv" / "train.csv").open(encoding="utf-8", newline="") as stream:
        assert next(csv.reader(stream))[-1] == "synthetic_person"
    package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    described = next(one for one in package["resources"] if one["format"] == "csv")
    assert described["schema"]["fields"][-1]["name"] == "synthetic_person"
    croissant = (folder / "croissant.json").read_text(encoding="utf-8")
    assert "synthetic_person" in croissant


def test_the_rows_of_a_synthetic_person_stay_in_one_split(folder):
    parts = [parquet.read_table(path) for path in sorted((folder / "parquet").iterdir())]
    numbers = [part.column("synthetic_person").to_numpy() for part in parts]
    assert len(numbers) == 2
    assert not set(numbers[0]) & set(numbers[1])
    assert sum(map(len, numbers)) == 90
