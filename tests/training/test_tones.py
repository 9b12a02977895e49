"""Tones: one person's grey levels count once; drawn images get the released grey levels."""

import numpy as np
import pytest

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism
from training.checkpoints import Progress
from training.records import TrainingRecords
from training.run import LocalRun
from training.tones import LEVELS, believable, curves, release_histograms, shares


def _schema(labels=2):
    return DatasetSchema(
        declared_count=100,
        height=16,
        width=16,
        bit_depth=8,
        label="grade",
        labels=tuple(f"grade {number}" for number in range(labels)),
    )


def _records(images, labels, persons):
    return TrainingRecords(
        images=np.asarray(images, np.uint8), labels=np.asarray(labels), persons=np.asarray(persons)
    )


def _release(records, noise=1e-6):
    run = LocalRun([GaussianMechanism(stage="tones", noise_multiplier=noise)])
    return release_histograms(records, schema=_schema(), run=run, index=0, kept=Progress(run)), run


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_shares_add_up_to_one_and_so_no_image_exceeds_the_clip(grey):
    rows = shares(np.full((1, 16, 16), grey / 255 - 0.5))
    assert rows.shape == (1, LEVELS)
    assert rows.sum() == 1
    assert rows.max() == 1


def test_a_person_counts_once_however_many_images_they_have():
    black, white = np.zeros((16, 16)), np.full((16, 16), 255)
    # Person 0 has fifty white images, person 1 a black one: half of the persons are white.
    records = _records([white] * 50 + [black], [0] * 51, [0] * 50 + [1])
    histograms, run = _release(records)
    assert run.charges == [1]
    assert histograms[0, 0] == pytest.approx(0.5, abs=0.01)
    assert histograms[0, -1] == pytest.approx(0.5, abs=0.01)


def test_drawn_images_get_the_released_grey_levels_and_keep_their_order():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    drawn = 0.1 * rng.standard_normal((400, 16, 16)) + 0.2 * labels[:, None, None]
    wanted = np.zeros((2, LEVELS))
    wanted[0, [0, -1]] = 0.75, 0.25
    wanted[1, 32] = 1.0
    toned = curves(drawn, labels, wanted).apply(drawn, labels)
    assert (toned[labels == 0] > 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(toned[labels == 1], 0.0, atol=1 / LEVELS)
    first = np.argsort(drawn[0].ravel())
    assert (np.diff(toned[0].ravel()[first]) >= 0).all()


def test_histograms_of_pure_noise_stay_histograms():
    rng = np.random.default_rng(1)
    for scale in (1.0, 100.0):
        rows = believable(scale * rng.standard_normal((3, LEVELS)), noise=scale)
        assert (rows >= 0).all()
        np.testing.assert_allclose(rows.sum(axis=1), 1)


def test_levels_that_do_not_stand_out_of_the_noise_stay_empty():
    rng = np.random.default_rng(2)
    truth = np.zeros((10, LEVELS))
    truth[:, [0, 40]] = 800, 200
    rows = believable(truth + 5 * rng.standard_normal(truth.shape), noise=5.0)
    assert rows[:, [0, 40]].sum(axis=1).min() > 0.97
