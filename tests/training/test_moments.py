"""The Gaussian learnt from noised moments: right without much noise, sober with a lot of it."""

import numpy as np
import pytest

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism
from training import moments
from training.checkpoints import Progress
from training.class_gaussian import SIDES
from training.diffusion import GaussianDenoiser
from training.moments import MomentSettings, fit_moments
from training.procedural import LeafPool, dead_leaves
from training.records import TrainingRecords
from training.run import LocalRun
from training.shrinkage import shrink_table
from training.spectrum import low_frequencies, to_coefficients, to_images

SCHEMA = DatasetSchema(declared_count=500, height=12, width=10, label="grade", labels=("a", "b"))


def _records(persons=800):
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=persons)
    rows = np.mgrid[0:12, 0:10][0]
    slope = rng.standard_normal((persons, 1, 1)) * (rows - 5.5) / 5.5
    images = 110 + 40 * labels[:, None, None] + 15 * slope + rng.normal(0, 3, (persons, 12, 10))
    return TrainingRecords(
        images=np.clip(images, 0, 255).astype(np.uint8),
        labels=labels.astype(np.int16),
        persons=np.arange(persons),
    )


def _fit(noise, records=None):
    run = LocalRun(
        [GaussianMechanism(stage=stage, noise_multiplier=noise) for stage in ("a", "b", "c")]
    )
    settings = MomentSettings(mean_frequencies=16, covariance_coefficients=30)
    return fit_moments(records or _records(), settings, schema=SCHEMA, run=run, kept=Progress(run))


def test_with_little_noise_class_means_and_the_main_variation_are_found():
    model = _fit(0.01)
    records = _records()
    values = records.images / 255 - 0.5
    weights = model.side_weights()
    for label in range(2):
        found = to_images((weights[label][:, None] * model.means[label]).sum(0)[None], 12, 10)[0]
        true = values[records.labels == label].mean(axis=0)
        assert np.abs(found - true).max() < 0.02
    rows = np.mgrid[0:12, 0:10][0].astype(float)
    slope = to_coefficients((rows - rows.mean())[None])[0]
    alignment = abs(model.components[0] @ slope) / np.linalg.norm(slope)
    assert alignment > 0.95


def test_draws_have_the_mean_of_their_label():
    model = _fit(0.05)
    rng = np.random.default_rng(0)
    drawn = [to_images(model.draw(np.full(500, k), rng), 12, 10).mean() for k in (0, 1)]
    assert (drawn[1] - drawn[0]) * 255 == pytest.approx(40, abs=6)


def test_noise_of_the_fine_frequencies_is_not_taken_for_signal():
    fine = np.hypot(*np.mgrid[0:12, 0:10]).ravel() > 8
    powers = [np.square(_fit(20.0).means[..., fine]).mean() for _ in range(5)]
    # Unshrunk, the noise of reference and class means has a power of about 0.04 there.
    assert np.median(powers) < 0.02


def test_noise_that_hides_everything_still_gives_a_model_that_can_be_drawn_from():
    model = _fit(2000.0)
    assert len(model.variances) <= 10
    assert np.isfinite(model.draw(np.array([0, 1]), np.random.default_rng(0))).all()


def test_log_density_ranks_records_of_the_data_above_foreign_ones():
    model, records = _fit(0.05), _records()
    foreign = np.random.default_rng(2).integers(0, 255, records.images.shape)
    own, other = (
        model.log_density(to_coefficients(images / 255 - 0.5), records.labels)
        for images in (records.images, foreign)
    )
    assert np.median(own) > np.max(other)


def test_the_gaussian_denoiser_reaches_the_error_that_it_expects():
    import torch

    model = _fit(0.05)
    gaussian = GaussianDenoiser(model, schema=SCHEMA)
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=4000)
    # Draw with one length for all, which is the Gaussian that the denoiser is exact for.
    sides = (rng.random(4000) > model.side_weights()[labels, 0]).astype(int)
    deviation = rng.standard_normal((4000, len(model.variances))) * np.sqrt(model.variances)
    clean = model.means[labels, sides] + deviation @ model.components
    clean += rng.standard_normal(clean.shape) * np.sqrt(model.residual_variance)
    images = torch.from_numpy((to_images(clean, 12, 10) / gaussian.scale).astype(np.float32))
    for level in (0.1, 0.5, 2.0):
        sigma = torch.full((4000,), level)
        noisy = images + level * torch.randn(
            images.shape, generator=torch.Generator().manual_seed(1)
        )
        error = (gaussian(noisy, sigma, torch.from_numpy(labels)) - images).square().mean().sqrt()
        expected = float(gaussian.expected_error(sigma[:1]))
        assert float(error) == pytest.approx(expected, rel=0.15)


def test_low_frequencies_start_with_the_mean_brightness():
    assert low_frequencies(SCHEMA, 3).tolist() == [0, 1, 10]


def test_every_label_has_both_sides_and_positive_weights():
    weights = _fit(200.0).side_weights()
    assert weights.shape == (2, SIDES)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_dead_leaves_repeat_for_a_seed_and_take_the_gaussians_second_moment():
    first, second = (
        dead_leaves(3, height=12, width=10, rng=np.random.default_rng(4)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    model, rng = _fit(0.05), np.random.default_rng(5)
    pool = LeafPool(200, model=model, schema=SCHEMA, rng=rng)
    labels = np.zeros(2000, dtype=np.int64)
    leaves, plain = pool.draw(labels).var(axis=0).sum(), model.draw(labels, rng).var(axis=0).sum()
    assert leaves == pytest.approx(plain, rel=0.35)


def test_bins_that_noise_explains_do_not_make_a_typical_length_longer():
    rng = np.random.default_rng(0)
    true = np.zeros(moments.LENGTH_BINS)
    true[4:7] = 300, 700, 400
    centres = moments._bin_centres()
    mean = true @ centres / true.sum()
    found = [
        moments._believable(true + 80 * rng.standard_normal(len(true)), 80.0) for _ in range(20)
    ]
    lengths = [bins @ centres / bins.sum() for bins in found]
    clipped = [
        np.maximum(true + 80 * rng.standard_normal(len(true)), 0) @ centres / true.sum()
        for _ in range(20)
    ]
    assert abs(np.mean(lengths) - mean) < 0.3 * abs(np.mean(clipped) - mean)
    assert moments._believable(np.full(4, -1.0), 1.0).tolist() == [0, 0, 0, 0]
    assert moments._believable(np.array([1.0, 0.5]), 9.0).tolist() == [1.0, 0.0]  # its peak stays


def test_means_of_combined_columns_borrow_from_each_column():
    rng = np.random.default_rng(0)
    effects = [rng.standard_normal((size, 50)) for size in (5, 3, 2)]
    true = effects[0][:, None, None] + effects[1][None, :, None] + effects[2][None, None]
    noise, bands = 1.5, np.zeros(50, dtype=np.int64)
    spread = np.full((5, 3, 2), noise)
    apart, together = [], []
    for _ in range(5):
        raw = true + noise * rng.standard_normal(true.shape)
        together.append(np.square(shrink_table(raw, spread, bands) - true).mean())
        flat = shrink_table(raw.reshape(15, 2, 50), spread.reshape(15, 2), bands)
        apart.append(np.square(flat.reshape(true.shape) - true).mean())
    assert np.mean(together) < 0.7 * np.mean(apart)
