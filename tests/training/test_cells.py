"""Cells of images: what a person can change of a release, what is charged, and what is found."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter, ReservationExceeded
from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianMechanism
from training import releases
from training.cells import (
    CENTRE_STEPS,
    CellSettings,
    cells_allowed,
    fit_cells,
    refuse_the_oversized,
)
from training.checkpoints import Progress, ReleaseLost
from training.covariances import cell_factors
from training.mixture import Mixture
from training.records import PersonIndex, TrainingRecords
from training.releases import sum_of_clipped, sum_of_second_moments
from training.run import LocalRun
from training.spectrum import to_coefficients, to_images

SCHEMA = DatasetSchema(declared_count=500, height=8, width=10, label="kind", labels=("a", "b"))
CELLS, SIZE, SHARE = 4, 5, 0.9
STAGES = ("reference", "basis", "centres_1", "centres_2", "centres_3", "cells")


def _sums(values, cells, persons):
    return sum_of_second_moments(
        lambda indices: values[indices],
        lambda indices: np.ones((len(indices), 1)),
        cells,
        people=PersonIndex.of(persons),
        cell_count=CELLS,
        share=SHARE,
    )


def _people(rng, scale=1.0):
    persons = rng.permutation(np.repeat([3, 8, 9, 20], [1, 2, 50, 2]))
    values = scale * rng.standard_normal((len(persons), SIZE))
    return values, rng.integers(CELLS, size=len(persons)), persons


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1e6, 1e200])
def test_nobody_changes_a_sum_of_second_moments_by_more_than_one(scale):
    values, cells, persons = _people(np.random.default_rng(3), scale)
    whole = _sums(values, cells, persons)
    for person in np.unique(persons):
        others = persons != person
        change = whole - _sums(values[others], cells[others], persons[others])
        assert np.linalg.norm(change) <= 1.0


@pytest.mark.parametrize("images", [1, 2, 50])
def test_equal_images_in_one_cell_come_as_near_to_one_as_their_clip_and_no_nearer(images):
    values = np.tile(np.eye(SIZE)[0] * 7.0, (images, 1))
    change = _sums(values, np.full(images, 2), np.zeros(images, dtype=np.int64))
    assert 1 - 3e-5 < np.linalg.norm(change) <= 1.0


def test_a_person_whose_pixels_are_not_numbers_adds_a_bounded_sum():
    values, cells, persons = _people(np.random.default_rng(4))
    values[persons == 8] = [[np.nan], [np.inf]]
    assert np.isfinite(_sums(values, cells, persons)).all()


def test_matrix_products_give_what_a_release_of_packed_vectors_would():
    values, cells, persons = _people(np.random.default_rng(5), 0.1)
    rows, columns = np.triu_indices(SIZE)
    scale = SHARE * np.where(rows == columns, 1.0, np.sqrt(2))

    def packed(indices):
        own = values[indices]
        ones = np.full((len(own), 1), np.sqrt(1 - SHARE**2))
        return np.concatenate([own[:, rows] * own[:, columns] * scale, ones], axis=1)

    expected = sum_of_clipped(packed, cells, people=PersonIndex.of(persons), cell_count=CELLS)
    np.testing.assert_allclose(_sums(values, cells, persons), expected, atol=1e-4)


def test_blocks_of_persons_give_the_sums_of_one_block(monkeypatch):
    values, cells, persons = _people(np.random.default_rng(6))
    whole = _sums(values, cells, persons)
    monkeypatch.setattr(releases, "_RECORDS_AT_ONCE", 3)
    np.testing.assert_allclose(_sums(values, cells, persons), whole, atol=1e-12)


def test_noise_is_that_of_the_mechanism_before_its_share_is_undone():
    values, cells, persons = _people(np.random.default_rng(7))
    values, cells = np.zeros((len(persons), 30)), np.zeros_like(cells)
    moments, others = releases.release_second_moments(
        lambda indices: values[indices],
        lambda indices: np.ones((len(indices), 40)),
        cells,
        people=PersonIndex.of(persons),
        cell_count=20,
        share=SHARE,
        mechanism=GaussianMechanism(stage="cells", noise_multiplier=8.0),
    )
    on, off = np.diagonal(moments, axis1=1, axis2=2), moments[:, 0, 1:]
    assert on.std() == pytest.approx(8.0 / SHARE, rel=0.15)
    assert off.std() == pytest.approx(8.0 / SHARE / np.sqrt(2), rel=0.15)
    assert others[1:].std() == pytest.approx(8.0 / np.sqrt(1 - SHARE**2), rel=0.15)
    np.testing.assert_array_equal(moments, moments.transpose(0, 2, 1))


def _records(count=900):
    """Two kinds of pictures in label a (bright above or below), one in label b."""
    rng = np.random.default_rng(1)
    labels, kinds = rng.integers(2, size=count), rng.integers(2, size=count)
    rows = np.mgrid[0:8, 0:10][0]
    half = np.where(kinds[:, None, None] == 1, rows < 4, rows >= 4)
    images = 90 + np.where(labels[:, None, None] == 0, 80 * half, 40)
    images = images + rng.normal(0, 4, images.shape)
    return TrainingRecords(
        images=np.clip(images, 0, 255).astype(np.uint8),
        labels=labels.astype(np.int16),
        persons=np.arange(count),
    )


def _run(noise):
    return LocalRun([GaussianMechanism(stage=s, noise_multiplier=noise) for s in STAGES])


def _fit(noise, run=None):
    run = run or _run(noise)
    settings = CellSettings(cells_per_label=2, basis_coefficients=30, directions=8)
    return fit_cells(_records(), settings, schema=SCHEMA, run=run, kept=Progress(run))


def test_every_release_is_charged_once_and_none_without_a_charge():
    run = _run(0.05)
    _fit(0.05, run)
    assert run.charges == [1] * (CENTRE_STEPS + 3)
    for missing in range(len(STAGES)):
        spent = _run(0.05)
        spent.charges[missing] = 1
        with pytest.raises(ReleaseLost):
            _fit(0.05, spent)


def test_a_reservation_with_no_step_left_refuses_before_anything_is_read():
    mechanisms = [GaussianMechanism(stage=s, noise_multiplier=1.0, steps=0) for s in STAGES]
    with pytest.raises(ReservationExceeded):
        _fit(1.0, LocalRun(mechanisms))


def test_cells_whose_covariances_do_not_fit_into_memory_are_refused_before_anything_is_spent():
    labels = tuple(f"{n}" for n in range(20))
    schema = SCHEMA.model_copy(update={"labels": labels})
    settings = CellSettings(cells_per_label=64, basis_coefficients=600, directions=256)
    run = _run(1.0)
    with pytest.raises(InvalidParameter, match=r"64 cells in each of 20 labels.* 3\.1 GiB"):
        fit_cells(_records(), settings, schema=schema, run=run, kept=Progress(run))
    assert run.charges == [0] * len(STAGES)
    refuse_the_oversized(10, 64, settings)
    refuse_the_oversized(100, 10, CellSettings(0, basis_coefficients=200, directions=96))


def test_two_kinds_of_pictures_in_a_label_become_two_cells():
    model = _fit(0.02)
    drawn = model.draw(np.zeros(300, dtype=np.int64), np.random.default_rng(0), texture=0.0)
    images = to_images(drawn, 8, 10)
    above = images[:, :4].mean(axis=(1, 2)) - images[:, 4:].mean(axis=(1, 2))
    # 80 grey levels apart, and nothing in between, where one Gaussian would put most.
    assert (np.abs(above * 255) > 50).mean() > 0.95
    assert 0.3 < (above > 0).mean() < 0.7


def test_density_ranks_records_of_the_data_above_foreign_ones():
    model, records = _fit(0.05), _records()
    foreign = np.random.default_rng(2).integers(0, 255, records.images.shape)
    own, other = (
        model.log_density(to_coefficients(images / 255 - 0.5), records.labels)
        for images in (records.images, foreign)
    )
    assert np.median(own) > np.max(other)


def test_noise_that_hides_everything_still_gives_a_model_that_can_be_drawn_from():
    model = _fit(2000.0)
    rng = np.random.default_rng(0)
    assert np.isfinite(model.draw(np.array([0, 1]), rng, texture=1.0)).all()


def test_a_state_gives_the_same_draws():
    model = _fit(0.05)
    again = Mixture.from_state(model.state())
    first, second = (
        m.draw(np.array([0, 1, 1]), np.random.default_rng(3), texture=0.5) for m in (model, again)
    )
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_a_cells_covariance_is_its_own_without_noise_and_leans_on_the_others_with_it():
    rng = np.random.default_rng(8)
    true = np.stack([np.diag(rng.permutation([0.4, 0.3, 0.2, 0.1])) for _ in range(6)])
    true, counts = true.reshape(2, 3, 4, 4), np.full((2, 3), 500.0)
    noise = rng.standard_normal(true.shape)
    noise = (noise + noise.transpose(0, 1, 3, 2)) / 2

    def error(sigma):
        sums = true * counts[..., None, None] + sigma * noise
        factors = cell_factors(sums, counts, noise=max(sigma, 1e-6))
        found = factors @ factors.transpose(0, 1, 3, 2)
        return np.sqrt(np.square(found - true).sum(axis=(2, 3)).mean())

    raw = 200.0 / 500.0 * np.sqrt(np.square(noise).sum(axis=(2, 3)).mean())
    assert error(0.0) < 0.02
    assert error(200.0) < 0.6 * raw


def test_cells_are_more_where_there_are_more_persons_for_the_noise():
    found = [cells_allowed(persons, noise=2.0) for persons in (10, 1_000, 20_000, 1e9)]
    assert found[0] == 1
    assert found == sorted(found)
    assert found[-1] == 64
