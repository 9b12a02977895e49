"""Every generator keeps the contract; a new file under training/generators is met by all of these."""

import dataclasses
import types

import numpy as np
import pytest

from privacy import accounting, planning
from privacy.errors import DigestMismatch, InvalidParameter
from privacy.manifests import DatasetSchema, GeneratorManifest
from privacy.mechanisms import (
    GaussianMechanism,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
)
from training import artefact, generators
from training.checkpoints import ReleaseLost, from_bytes, to_bytes
from training.records import TrainingRecords, pixel_type
from training.run import LocalRun

TARGET = PrivacyTarget(epsilon=8.0, delta=1e-5)
DECLARED = 60
# Small enough for a test; everything else is as a data owner gets it.
SMALL = {
    "steps": 2,
    "expected_batch_size": 12,
    "features": 16,
    "warm_up_steps": 2,
    "covariance_coefficients": 20,
    "sampling_steps": 2,
    "teacher": "relabel",
    "teacher_steps": 2,
}

every_generator = pytest.mark.parametrize("name", generators.available("image"))


def _schema(*, labels=3, height=20, width=16, bit_depth=8):
    return DatasetSchema(
        declared_count=DECLARED,
        height=height,
        width=width,
        bit_depth=bit_depth,
        label="grade",
        labels=tuple(f"grade {number}" for number in range(labels)),
    )


def _records(schema, *, persons=60, seed=0):
    """Two images a person with labels of their own; brightness rises with the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(schema.labels), size=2 * persons)
    full = 2**schema.bit_depth - 1
    level = (labels + 1) / (len(schema.labels) + 1)
    images = level[:, None, None] + 0.05 * rng.standard_normal(
        (2 * persons, schema.height, schema.width)
    )
    pixels = np.clip(images, 0, 1) * full
    return TrainingRecords(
        images=pixels.astype(pixel_type(schema)),
        labels=labels.astype(np.int16),
        persons=np.repeat(np.arange(persons), 2).astype(np.int32),
    )


def _config(module):
    known = {key: value for key, value in SMALL.items() if key in module.Config.model_fields}
    return module.Config(**known)


def _is_on(stage, config):
    return stage.only_if is None or getattr(config, stage.only_if) != "off"


def _mechanisms(module, config):
    return planning.plan_mechanisms(
        module.STAGES,
        config=config.model_dump(),
        target=TARGET,
        public_train_count=DECLARED,
    )


def _fit(name, schema=None, *, records=None, run=None):
    module = generators.load(name)
    config, schema = _config(module), schema or _schema()
    run = run or LocalRun(_mechanisms(module, config))
    records = _records(schema) if records is None else records
    return module.fit(records, config, schema=schema, run=run, seed=3), run


def _labels(schema, count=9):
    return (np.arange(count) % len(schema.labels)).astype(np.int16)


def test_a_module_without_the_contract_names_is_told_what_it_lacks():
    module = types.ModuleType("incomplete", doc="A docstring.")
    module.Config = object
    assert generators.missing_names(module) == ("STAGES", "fit", "Fitted", "from_state")


def test_an_unknown_generator_is_refused_with_the_names_there_are():
    with pytest.raises(InvalidParameter, match="statistics"):
        generators.load("copycat")


@every_generator
def test_every_setting_is_described_and_unknown_ones_are_refused(name):
    module = generators.load(name)
    assert all(field.description for field in module.Config.model_fields.values())
    with pytest.raises(ValueError, match="Extra inputs"):
        module.Config(noise_multiplier=0)


@every_generator
def test_the_default_plan_meets_its_target_with_noise_in_every_stage(name):
    module = generators.load(name)
    planned = planning.plan_mechanisms(
        module.STAGES,
        config=module.Config().model_dump(),
        target=TARGET,
        public_train_count=1700,
    )
    switched_on = [stage for stage in module.STAGES if _is_on(stage, module.Config())]
    assert [mechanism.stage for mechanism in planned] == [stage.stage for stage in switched_on]
    assert all(mechanism.noise_multiplier > 0 for mechanism in planned)
    assert accounting.epsilon(planned, TARGET.delta) <= TARGET.epsilon


@every_generator
def test_fitting_charges_every_reserved_step_and_reports_the_mechanisms_it_ran(name):
    fitted, run = _fit(name)
    assert run.charges == [mechanism.steps for mechanism in run.mechanisms]
    assert fitted.mechanisms == run.mechanisms


@every_generator
@pytest.mark.parametrize(
    ("labels", "height", "width", "bit_depth"),
    [(1, 16, 16, 8), (2, 28, 28, 8), (12, 48, 40, 16)],
)
def test_images_have_the_declared_shape_depth_and_labels(name, labels, height, width, bit_depth):
    schema = _schema(labels=labels, height=height, width=width, bit_depth=bit_depth)
    fitted, _ = _fit(name, schema)
    images = fitted.sample(_labels(schema), seed=1)
    assert images.shape == (9, height, width)
    assert images.dtype == pixel_type(schema)
    assert images.std() > 0


@every_generator
def test_sampling_repeats_for_a_seed_differs_between_seeds_and_reports_progress(name):
    fitted, _ = _fit(name)
    labels, seen = _labels(_schema()), []
    first = fitted.sample(labels, seed=5, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(first, fitted.sample(labels, seed=5))
    assert not np.array_equal(first, fitted.sample(labels, seed=6))
    assert seen[-1] == (9, 9)
    assert fitted.sample(labels[:0], seed=5).shape == (0, 20, 16)


@every_generator
def test_two_fits_of_the_same_records_and_seed_differ_because_noise_takes_no_seed(name):
    first, second = (_fit(name)[0].state() for _ in range(2))
    assert any(not np.array_equal(first[key], second[key]) for key in first)


@every_generator
def test_a_teacher_is_the_last_mechanism_when_on_and_leaves_no_stage_when_off(name):
    module = generators.load(name)
    if "teacher" not in module.Config.model_fields:
        return
    stages = {
        use: [
            m.stage
            for m in _mechanisms(module, _config(module).model_copy(update={"teacher": use}))
        ]
        for use in ("off", "relabel", "filter")
    }
    assert stages["relabel"] == stages["filter"] == [*stages["off"], "teacher"]
    run = LocalRun(_mechanisms(module, _config(module).model_copy(update={"teacher": "off"})))
    config = _config(module).model_copy(update={"teacher": "off"})
    fitted = module.fit(_records(_schema()), config, schema=_schema(), run=run, seed=3)
    assert fitted.teacher is None
    assert not any("teacher" in key for key in fitted.state())


@every_generator
def test_one_fit_draws_with_its_teacher_and_without(name):
    fitted, _ = _fit(name)
    if getattr(fitted, "teacher", None) is None:
        return
    labels = _labels(_schema(), 60)
    plain = dataclasses.replace(fitted, teacher=None).sample(labels, seed=1)
    taught = fitted.sample(labels, seed=1)
    assert plain.shape == taught.shape
    assert not np.array_equal(plain, taught)
    agreement = [
        (fitted.teacher.probabilities(images).argmax(axis=1) == labels).mean()
        for images in (plain, taught)
    ]
    # About equal if a teacher this noisy sees one label in nearly everything: dealing has no choice then.
    assert agreement[1] >= agreement[0] - 0.1


@every_generator
def test_labels_steer_the_images(name):
    # A target so loose that noise does not hide the brightness that the labels carry.
    module, schema = generators.load(name), _schema()
    run = LocalRun(
        [
            m.model_copy(update={"noise_multiplier": 0.02})
            for m in _mechanisms(module, _config(module))
        ]
    )
    fitted, _ = _fit(name, run=run, records=_records(schema, persons=300))
    labels = np.repeat([0, 2], 40)
    means = fitted.sample(labels, seed=0).reshape(2, -1).mean(axis=1)
    assert means[1] - means[0] > 30  # of 127; labels that steer nothing differ by less than 10


@every_generator
def test_fitting_survives_an_empty_training_arm(name):
    schema = _schema()
    empty = TrainingRecords(
        images=np.zeros((0, 20, 16), np.uint8),
        labels=np.zeros(0, np.int16),
        persons=np.zeros(0, np.int32),
    )
    fitted, run = _fit(name, records=empty)
    assert run.charges == [mechanism.steps for mechanism in run.mechanisms]
    assert fitted.sample(_labels(schema), seed=0).shape == (9, 20, 16)


@every_generator
def test_scores_are_one_finite_number_per_record_and_repeat(name):
    fitted, _ = _fit(name)
    records = _records(_schema(), seed=9)
    scores = fitted.score(records.images, records.labels, seed=2)
    assert scores
    again = fitted.score(records.images[:7], records.labels[:7], seed=2)
    for key, values in scores.items():
        assert values.shape == (len(records),)
        assert np.isfinite(values).all()
        np.testing.assert_allclose(again[key], values[:7], rtol=1e-3)


@every_generator
def test_a_generator_comes_back_from_its_file_and_a_changed_file_is_refused(name, tmp_path):
    fitted, run = _fit(name)
    path = tmp_path / "weights.safetensors"
    manifest = GeneratorManifest(
        job_id="job",
        dataset="0" * 64,
        declared=_schema(),
        generator=name,
        config=_config(generators.load(name)).model_dump(mode="json"),
        target=TARGET,
        mechanisms=run.mechanisms,
        weights=artefact.save(fitted, path),
        versions=artefact.versions(),
        device=artefact.device(),
    )
    back = artefact.load(manifest, path)
    labels = _labels(_schema())
    np.testing.assert_array_equal(back.sample(labels, seed=4), fitted.sample(labels, seed=4))
    assert back.mechanisms == fitted.mechanisms
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DigestMismatch, match=r"weights\.safetensors"):
        artefact.load(manifest, path)


class Interrupted(LocalRun):
    """Stops at the charge of a mechanism, once, after it was charged or before."""

    stop_at = -1

    def charge(self, index, steps):
        super().charge(index, steps)
        if index == self.stop_at:
            self.stop_at = -1
            raise KeyboardInterrupt


class Watched(Interrupted):
    """Remembers which stages were shown."""

    def __init__(self, mechanisms):
        super().__init__(mechanisms)
        self.stages = []

    def progress(self, stage, step, total, *, public_metrics=None):
        super().progress(stage, step, total, public_metrics=public_metrics)
        self.stages.append(stage)


@every_generator
def test_a_charged_release_without_its_result_is_never_repeated(name):
    module = generators.load(name)
    run = Interrupted(_mechanisms(module, _config(module)))
    run.stop_at = 0
    with pytest.raises(KeyboardInterrupt):
        _fit(name, run=run)
    with pytest.raises(ReleaseLost, match="Request a new job"):
        _fit(name, run=run)
    assert run.charges[0] == 1


@every_generator
def test_a_resume_keeps_the_releases_that_were_made(name):
    module = generators.load(name)
    mechanisms = _mechanisms(module, _config(module))
    last = len(mechanisms) - 1
    if not isinstance(mechanisms[last], PoissonSubsampledGaussianMechanism):
        assert all(isinstance(mechanism, GaussianMechanism) for mechanism in mechanisms)
        return
    run = Interrupted(mechanisms)
    run.stop_at = last
    with pytest.raises(KeyboardInterrupt):
        _fit(name, run=run)
    before = {k: v.copy() for k, v in run.load_checkpoint().items() if k.startswith("release_")}
    assert len({k.split("/")[0] for k in before}) == sum(
        isinstance(mechanism, GaussianMechanism) for mechanism in mechanisms
    )
    fitted, _ = _fit(name, run=run)
    for key, value in before.items():
        np.testing.assert_array_equal(run.load_checkpoint()[key], value)
    assert run.charges == [mechanism.steps for mechanism in mechanisms]
    assert fitted.mechanisms == mechanisms


def test_a_run_stopped_between_its_first_charge_and_its_first_checkpoint_warms_up_again():
    module = generators.load("diffusion")
    run = Watched(_mechanisms(module, _config(module)))
    denoising = [mechanism.stage for mechanism in run.mechanisms].index("dp_sgd")
    run.stop_at = denoising
    with pytest.raises(KeyboardInterrupt):
        _fit("diffusion", run=run)
    assert run.charges[denoising] > 0
    assert run.stages.count("warm-up") == 2
    _fit("diffusion", run=run)
    assert run.stages.count("warm-up") == 4
    done = Watched(_mechanisms(module, _config(module)))
    _fit("diffusion", run=done)
    _fit("diffusion", run=done)  # weights are in its checkpoint
    assert done.stages.count("warm-up") == 2


@every_generator
def test_checkpoints_survive_the_trip_to_bytes(name):
    _, run = _fit(name)
    checkpoint = run.load_checkpoint()
    for key, value in from_bytes(to_bytes(checkpoint)).items():
        np.testing.assert_array_equal(value, checkpoint[key])


@every_generator
def test_records_outside_the_schema_are_refused_before_anything_is_charged(name):
    module, schema = generators.load(name), _schema()
    run = LocalRun(_mechanisms(module, _config(module)))
    records = _records(schema)
    records.labels[0] = 7
    with pytest.raises(InvalidParameter, match="labels were refused"):
        _fit(name, run=run, records=records)
    assert not any(run.charges)


@every_generator
def test_gradient_features_are_one_finite_row_per_record_and_repeat(name):
    fitted, _ = _fit(name)
    records = _records(_schema(), seed=9)
    found = generators.gradient_features(fitted, records.images, records.labels, seed=2)
    assert len(found) == len(records)
    assert np.isfinite(found).all()
    again = generators.gradient_features(fitted, records.images[:7], records.labels[:7], seed=2)
    np.testing.assert_allclose(again, found[:7], atol=2e-3)
    if found.shape[1]:
        assert found[:, 0].std() > 0


@pytest.mark.parametrize("sees_redrawn", [True, False])
def test_a_teacher_that_is_to_see_redrawn_records_is_shown_each_of_them_once(
    sees_redrawn, monkeypatch
):
    module, schema, shown = generators.load("mixture"), _schema(), []
    redrawn = module.Fitted.redrawn

    def watched(fitted, images):
        again = redrawn(fitted, images)
        assert (again.shape, again.dtype) == (images.shape, images.dtype)
        shown.append(images)
        return again

    monkeypatch.setattr(module.Fitted, "redrawn", watched)
    config = _config(module).model_copy(update={"teacher_sees_redrawn": sees_redrawn})
    records, run = _records(schema), LocalRun(_mechanisms(module, config))
    module.fit(records, config, schema=schema, run=run, seed=3)
    if sees_redrawn:
        np.testing.assert_array_equal(np.concatenate(shown), records.images)
    else:
        assert not shown
