"""A stored table as generators, audits and bundles see it, without a service."""

import json

import numpy as np
import pytest

from privacy.evidence import Arm, Evidence, Finding
from privacy.inclusion import rates_for
from privacy.manifests import DatasetManifest, SamplesManifest
from privacy.mechanisms import GaussianMechanism, UnitOfPrivacy
from privacy.planning import public_train_count
from privacy.report import AuditReport
from privacy.table_values import comparable
from tests.workers.table_uploads import SECRET, clinic_rows, clinic_schema, write_csv
from training.audit_twin import with_canaries
from training.generators import load
from training.run import LocalRun
from workers.intake import IntakeResult
from workers.intake.tables import read_table_upload
from workers.modalities import modality_of, tables
from workers.modalities.tables import StoredTable, TableSamples
from workers.report.rows import suspicious_rows

SCHEMA = clinic_schema()
GENERATOR = load("independent_columns")
MECHANISMS = (GaussianMechanism(stage="columns", noise_multiplier=1.0),)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> StoredTable:
    folder = tmp_path_factory.mktemp("table")
    read = read_table_upload(
        write_csv(folder / "a.csv", clinic_rows()), schema=SCHEMA, tenant_key=b"k", out=folder
    )
    names = ("table", "persons", "person_digests", "duplicated_persons")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    return tables.dataset(manifest_of(read), cohort_id="cohort", arrays=arrays)


def manifest_of(read: IntakeResult) -> DatasetManifest:
    return DatasetManifest(
        dataset_id="dataset",
        version_number=1,
        declared=SCHEMA,
        source_format=read.source_format,
        record_count=read.record_count,
        person_count=read.person_count,
        duplicated_person_count=read.duplicated_person_count,
        dropped=read.dropped,
        blobs=read.blobs,
    )


@pytest.fixture(scope="module")
def fitted(stored):
    persons = np.asarray(stored.persons)
    records = stored.training_records(np.arange(len(persons)), persons=persons, to=None)
    run = LocalRun(MECHANISMS)
    return GENERATOR.fit(records, GENERATOR.Config(), schema=SCHEMA, run=run, seed=1)


@pytest.fixture(scope="module")
def drawn(fitted) -> TableSamples:
    made = tables.draw(fitted, 120, schema=SCHEMA, seed=3, progress=lambda *_: None)
    manifest = SamplesManifest(generator="0" * 64, count=made.count, seed=3, blobs={})
    return tables.samples(manifest, schema=SCHEMA, arrays={"table": made.blobs["table.npy"]})


def test_the_modality_follows_from_the_declaration():
    assert modality_of(SCHEMA) is tables


def test_only_codes_of_the_chosen_rows_reach_a_generator(stored, tmp_path):
    rows = np.array([5, 2, 9])
    records = stored.training_records(rows, persons=np.arange(3, dtype=np.int32), to=tmp_path)
    np.testing.assert_array_equal(records.codes, SCHEMA.codes_of(np.asarray(stored.table))[rows])
    assert not list(tmp_path.iterdir())


def test_the_same_seed_draws_the_same_rows_and_first_ones_are_shown_in_words(fitted):
    one, two, other = (
        tables.draw(fitted, 30, schema=SCHEMA, seed=seed, progress=lambda *_: None)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.blobs["table.npy"], two.blobs["table.npy"])
    assert not np.array_equal(one.blobs["table.npy"], other.blobs["table.npy"], equal_nan=True)
    shown = json.loads(one.shown["rows.json"])["rows"]
    assert len(shown) == 20
    assert {row[2] for row in shown} <= {"f", "m"}
    assert all(row[1] == "missing" or 15 <= float(row[1]) <= 60 for row in shown)


def test_audits_see_rows_without_gaps_and_the_target_as_label(stored, drawn, tmp_path):
    records = stored.evidence_records(tmp_path)
    assert np.isfinite(records).all()
    gaps = np.isnan(stored.table)
    assert gaps.any()
    assert set(records[gaps].tolist()) == {0.0}  # a mean bin, 15 wide, below the bound of 15
    np.testing.assert_array_equal(records[~gaps], np.asarray(stored.table)[~gaps])
    assert stored.label_names == ("0", "1", "2")
    np.testing.assert_array_equal(stored.labels, stored.table[:, 3])
    assert np.isfinite(drawn.records).all()
    assert sum(drawn.label_counts().values()) == len(drawn) == 120


def test_scores_are_asked_for_codes_and_there_are_no_gradients(stored, fitted, tmp_path):
    rows = np.arange(10)
    scores = fitted.score(*stored.asked(rows, to=tmp_path), seed=1)
    assert {array.shape for array in scores.values()} == {(10,)}
    assert stored.gradients(fitted, rows, seed=1).shape == (10, 0)


def test_a_version_is_written_again_without_some_rows(stored, tmp_path):
    kept = np.arange(3, len(stored.table))
    stored.write_records(kept, out=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "table.npy"), stored.table[3:])
    stored.write_records(kept[:0], out=tmp_path)
    assert np.load(tmp_path / "table.npy").shape == (0, len(SCHEMA.columns))


def test_canaries_are_rows_of_the_declared_domain_and_persons_of_their_own(stored, fitted):
    rng = np.random.default_rng(0)
    canaries = tables.canaries(50, schema=SCHEMA, rng=rng)
    assert (canaries.codes < SCHEMA.sizes).all()
    persons = np.asarray(stored.persons)
    records = stored.training_records(np.arange(len(persons)), persons=persons, to=None)
    coins = rng.integers(2, size=50)
    together = with_canaries(records, canaries, coins).checked(SCHEMA)
    assert len(together) == len(persons) + coins.sum()
    assert len(together.by_person()) == len(np.unique(persons)) + coins.sum()
    assert {len(scores) for scores in canaries.scores(fitted, seed=1).values()} == {50}


def test_a_pair_is_told_in_words_and_a_stand_in_reads_as_missing(stored, drawn, tmp_path):
    listed = {"sample": 0, "train_record": int(np.flatnonzero(np.isnan(stored.table[:, 1]))[0])}
    listed |= {"held_out_record": 4, "ratio": 0.5, "flagged": True}
    listed |= {"train_distance": 1.0, "held_out_distance": 2.0}
    finding = Finding(audit="near_copies", metrics=(), details={"pairs": [listed]})
    report = AuditReport.model_construct(findings=(finding,))
    (pair,) = suspicious_rows(report, evidence_of(stored, drawn, tmp_path), schema=SCHEMA)
    assert [cell.column for cell in pair.cells] == ["age", "bmi", "sex", "grade", "cause"]
    assert pair.cells[1].trained == "missing"
    assert pair.flagged


def evidence_of(stored: StoredTable, drawn: TableSamples, scratch) -> Evidence:
    people = stored.manifest.person_count
    return Evidence(
        modality="table",
        unit=UnitOfPrivacy.PERSON,
        records=stored.evidence_records(scratch),
        labels=stored.labels,
        persons=np.asarray(stored.persons),
        arms=np.arange(people) % len(Arm),
        folds=1 + np.arange(people) % 2,
        excluded=np.asarray(stored.duplicated_persons),
        samples=drawn.records,
        sample_labels=drawn.labels,
    )


def test_utility_is_judged_on_persons_who_were_not_trained_on(stored, drawn, fitted, tmp_path):
    evidence = evidence_of(stored, drawn, tmp_path)
    found = tables.utility(evidence, stored=stored, drawn=drawn, fitted=fitted, progress=None)
    assert found["computed"], found
    assert found["held_out_persons"] == 120
    assert found["constraints"][0]["held_out"] == 0
    assert SECRET not in json.dumps(found)
    assert found["coverage"]["copies"] == 5
    assert {one["column"] for one in found["estimates"]} >= {"grade"}
    for one in found["estimates"]:
        assert 0 <= one["low"] <= one["share"] <= one["high"] <= 1


def test_the_noise_of_a_share_is_that_of_all_measurements_of_its_column(fitted):
    variances = tables.noise_of_shares(fitted, SCHEMA)
    trained = public_train_count(SCHEMA.declared_count, rates=rates_for(SCHEMA.declared_count))
    assert trained < SCHEMA.declared_count
    deviation = next(m.deviation for m in fitted.measurements if m.columns == (0,))
    assert variances[0] == pytest.approx((deviation / trained) ** 2)


def test_a_missing_number_is_nearer_to_a_low_one_than_to_a_high_one():
    rows = np.array([[50, np.nan, 0, 0, 0], [50, 15.0, 0, 0, 0], [50, 60.0, 0, 0, 0]])
    filled = comparable(rows, SCHEMA)[:, 1]
    assert abs(filled[0] - filled[1]) < abs(filled[0] - filled[2])
    assert np.isnan(rows[0, 1])
