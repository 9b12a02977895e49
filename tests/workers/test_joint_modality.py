"""Stored rows with their images as generators, audits and bundles see them, without a service."""

import json

import numpy as np
import pytest

from privacy.image_parts import image_labels, image_schema
from privacy.manifests import DatasetManifest, DatasetSchema, SamplesManifest
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from tests.workers.joint_uploads import PERSONS, joint_schema, joint_zip
from training import generators
from training.audit_twin import with_canaries
from training.joint_records import JointRecords
from training.run import LocalRun
from workers.intake.joint import read_joint_upload
from workers.modalities import joint, modality_of
from workers.modalities.joint import StoredJoint

SCHEMA = joint_schema()
GENERATOR = generators.load("rows_then_images")


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> StoredJoint:
    folder = tmp_path_factory.mktemp("joint")
    upload = joint_zip().write(folder / "upload.zip")
    read = read_joint_upload(upload, schema=SCHEMA, tenant_key=b"k", out=folder)
    manifest = DatasetManifest(
        dataset_id="dataset", version_number=1, declared=SCHEMA, source_format=read.source_format,
        record_count=read.record_count, person_count=read.person_count,
        duplicated_person_count=read.duplicated_person_count, dropped=read.dropped,
        blobs=read.blobs,
    )  # fmt: skip
    arrays = {
        name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r") for name in read.blobs
    }
    return joint.dataset(manifest, cohort_id="cohort", arrays=arrays)


@pytest.fixture(scope="module")
def trained(stored, tmp_path_factory) -> JointRecords:
    chosen = np.flatnonzero(np.asarray(stored.persons) % 2 == 0)
    _, persons = np.unique(stored.persons[chosen], return_inverse=True)
    to = tmp_path_factory.mktemp("arm") / "train.npy"
    return stored.training_records(chosen, persons=persons.astype(np.int32), to=to)


@pytest.fixture(scope="module")
def fitted(trained):
    stages = GENERATOR.STAGES[:-1]  # without a teacher
    config = GENERATOR.Config(rows="mst", covariance_coefficients=16, mean_frequencies=8)
    run = LocalRun(_planned(stages, config))
    return GENERATOR.fit(trained, config, schema=SCHEMA, run=run, seed=0)


def _planned(stages, config):
    return plan_mechanisms(
        stages,
        config=config.model_dump(),
        target=PrivacyTarget(epsilon=10.0, delta=1e-5),
        public_train_count=PERSONS // 2,
    )


def drawn(fitted, count, seed):
    return joint.draw(fitted, count, schema=SCHEMA, seed=seed, progress=lambda *_: None)


def test_the_module_is_that_of_what_is_declared(stored):
    assert modality_of(stored.schema).__name__ == joint.__name__


def test_a_training_arm_holds_the_chosen_rows_and_images_mapped_from_disk(stored, trained):
    chosen = np.flatnonzero(np.asarray(stored.persons) % 2 == 0)
    assert 0 < len(trained) == len(chosen) < len(stored.persons)
    assert isinstance(trained.images.images, np.memmap)
    np.testing.assert_array_equal(trained.images.images, stored.images[chosen])
    np.testing.assert_array_equal(trained.table.codes, SCHEMA.codes_of(stored.table[chosen]))
    np.testing.assert_array_equal(trained.images.labels, stored.cells[chosen])
    assert trained.checked(SCHEMA) is trained


def test_both_parts_are_views_of_the_same_records(stored):
    rows, images = stored.table_part, stored.images_part
    assert rows.table is stored.table
    assert images.images is stored.images
    assert isinstance(images.schema, DatasetSchema)
    assert images.label_names == image_schema(SCHEMA).labels
    np.testing.assert_array_equal(rows.persons, images.persons)
    np.testing.assert_array_equal(
        images.labels, image_labels(SCHEMA, rows.codes(np.arange(len(rows.table))))
    )


def test_what_a_generator_is_asked_about_are_rows_with_their_images(stored, fitted, tmp_path):
    rows = np.array([3, 1, 5])
    codes, images = stored.asked(rows, to=tmp_path / "pool.npy")
    np.testing.assert_array_equal(images, stored.images[rows])
    np.testing.assert_array_equal(codes, SCHEMA.codes_of(stored.table[rows]))
    assert fitted.score(codes, images, seed=0)["log_density"].shape == (3,)
    assert stored.gradients(fitted, rows, seed=0).shape == (3, 0)


def test_a_version_without_some_persons_keeps_rows_and_images_together(stored, tmp_path):
    kept = np.array([0, 2, 3])
    stored.write_records(kept, out=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "table.npy"), stored.table[kept])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), stored.images[kept])


def test_what_is_drawn_repeats_keeps_to_the_declaration_and_can_be_looked_at(fitted):
    first, again = drawn(fitted, 40, seed=7), drawn(fitted, 40, seed=7)
    assert set(first.blobs) == {"table.npy", "images.npy"}
    for name, blob in first.blobs.items():
        np.testing.assert_array_equal(blob, again.blobs[name])
    assert first.label_distribution == "drawn"
    assert first.count == 40
    codes = SCHEMA.codes_of(first.blobs["table.npy"])
    assert ((codes >= 0) & (codes < np.asarray(SCHEMA.sizes))).all()
    assert not any(broken.any() for broken in SCHEMA.violations(codes).values())
    assert first.shown["grid.png"].startswith(b"\x89PNG")
    assert len(json.loads(first.shown["rows.json"])["rows"]) == 20
    assert drawn(fitted, 0, seed=7).count == 0


def test_samples_know_the_cell_that_each_image_was_drawn_for(fitted):
    made = drawn(fitted, 30, seed=1)
    manifest = SamplesManifest(generator="g", count=30, seed=1, blobs={})
    arrays = {name.removesuffix(".npy"): blob for name, blob in made.blobs.items()}
    samples = joint.samples(manifest, schema=SCHEMA, arrays=arrays)
    codes, images = fitted.sample(30, seed=1)
    np.testing.assert_array_equal(samples.images_part.labels, image_labels(SCHEMA, codes))
    np.testing.assert_array_equal(samples.images_part.images, images)
    assert sum(samples.label_counts().values()) == len(samples) == 30


def test_canaries_are_rows_of_nobody_with_a_picture_each(trained):
    canaries = joint.canaries(12, schema=SCHEMA, rng=np.random.default_rng(0))
    together = with_canaries(trained, canaries, np.arange(12) % 2)
    assert len(together.checked(SCHEMA)) == len(trained) + 6
