"""Dry runs: a fit's time is found by a few steps on random images, for every generator."""

import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import BaseModel

from privacy.manifests import DatasetSchema
from privacy.mechanisms import DpSgdStage, GaussianStage, PrivacyTarget
from privacy.planning import plan_mechanisms
from privacy.table_schema import TableSchema
from tests.training.joint_material import joint_schema
from training import dry_run, generators
from training.generators import free_steps, load, presets_of

UNITS = 120
SCHEMA = DatasetSchema(
    declared_count=200, height=16, width=16, label="grade", labels=("0", "1", "2")
)
STEP, FREE_STEP, PER_UNIT = 0.004, 0.002, 0.0005


class Config(BaseModel):
    steps: int = 500
    free: int = 1000


@dataclass
class Slept:
    """A generator that has slept; drawing an image takes a millisecond."""

    def sample(self, labels, *, seed, progress=None):
        del seed, progress
        time.sleep(0.02 + 0.001 * len(labels))
        return np.zeros((len(labels), 16, 16), dtype=np.uint8)


def sleeper() -> SimpleNamespace:
    """Return a generator whose every part takes a known time."""
    seen = SimpleNamespace(steps=0, free=0, units=0)

    def fit(records, config, *, schema, run, seed):
        del schema, seed
        run.charge(0, 1)
        time.sleep(PER_UNIT * len(records))
        seen.units = max(seen.units, len(records))
        for step in range(config.free):
            time.sleep(FREE_STEP)
            seen.free += 1
            run.progress("warm-up", step + 1, config.free)
        steps = run.mechanisms[1].steps
        for step in range(steps):
            run.charge(1, 1)
            time.sleep(STEP)
            seen.steps += 1
            run.progress("training", step + 1, steps)
        return Slept()

    stages = (
        GaussianStage(stage="means", noise_ratio=2.0),
        DpSgdStage(stage="dp_sgd", steps="steps", expected_batch_size=32),
    )
    return SimpleNamespace(
        Config=Config, STAGES=stages, FREE_STEPS={"free": "warm-up"}, fit=fit, seen=seen
    )


def estimate(generator, config, *, schema=SCHEMA, units=UNITS, samples=50):
    mechanisms = plan_mechanisms(
        generator.STAGES,
        config=config,
        target=PrivacyTarget(epsilon=5.0, delta=1e-5),
        public_train_count=units,
    )
    return dry_run.estimate(
        generator, config, schema=schema, mechanisms=mechanisms, units=units, samples=samples
    )


def test_a_few_steps_tell_what_many_will_take():
    generator = sleeper()
    found = estimate(generator, {"steps": 500, "free": 1000}, samples=1000)
    expected = 500 * STEP + 1000 * FREE_STEP + UNITS * PER_UNIT
    assert found.fit_seconds == pytest.approx(expected, rel=0.4)
    assert found.sample_seconds == pytest.approx(1.02, rel=0.4)
    assert generator.seen.steps <= dry_run.WARM_STEPS + dry_run.MOST_STEPS
    assert generator.seen.free <= dry_run.WARM_STEPS + dry_run.MOST_STEPS
    assert found.dry_run_seconds < found.fit_seconds


def test_more_units_than_are_tried_are_extrapolated_to(monkeypatch):
    monkeypatch.setattr(dry_run, "MOST_PIXELS", 300 * 16 * 16)
    generator = sleeper()
    found = estimate(generator, {"steps": 5, "free": 5}, units=10_000)
    assert generator.seen.units == 300
    assert found.fit_seconds == pytest.approx(10_000 * PER_UNIT, rel=0.4)


def test_the_estimate_is_json_with_memory_and_machine():
    document = estimate(sleeper(), {"steps": 4, "free": 4}).document()
    assert document["peak_bytes"] > 10**7
    assert "cores" in document["device"]
    assert document["seconds"] == pytest.approx(
        document["fit_seconds"] + document["sample_seconds"], abs=0.2
    )


@pytest.mark.parametrize("name", generators.available("image"))
def test_every_generator_can_be_tried_on_random_images(name):
    module = load(name)
    small = {
        field: value
        for field, value in {"expected_batch_size": 8, "steps": 400, "features": 16}.items()
        if field in module.Config.model_fields
    }
    config = module.Config.model_validate(small).model_dump(mode="json")
    found = estimate(module, config, samples=100)
    assert found.fit_seconds > 0
    assert found.sample_seconds > 0


@pytest.mark.parametrize("name", generators.available())
def test_what_a_generator_declares_beside_its_config_fits_the_config(name):
    module = load(name)
    assert set(free_steps(module)) <= set(module.Config.model_fields)
    for preset in presets_of(module).values():
        for units, has_gpu in ((500, False), (6000, False), (55_000, True)):
            chosen = preset.resolved(units=units, epsilon=5.0, has_gpu=has_gpu)
            module.Config.model_validate(chosen)
        assert set(preset.resolved(units=500, epsilon=0.5)) <= set(module.Config.model_fields)


@pytest.mark.parametrize("name", generators.available())
def test_every_preset_can_be_paid_for_where_its_stages_have_least_room(name):
    module = load(name)
    for preset in presets_of(module).values():
        chosen = preset.resolved(units=500, epsilon=0.5)
        assert plan_mechanisms(
            module.STAGES,
            config=module.Config.model_validate(chosen).model_dump(mode="json"),
            target=PrivacyTarget(epsilon=0.5, delta=1e-5),
            public_train_count=500,
        )


def test_a_table_is_tried_on_rows_of_random_codes():
    names = {"kind": "category", "levels": ["a", "b", "c"]}
    schema = TableSchema.model_validate(
        {
            "declared_count": 200,
            "person": "who",
            "columns": [{"name": "left", **names}, {"name": "right", **names}],
        }
    )
    generator = load("independent_columns")
    config = generator.Config().model_dump(mode="json")
    mechanisms = plan_mechanisms(
        generator.STAGES,
        config=config,
        target=PrivacyTarget(epsilon=1, delta=1e-5),
        public_train_count=UNITS,
    )
    asked = {"schema": schema, "mechanisms": mechanisms, "units": UNITS}
    found = dry_run.estimate(generator, config, samples=1000, **asked)
    more = dry_run.estimate(generator, config, samples=1_000_000, **asked)
    assert 0 <= found.fit_seconds < 10
    assert more.peak_bytes - found.peak_bytes >= 10**7


def test_rows_with_an_image_each_are_tried_with_both():
    schema, generator = joint_schema(), load("rows_then_images")
    config = generator.Config(rows="mst", covariance_coefficients=16).model_dump(mode="json")
    mechanisms = plan_mechanisms(
        generator.STAGES,
        config=config,
        target=PrivacyTarget(epsilon=8, delta=1e-5),
        public_train_count=UNITS,
    )
    asked = {"schema": schema, "mechanisms": mechanisms, "units": UNITS}
    found = dry_run.estimate(generator, config, samples=1000, **asked)
    more = dry_run.estimate(generator, config, samples=1_000_000, **asked)
    assert found.fit_seconds > 0
    assert more.sample_seconds > found.sample_seconds
    images = 12 * 10
    assert more.peak_bytes - found.peak_bytes >= 10**6 * images * 0.9
