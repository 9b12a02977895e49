"""Dealing by rank keeps a teacher's order of images; moved images stay the images they were."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from privacy.manifests import DatasetSchema
from training.dealing import deal_by_rank, dealt
from training.teacher import Teacher, TeacherOptions
from training.warping import warped


def _ladder(scores):
    """Return five-grade probabilities whose expected grade is the score."""
    low = np.floor(np.minimum(scores, 3)).astype(int)
    table = np.zeros((len(scores), 5))
    table[np.arange(len(scores)), low] = 1 - (scores - low)
    table[np.arange(len(scores)), low + 1] = scores - low
    return table


@pytest.mark.parametrize("pool", [1.0, 1.5, 3.0])
def test_a_higher_grade_never_gets_an_image_that_looks_milder(pool):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3, 4], [30, 10, 25, 5, 20])
    rng.shuffle(labels)
    scores = rng.uniform(1.5, 2.5, size=int(pool * len(labels)))  # the teacher names one grade only
    chosen = deal_by_rank(_ladder(scores), labels, rng=rng)
    assert len(np.unique(chosen)) == len(labels)
    bands = [scores[chosen[labels == grade]] for grade in range(5)]
    for milder, worse in pairwise(bands):
        assert milder.max() <= worse.min()


def test_a_grade_nobody_asked_for_takes_no_images():
    labels = np.array([0, 0, 4, 4])
    scores = np.array([0.1, 3.9, 2.2, 1.8])
    chosen = deal_by_rank(_ladder(scores), labels, rng=np.random.default_rng(0))
    assert set(chosen[:2]) == {0, 3}
    assert set(chosen[2:]) == {1, 2}


def test_images_dealt_by_a_teacher_rise_with_the_grade_and_repeat_for_a_seed():
    schema = DatasetSchema(
        declared_count=60, height=16, width=16, bit_depth=8, label="g", labels=tuple("01234")
    )
    options = TeacherOptions(teacher="relabel", teacher_labels="ordinal", teacher_pool=2.0)
    teacher = Teacher.blank(options, schema)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        teacher.network.direction.weight.normal_(generator=generator)
        teacher.network.thresholds.bias.copy_(torch.linspace(1, -1, 4))

    def draw(labels, *, seed, progress=None):
        del progress
        rng = np.random.default_rng(seed)
        return rng.integers(0, 256, (len(labels), 16, 16)).astype(np.uint8)

    labels = np.arange(20) % 5
    images = dealt(draw, labels, teacher=teacher, options=options, seed=1)
    np.testing.assert_array_equal(
        images, dealt(draw, labels, teacher=teacher, options=options, seed=1)
    )
    grades = teacher.probabilities(images) @ np.arange(5)
    means = [grades[labels == grade].mean() for grade in range(5)]
    assert all(milder < worse for milder, worse in pairwise(means))


@pytest.mark.parametrize("pixel_type", [np.uint8, np.uint16])
def test_warped_images_are_moved_each_in_its_own_way_and_keep_their_grey_levels(pixel_type):
    image = np.full((24, 20), 10, dtype=pixel_type)
    image[8:16, 6:14] = 200
    images = np.repeat(image[None], 40, axis=0)
    moved = warped(images, strength=1.0, rng=np.random.default_rng(0))
    assert moved.shape == images.shape
    assert moved.dtype == pixel_type
    assert len(np.unique(moved, axis=0)) == 40
    assert moved.min() == 10
    assert moved.max() == 200
    bright = (moved > 100).sum(axis=(1, 2))
    assert 0.5 * 64 < bright.min() < bright.max() < 1.6 * 64
    assert abs(bright.mean() - 64) < 8


def test_no_strength_leaves_images_alone():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(
        warped(images, strength=0.0, rng=np.random.default_rng(0)), images
    )
