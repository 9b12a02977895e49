"""Dealing by rank keeps a teacher's order of images, and hands out every image once."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from privacy.manifests import DatasetSchema
from training.generators import diffusion
from training.grades import deal_by_rank, dealt_by_rank
from training.teacher import Teacher


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
    options = diffusion.Config(teacher="relabel", teacher_labels="ordinal")
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
    images = dealt_by_rank(draw, labels, teacher=teacher, seed=1, pool=2.0)
    np.testing.assert_array_equal(
        images, dealt_by_rank(draw, labels, teacher=teacher, seed=1, pool=2.0)
    )
    grades = teacher.probabilities(images) @ np.arange(5)
    means = [grades[labels == grade].mean() for grade in range(5)]
    assert all(milder < worse for milder, worse in pairwise(means))
