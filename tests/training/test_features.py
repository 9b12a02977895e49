"""Features are a fixed function of one image: bounded, blind to other images and to small shifts."""

import numpy as np
import pytest
import torch

from privacy.manifests import DatasetSchema
from training.features import Layout, features, scattering


def _schema(height=28, width=28, bit_depth=8):
    return DatasetSchema(
        declared_count=100,
        height=height,
        width=width,
        bit_depth=bit_depth,
        label="grade",
        labels=("0", "1"),
    )


def _images(count=6, height=28, width=28, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, size=(count, height, width)).astype(np.uint8)


def test_an_image_of_28_pixels_has_two_scales_on_seven_by_seven_windows():
    layout = Layout.of(_schema())
    assert (layout.scales, layout.windows) == (2, (7, 7))
    assert Layout.of(_schema(64, 64)).scales == 3


@pytest.mark.parametrize(
    ("height", "width", "bit_depth"),
    [(8, 8, 8), (20, 16, 8), (28, 28, 8), (48, 40, 16), (300, 200, 8)],
)
def test_features_have_the_declared_size_and_a_norm_of_at_most_one(height, width, bit_depth):
    schema = _schema(height, width, bit_depth)
    images = _images(5, height, width).astype(np.uint8 if bit_depth == 8 else np.uint16)
    values = features(images, schema)
    assert values.shape == (5, Layout.of(schema).size)
    assert np.isfinite(values).all()
    assert np.linalg.norm(values, axis=1).max() <= 1 + 1e-5


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_image_of_one_grey_has_finite_features(grey):
    values = features(np.full((1, 28, 28), grey, np.uint8), _schema())
    assert np.isfinite(values).all()
    assert np.linalg.norm(values) <= 1


def test_features_of_an_image_do_not_depend_on_the_images_beside_it():
    images = _images(300)
    together = features(images, _schema())
    for place in (0, 127, 128, 299):
        alone = features(images[place : place + 1], _schema())[0]
        np.testing.assert_allclose(together[place], alone, atol=1e-5)


def test_brightness_is_seen_and_contrast_matters_less_than_the_picture():
    rng = np.random.default_rng(1)
    pattern, other = np.kron(rng.random((2, 7, 7)), np.ones((4, 4)))
    images = [120 * pattern + 10, 120 * pattern + 130, 60 * pattern + 40, 120 * other + 10]
    dark, bright, flat, different = features(np.stack(images).astype(np.uint8), _schema())
    assert np.linalg.norm(dark - bright) > 0.1
    assert np.linalg.norm(dark - flat) < 0.4 * np.linalg.norm(dark - different)


def test_a_wavelet_sees_waves_of_its_own_direction_and_size():
    layout = Layout.of(_schema(64, 64))
    x = np.arange(64)
    across = np.tile(0.5 * np.cos(0.75 * np.pi * x), (64, 1))
    down = across.T.copy()
    paths = scattering(torch.from_numpy(np.stack([across, down])).float(), layout)
    first = paths[:, 1 : 1 + layout.angles].mean(dim=(2, 3))
    assert int(first[0].argmax()) == 0
    assert int(first[1].argmax()) == layout.angles // 2
    coarse = paths[:, 1 + layout.angles : 1 + 2 * layout.angles].mean(dim=(2, 3))
    assert float(first[0].max()) > 3 * float(coarse[0].max())


def test_a_shift_by_a_pixel_changes_features_less_than_another_picture_does():
    rng = np.random.default_rng(2)
    smooth = np.kron(rng.random((2, 8, 8)), np.ones((4, 4)))
    images = np.stack([smooth[0, 2:30, 2:30], smooth[0, 2:30, 3:31], smooth[1, 2:30, 2:30]])
    values = features((255 * images).astype(np.uint8), _schema())
    assert np.linalg.norm(values[0] - values[1]) < 0.5 * np.linalg.norm(values[0] - values[2])
