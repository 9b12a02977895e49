"""Distances agree with slow references, are blind to arms, and know pictures of nobody."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from privacy import distances
from privacy.distances import Gallery, image_spaces, pooling_matrix, table_spaces
from privacy.errors import InvalidParameter
from privacy.evidence import Arm
from privacy.neighbourhoods import population_of, spaces_for
from privacy.tangents import directions, smoothed
from tests.privacy.audit_material import innocent_table, pictures

PIXELS, TILES, HASH, MOVED = image_spaces()


def searched(space, queries, records, persons):
    gallery = Gallery(space, records, persons, count=int(persons.max()) + 1)
    return np.concatenate([block for _, block in gallery.search(queries)])


def test_pooling_averages_whole_pixels():
    pooled = pooling_matrix(4, 2, shift=0, flip=False)
    assert pooled.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


@pytest.mark.parametrize("size", [8, 28, 64, 100])
@pytest.mark.parametrize("shift", [-1.3, 0.0, 2.0])
def test_pooling_weights_are_averages_whatever_the_size_and_shift(size, shift):
    weights = pooling_matrix(size, min(16, size), shift=shift, flip=False)
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (weights >= 0).all()


def test_a_flipped_pooling_sees_the_mirror_image():
    row = np.random.default_rng(1).normal(size=28).astype(np.float32)
    plain = pooling_matrix(28, 14, shift=0, flip=False) @ row[::-1]
    assert pooling_matrix(28, 14, shift=0, flip=True) @ row == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("space", [PIXELS, TILES, HASH, MOVED], ids=lambda s: s.name)
def test_a_record_is_at_distance_zero_of_its_copy_and_its_mirror_image(space):
    records = pictures(6, np.random.default_rng(2))
    persons = np.arange(6)
    assert np.diag(searched(space, records, records, persons)) == pytest.approx(0, abs=2e-3)
    mirrored = searched(space, records[:, :, ::-1], records, persons)
    assert np.diag(mirrored) == pytest.approx(0, abs=2e-3)


def test_brightness_and_contrast_do_not_hide_a_copy():
    records = pictures(5, np.random.default_rng(3))
    dimmed = (records.astype(float) * 0.5 + 20).astype(np.uint8)
    found = searched(PIXELS, dimmed, records, np.arange(5))
    assert (found.argmin(axis=1) == np.arange(5)).all()
    assert np.diag(found).max() < 0.05


def test_a_persons_distance_is_the_smallest_over_their_records():
    rng = np.random.default_rng(4)
    records, queries = pictures(9, rng), pictures(4, rng)
    persons = np.array([2, 0, 1, 2, 0, 1, 1, 2, 0])
    single = searched(TILES, queries, records, np.arange(9))
    expected = np.stack([single[:, persons == p].min(axis=1) for p in range(3)], axis=1)
    assert searched(TILES, queries, records, persons) == pytest.approx(expected, abs=1e-6)


def test_tile_distance_is_the_slow_maximum_over_tiles():
    rng = np.random.default_rng(5)
    one, other = pictures(2, rng)
    features = TILES.describe(np.stack([one, other]))

    def tile_distance(query):
        parts = TILES.describe(query[None])
        gaps = [((a[0, :-2] - b[1, :-2]) ** 2).sum() for a, b in zip(parts, features, strict=True)]
        return np.sqrt(max(gaps))

    slow = min(tile_distance(one), tile_distance(one[:, ::-1]))
    found = searched(TILES, one[None], np.stack([one, other]), np.arange(2))[0, 1]
    assert found == pytest.approx(slow, rel=1e-4)


def test_a_blank_picture_resembles_nobody_and_not_even_another_blank_one():
    rng = np.random.default_rng(6)
    blank = np.full((1, 32, 32), 90, dtype=np.uint8)
    records = np.concatenate([pictures(3, rng), blank])
    for space in image_spaces():
        assert searched(space, blank, records, np.arange(4)).min() > 1.0


def test_block_size_changes_nothing(monkeypatch):
    rng = np.random.default_rng(7)
    records, queries, persons = pictures(30, rng), pictures(20, rng), np.arange(30) // 2
    whole = searched(PIXELS, queries, records, persons)
    monkeypatch.setattr(distances, "_BLOCK_FLOATS", 100)
    assert searched(PIXELS, queries, records, persons) == pytest.approx(whole, abs=1e-4)


def test_table_distance_is_euclid_of_scaled_columns():
    rng = np.random.default_rng(8)
    reference = rng.normal(size=(50, 3)) * [1, 10, 100]
    space, *_ = table_spaces(reference)
    queries, records = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    scale = reference.std(axis=0)
    slow = np.linalg.norm((queries[:, None] - records) / scale, axis=2)
    assert searched(space, queries, records, np.arange(6)) == pytest.approx(slow, abs=1e-3)


def test_a_gallery_refuses_persons_with_gaps():
    with pytest.raises(InvalidParameter, match="without gaps"):
        Gallery(PIXELS, pictures(2, np.random.default_rng(9)), np.array([0, 2]), count=3)


def turned_and_cropped(record, *, degrees, share):
    """Return the middle `share` of a picture turned by `degrees`, at its old size."""
    angle = np.deg2rad(degrees)
    matrix = share * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(record.shape) - 1) / 2
    return ndimage.affine_transform(
        record.astype(float), matrix, offset=middle - matrix @ middle, order=1, mode="nearest"
    )


@pytest.mark.parametrize(("degrees", "share"), [(5, 1.0), (-5, 1.0), (0, 0.9), (3, 0.93)])
def test_the_moved_space_knows_turned_and_cropped_pictures_that_plain_pixels_do_not(degrees, share):
    records = pictures(60, np.random.default_rng(10))
    changed = np.stack([turned_and_cropped(r, degrees=degrees, share=share) for r in records[:20]])
    persons = np.arange(60)
    moved = searched(MOVED, changed, records, persons)
    plain = searched(PIXELS, changed, records, persons)
    assert (moved.argmin(axis=1) == np.arange(20)).all()
    own = np.arange(20), np.arange(20)
    assert moved[own].mean() < 0.6 * plain[own].mean()


def test_tangent_distance_is_the_slow_distance_to_the_tangent_plane():
    one, other = pictures(2, np.random.default_rng(11))
    x, y = (part[:, :-1] for part in (MOVED.describe(p[None])[0] for p in (one, other)))
    pooled = distances._pooled(one[None], down=0, right=0, flip=False, cells=24)
    fields = smoothed(pooled, (24, 24))
    basis = directions(fields)[0]
    assert basis @ basis.T == pytest.approx(np.eye(5), abs=1e-4)
    gap = (y - x)[0]
    slow = np.linalg.norm(gap - basis.T @ (basis @ gap))
    parts = next(itertools.islice(MOVED.views(one[None]), 1, None))
    record = np.append(y[0], 1.0)
    along = [float(part[0] @ record) for part in parts[1:]]
    fast = np.sqrt(-2 * (float(parts[0][0] @ record) + 0.5 * sum(a**2 for a in along)))
    assert fast == pytest.approx(slow, rel=1e-3)


def rows_with_few_values(count, rng):
    """Return rows whose first two columns hold whole numbers up to 3 and the others anything."""
    return np.hstack([rng.integers(0, 4, (count, 2)), rng.normal(size=(count, 3))])


def test_noise_on_columns_with_few_values_hides_nothing_from_the_worst_column():
    rng = np.random.default_rng(12)
    records = rows_with_few_values(200, rng)
    _, worst, *_ = table_spaces(records[100:], records)
    queries = records[:20].copy()
    queries[:, :2] += rng.uniform(-0.4, 0.4, (20, 2))
    found = searched(worst, queries, records, np.arange(200))
    assert np.diag(found) == pytest.approx(0, abs=2e-3)


def test_the_worst_column_and_all_but_one_are_slow_distances():
    rng = np.random.default_rng(13)
    records, queries = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    _, worst, all_but_one, *_ = table_spaces(records)
    gaps = np.abs(queries[:, None] - records) / records.std(axis=0)
    persons = np.arange(30)
    assert searched(worst, queries, records, persons) == pytest.approx(gaps.max(axis=2), abs=2e-3)
    slow = np.sqrt((gaps**2).sum(axis=2) - gaps.max(axis=2) ** 2)
    assert searched(all_but_one, queries, records, persons) == pytest.approx(slow, abs=2e-3)


def test_distances_of_rows_see_no_arm_where_reference_half_a_is_too_small_to_scale_them():
    rng = np.random.default_rng(3)
    evidence = innocent_table(rng, persons=120, samples=20)
    found = []
    for held_out in (range(40), range(80, 120)):
        arms = np.full(120, Arm.TRAIN, dtype=np.int8)
        arms[list(held_out)] = Arm.AUDIT_OUT
        arms[50:60] = Arm.REFERENCE_A
        population = population_of(replace(evidence, arms=arms))
        found.append(
            [
                searched(space, evidence.samples, population.records, population.persons)
                for space in spaces_for(evidence, population)
            ]
        )
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
