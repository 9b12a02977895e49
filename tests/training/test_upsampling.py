"""Pictures above 64 pixels: a fixed way down, a public way up, and nothing of the records in it."""

import numpy as np
import pytest
import torch

from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from training.generators import diffusion
from training.procedural import dead_leaves
from training.records import TrainingRecords
from training.run import LocalRun
from training.upsampling import Scale, Upsampler, train_upsampler


def _schema(height, width, *, bit_depth=8):
    return DatasetSchema(
        declared_count=60,
        height=height,
        width=width,
        bit_depth=bit_depth,
        label="grade",
        labels=("a", "b"),
    )


@pytest.mark.parametrize(
    ("height", "width", "factor", "base"),
    [
        (64, 64, 1, (64, 64)),
        (28, 28, 1, (28, 28)),
        (128, 100, 2, (64, 50)),
        (256, 250, 4, (64, 63)),
    ],
)
def test_the_base_has_at_most_64_pixels_along_the_longer_side(height, width, factor, base):
    scale = Scale.of(_schema(height, width))
    assert scale.factor == factor
    assert (scale.base.height, scale.base.width) == base


def test_shrinking_averages_blocks_and_treats_every_image_alone():
    schema = _schema(128, 128)
    scale = Scale.of(schema)
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128)).astype(np.uint8)
    small = scale.shrink(images)
    blocks = images.reshape(3, 64, 2, 64, 2).mean(axis=(2, 4))
    assert np.abs(small - blocks).max() <= 1
    np.testing.assert_array_equal(small[1], scale.shrink(images[1:2])[0])


def test_training_makes_enlarged_pictures_closer_to_the_real_ones_than_bilinear():
    rng = np.random.default_rng(0)
    scale = Scale.of(_schema(96, 96))
    upsampler = Upsampler(scale)
    train, held_out = (dead_leaves(24, height=96, width=96, rng=rng) for _ in range(2))

    def error():
        full = torch.from_numpy(held_out)
        with torch.no_grad():
            return float((upsampler(scale.shrunk(full)) - full).abs().mean())

    before, steps = error(), []
    train_upsampler(upsampler, train, scale=scale, steps=60, rng=rng, progress=steps.append)
    assert error() < 0.9 * before


def _fitted(seed):
    schema = _schema(80, 72)
    config = diffusion.Config(
        steps=2,
        expected_batch_size=12,
        features=16,
        warm_up_steps=2,
        upsampler_steps=3,
        covariance_coefficients=20,
        sampling_steps=2,
    )
    rng = np.random.default_rng(seed)
    records = TrainingRecords(
        images=rng.integers(0, 256, (40, 80, 72)).astype(np.uint8),
        labels=np.tile([0, 1], 20).astype(np.int16),
        persons=np.arange(40, dtype=np.int32),
    )
    target = PrivacyTarget(epsilon=8.0, delta=1e-5)
    mechanisms = plan_mechanisms(
        diffusion.STAGES, config=config.model_dump(), target=target, public_train_count=60
    )
    run = LocalRun(mechanisms)
    return diffusion.fit(records, config, schema=schema, run=run, seed=5), config, schema


def test_a_generator_of_large_images_draws_the_declared_size_and_travels_whole():
    fitted, config, schema = _fitted(0)
    labels = np.tile([0, 1], 3)
    images = fitted.sample(labels, seed=1)
    assert images.shape == (6, 80, 72)
    again = diffusion.from_state(fitted.state(), config=config, schema=schema)
    np.testing.assert_array_equal(images, again.sample(labels, seed=1))
    assert fitted.score(images, labels, seed=0)["diffusion_loss"].shape == (6,)


def test_the_upsampler_is_the_same_whatever_the_records_are():
    (first, _, _), (second, _, _) = _fitted(0), _fitted(1)
    for key, value in first.upsampler.state_dict().items():
        torch.testing.assert_close(value, second.upsampler.state_dict()[key], rtol=0, atol=0)
