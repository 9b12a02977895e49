"""Outlines: black is lowered image by image, and drawn backgrounds stay black."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism, PoissonSubsampledGaussianMechanism
from tests.training.test_teacher import clipped_sum
from training.cells import CellSettings, fit_cells
from training.checkpoints import Progress
from training.generators import mixture
from training.outlines import REACH, lowest, sunk, sunk_coefficients, varied_detail
from training.randomness import reproducible
from training.records import TrainingRecords, decode, encode
from training.run import LocalRun
from training.spectrum import to_images

SCHEMA = DatasetSchema(declared_count=600, height=16, width=16, label="kind", labels=("a", "b"))
SLOPE = 0.12
STAGES = ("reference", "basis", "centres_1", "centres_2", "centres_3", "cells")
RELEASES = [GaussianMechanism(stage=s, noise_multiplier=0.1) for s in STAGES]


def _discs(count=600):
    """Return discs of many sizes and greys on black."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[0:16, 0:16] - 7.5
    size = rng.uniform(2, 7, (count, 1, 1))
    grey = rng.uniform(80, 250, (count, 1, 1))
    images = np.where(np.hypot(rows, columns) < size, grey, 0).astype(np.uint8)
    labels = (np.arange(count) % 2).astype(np.int16)
    return TrainingRecords(images=images, labels=labels, persons=np.arange(count))


def test_black_sinks_with_its_distance_and_nothing_else_moves():
    values = np.full((1, 1, 12), -0.5)
    values[0, 0, 0] = 0.2
    found = sunk(values, SLOPE)[0, 0]
    expected = -0.5 - SLOPE * np.minimum(np.arange(12), REACH)
    np.testing.assert_allclose(found[1:], expected[1:])
    assert found[0] == 0.2
    assert found.min() == pytest.approx(lowest(SLOPE))
    np.testing.assert_array_equal(sunk(values, 0.0), values)


@pytest.mark.parametrize("shape", [(40, 28, 28), (20, 3, 40), (5, 1, 1)])
def test_distances_are_those_of_an_exact_transform(shape):
    is_light = np.random.default_rng(6).random(shape) > 0.97
    is_light[:, 0, 0] = True
    exact = np.stack([distance_transform_edt(~one) for one in is_light])
    found = (-0.5 - sunk(np.where(is_light, 0.3, -0.5), SLOPE)) / SLOPE
    np.testing.assert_allclose(found[~is_light], np.minimum(exact, REACH)[~is_light], atol=1e-9)


def test_a_lowered_image_decodes_to_itself():
    images = _discs().images
    np.testing.assert_array_equal(decode(sunk(encode(images, SCHEMA), SLOPE), SCHEMA), images)


@pytest.mark.parametrize("others", [0, 255])
def test_an_image_is_lowered_the_same_whatever_lies_beside_it(others):
    images = encode(_discs(3).images, SCHEMA)
    images[1] = -0.5  # nothing but black
    alone = np.concatenate([sunk(image[None], SLOPE) for image in images])
    beside = encode(np.full((2, 16, 16), others, dtype=np.uint8), SCHEMA)
    stack = np.concatenate([beside, images, beside])
    np.testing.assert_array_equal(sunk(stack, SLOPE)[2:-2], alone)
    np.testing.assert_array_equal(sunk(stack[::-1], SLOPE)[2:-2][::-1], alone)


def test_a_stack_of_no_images_gives_none():
    assert sunk_coefficients(_discs().images[:0], SCHEMA, SLOPE).shape == (0, 256)


def test_backgrounds_are_drawn_black_where_black_was_lowered():
    records = _discs()

    def black_share(slope):
        run = LocalRun(RELEASES)
        settings = CellSettings(2, basis_coefficients=80, directions=16, background_slope=slope)
        model = fit_cells(records, settings, schema=SCHEMA, run=run, kept=Progress(run))
        drawn = model.draw(records.labels, reproducible(0), texture=0.5)
        return (decode(to_images(drawn, 16, 16), SCHEMA) == 0).mean()

    real = (records.images == 0).mean()
    assert abs(black_share(SLOPE) - real) < 0.5 * abs(black_share(0.0) - real)


def test_detail_varies_between_images_and_leaves_what_is_coarse():
    rng = np.random.default_rng(4)
    values = 0.1 * rng.standard_normal((400, 16, 16))
    varied = varied_detail(values, 0.6, reproducible(1).standard_normal(400))
    strength = np.log(varied.std(axis=(1, 2)) / values.std(axis=(1, 2)))
    assert 0.4 < strength.std() < 0.8
    np.testing.assert_allclose(
        varied[:, ::4, ::4].mean(), values[:, ::4, ::4].mean(), atol=3 * 0.1 / np.sqrt(6400)
    )
    np.testing.assert_array_equal(varied_detail(values, 0.0, np.ones(400)), values)


def test_the_balanced_mixture_keeps_outlines_and_leaves_detail_to_the_owner():
    preset = mixture.PRESETS["balanced"].resolved(units=60_000, epsilon=1.0)
    config = mixture.Config(**preset)
    assert config.background_slope > 0
    assert config.detail_spread == 0


def test_a_fitted_mixture_scores_images_as_it_measured_them():
    records = _discs(200)
    config = mixture.Config(background_slope=SLOPE, detail_spread=0.5, basis_coefficients=80)
    run = LocalRun(RELEASES)
    fitted = mixture.fit(records, config, schema=SCHEMA, run=run, seed=0)
    empty = np.zeros_like(records.images)
    own, other = (
        fitted.score(images, records.labels, seed=0)["log_density"]
        for images in (records.images, empty)
    )
    assert np.median(own) > other.max()
    again = type(fitted).from_state(fitted.state(), config=config, schema=SCHEMA)
    np.testing.assert_array_equal(
        fitted.sample(records.labels[:20], seed=5), again.sample(records.labels[:20], seed=5)
    )


@pytest.fixture(scope="module", params=[0.0, 0.6])
def redrawing(request):
    records = _discs()
    run = LocalRun(RELEASES)
    config = mixture.Config(
        cells_per_label=2, directions=12, background_slope=SLOPE, detail_spread=request.param
    )
    return mixture.fit(records, config, schema=SCHEMA, run=run, seed=0)


def test_an_image_is_redrawn_as_it_was_with_the_grain_of_drawn_ones(redrawing):
    images = _discs().images[:40]
    again = redrawing.redrawn(images)
    away = np.abs(again.astype(float) - images).mean(axis=(1, 2))
    strangers = np.abs(again.astype(float) - np.roll(images, 1, axis=0)).mean(axis=(1, 2))
    assert 0 < away.mean() < 0.5 * strangers.mean()
    assert (again[:, 0, 0] == 0).mean() > 0.8  # corners are black in records
    assert redrawing.redrawn(images[:0]).shape == (0, 16, 16)


@pytest.mark.parametrize("left_out", [0, 17, 39])
def test_an_image_is_redrawn_the_same_whichever_others_there_are(redrawing, left_out):
    images = _discs().images[:40]
    others = np.delete(np.arange(40), left_out)
    np.testing.assert_array_equal(
        redrawing.redrawn(images[others]), redrawing.redrawn(images)[others]
    )
    np.testing.assert_array_equal(redrawing.redrawn(images[::-1])[::-1], redrawing.redrawn(images))


@pytest.mark.parametrize("left_out", [0, 300, 599])
def test_a_person_moves_the_sum_of_a_teacher_that_sees_redrawn_records_by_at_most_the_clip(
    redrawing, left_out
):
    records = _discs()
    fewer = np.delete(np.arange(600), left_out)
    parts = (
        records,
        TrainingRecords(*(a[fewer] for a in (records.images, records.labels, records.persons))),
    )
    sums = [
        clipped_sum(part, np.arange(len(part)), schema=SCHEMA, redraw=redrawing.redrawn)
        for part in parts
    ]
    assert 0.3 < float((sums[0] - sums[1]).norm()) <= 1 + 1e-6


def test_membership_is_asked_of_a_teacher_in_each_view_that_it_saw():
    records = _discs(60)
    lessons = PoissonSubsampledGaussianMechanism(
        stage="teacher", noise_multiplier=1.0, sampling_rate=0.5, steps=2
    )
    config = mixture.Config(teacher="relabel", teacher_steps=2, teacher_sees_redrawn=True)
    fitted = mixture.fit(records, config, schema=SCHEMA, run=LocalRun([*RELEASES, lessons]), seed=0)
    scores = fitted.score(records.images, records.labels, seed=0)
    assert set(scores) == {"log_density", "teacher_confidence", "teacher_confidence_redrawn"}
    assert (scores["teacher_confidence"] != scores["teacher_confidence_redrawn"]).any()
