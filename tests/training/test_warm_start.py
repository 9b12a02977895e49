"""Warm starts are public pictures with the released moments, and refuse what they do not fit."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from training import warm_start
from training.class_gaussian import SIDES, ClassGaussian
from training.generators import diffusion
from training.records import TrainingRecords
from training.run import LocalRun


def _schema(labels=5, side=16):
    return DatasetSchema(
        declared_count=100,
        height=side,
        width=side,
        bit_depth=8,
        label="grade",
        labels=tuple(f"grade {number}" for number in range(labels)),
    )


def _gaussian(schema, *, residual=0.01):
    pixels, labels = schema.height * schema.width, len(schema.labels)
    means = np.zeros((labels, SIDES, pixels))
    means[:, :, 0] = np.arange(labels)[:, None]
    return ClassGaussian(
        counts=np.full((labels, SIDES), 10.0),
        means=means,
        components=np.zeros((0, pixels)),
        variances=np.zeros(0),
        residual_variance=np.full(pixels, residual),
        length_scales=np.ones(1),
        length_weights=np.ones(1),
    )


def _pool(kind, schema, *, public=None):
    return warm_start.pool(
        kind,
        model=_gaussian(schema),
        schema=schema,
        public=public,
        rng=np.random.default_rng(0),
    )


def _public(schema, count=200):
    rng = np.random.default_rng(1)
    return TrainingRecords(
        images=rng.integers(0, 256, (count, schema.height, schema.width)).astype(np.uint8),
        labels=rng.integers(len(schema.labels), size=count).astype(np.int16),
        persons=np.arange(count, dtype=np.int32),
    )


@pytest.mark.parametrize("kind", ["procedural", "phantoms", "public"])
def test_a_pool_has_the_class_means_and_the_power_of_the_released_gaussian(kind):
    schema = _schema()
    labels = np.repeat(np.arange(5), 200)
    drawn = _pool(kind, schema, public=_public(schema)).draw(labels)
    for label in range(5):
        assert drawn[labels == label, 0].mean() == pytest.approx(label, abs=0.1)
    spread = drawn[:, 1:].var(axis=0).mean()
    assert spread == pytest.approx(0.01, rel=0.4)


def test_no_warm_start_is_no_pool():
    assert _pool("none", _schema()) is None


def test_phantoms_are_refused_for_other_than_five_grades():
    with pytest.raises(InvalidParameter, match=r"3 labels.*5 ordered grades.*procedural"):
        warm_start.check("phantoms", schema=_schema(labels=3), public=None)


def test_a_public_warm_start_without_a_public_set_is_refused_before_any_charge():
    schema, config = _schema(), diffusion.Config(warm_start="public")
    run = LocalRun(())
    with pytest.raises(InvalidParameter, match="no public set was handed in"):
        diffusion.fit(_public(schema), config, schema=schema, run=run, seed=0)
    assert run.charges == []


def test_a_public_set_of_another_size_is_refused():
    with pytest.raises(InvalidParameter, match="shape"):
        _pool("public", _schema(side=20), public=_public(_schema()))
