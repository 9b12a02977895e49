"""Dealing by rank keeps a teacher's order of images, and hands out every image once."""

from itertools import pairwise

import numpy as np
import pytest

from training.grades import deal_by_rank


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
