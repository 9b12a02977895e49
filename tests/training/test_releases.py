"""One-shot releases: what a person can change, whatever the records hold."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import GaussianMechanism, PoissonSubsampledGaussianMechanism
from training import releases
from training.randomness import PrivacyRandomness, noised_sum
from training.records import PersonIndex
from training.releases import CLIP_NORM, release_sum, sum_of_clipped

DIMENSION = 7
CELLS = 4


def _clipped(values, cells, persons):
    return sum_of_clipped(
        lambda indices: values[indices], cells, people=PersonIndex.of(persons), cell_count=CELLS
    )


def _naive(values, cells, persons):
    """Clip and sum with plain loops, as the definition reads."""
    total = np.zeros((CELLS, DIMENSION))
    for person in np.unique(persons):
        own = np.flatnonzero(persons == person)
        table = np.zeros((CELLS, DIMENSION))
        for record in own:
            table[cells[record]] += values[record] / len(own)
        limit = CLIP_NORM * (1 - releases._ROUNDING_SLACK)
        total += table / max(1.0, np.linalg.norm(table) / limit)
    return total


def _people_of_1_2_and_50_images(rng):
    persons = np.repeat([3, 8, 9, 20], [1, 2, 50, 2])
    order = rng.permutation(len(persons))
    return persons[order], rng.integers(CELLS, size=len(persons))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_sum_equals_a_naive_loop_for_persons_of_1_2_and_50_images_with_mixed_labels(scale):
    rng = np.random.default_rng(3)
    persons, cells = _people_of_1_2_and_50_images(rng)
    values = scale * rng.standard_normal((len(persons), DIMENSION))
    np.testing.assert_allclose(
        _clipped(values, cells, persons), _naive(values, cells, persons), rtol=1e-8, atol=1e-12
    )


ADVERSARIAL = {
    "huge": lambda n: np.full((n, DIMENSION), 1e200),
    "largest": lambda n: np.full((n, DIMENSION), np.finfo(np.float64).max),
    "infinite": lambda n: np.full((n, DIMENSION), np.inf),
    "nan": lambda n: np.full((n, DIMENSION), np.nan),
    "aligned": lambda n: np.tile(np.eye(DIMENSION)[0] * 5, (n, 1)),
    "tiny": lambda n: np.full((n, DIMENSION), 1e-300),
}


@pytest.mark.parametrize("count", [1, 2, 50])
@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_adding_a_person_changes_the_sum_by_at_most_the_clip(kind, count):
    rng = np.random.default_rng(4)
    persons, cells = _people_of_1_2_and_50_images(rng)
    values = rng.standard_normal((len(persons), DIMENSION))
    before = _clipped(values, cells, persons)
    more = np.concatenate([values, ADVERSARIAL[kind](count)])
    more_cells = np.concatenate([cells, np.arange(count) % CELLS])
    after = _clipped(more, more_cells, np.concatenate([persons, np.full(count, 77)]))
    assert np.linalg.norm(after - before) <= CLIP_NORM * (1 + 1e-12)


def test_release_adds_noise_of_the_stated_size_and_never_the_same_twice():
    mechanism = GaussianMechanism(stage="s", noise_multiplier=2.5)
    people = PersonIndex.of(np.zeros(0, dtype=np.int64))
    empty = np.zeros((0, 40_000))

    def draw():
        cells = np.zeros(0, dtype=np.int64)
        return release_sum(
            lambda i: empty[i], cells, people=people, cell_count=1, mechanism=mechanism
        )

    first, second = draw(), draw()
    # The standard error of a standard deviation of 40,000 draws is 0.35 %: five of them.
    assert np.std(first) == pytest.approx(2.5, rel=0.0177)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("noise", [0.7, 1.0, 40.0])
def test_what_may_be_released_is_one_lattice_whatever_the_records(noise):
    mechanism = GaussianMechanism(stage="s", noise_multiplier=noise)
    grid = 2.0 ** (np.floor(np.log2(noise)) - 34)
    rng = np.random.default_rng(6)
    for persons in (np.zeros(0, dtype=np.int64), np.arange(50)):
        values = rng.standard_normal((len(persons), 200))
        released = release_sum(
            lambda i, values=values: values[i],
            np.zeros(len(persons), dtype=np.int64),
            people=PersonIndex.of(persons),
            cell_count=1,
            mechanism=mechanism,
        )
        steps = released / grid  # exact: the lattice is a power of two
        np.testing.assert_array_equal(steps, np.round(steps))
        assert (steps % 2 == 1).any()


class Deviations(PrivacyRandomness):
    """Notes the deviation that noise is asked for."""

    def noised_values(self, total, deviation):
        self.asked = deviation
        return super().noised_values(total, deviation)


@pytest.mark.parametrize("noise", [0.7, 100.0, 2000.0])
def test_noise_covers_what_rounding_adds_to_the_sensitivity_of_any_number_of_values(noise):
    source, sensitivity = Deviations(), 3.0
    values = np.zeros((4, 250_000))
    released = noised_sum(values, noise, sensitivity=sensitivity, source=source)
    assert released.shape == values.shape
    grid = 2.0 ** (np.floor(np.log2(source.asked)) - 34)
    # Two neighbouring sums, each rounded, are so far apart at most.
    apart = sensitivity + np.sqrt(values.size) * grid
    assert source.asked / apart >= noise
    assert source.asked <= noise * sensitivity * (1 + 1e-3)


def test_release_refuses_a_mechanism_that_is_not_one_gaussian_release():
    people, cells = PersonIndex.of(np.zeros(1, dtype=np.int64)), np.zeros(1, dtype=np.int64)
    subsampled = PoissonSubsampledGaussianMechanism(
        stage="s", noise_multiplier=1, sampling_rate=0.5, steps=1
    )
    twice = GaussianMechanism(stage="s", noise_multiplier=1, steps=2)
    for mechanism, error in ((subsampled, UnsupportedMechanism), (twice, InvalidParameter)):
        with pytest.raises(error, match="refused"):
            release_sum(
                lambda i: np.zeros((len(i), 2)),
                cells,
                people=people,
                cell_count=1,
                mechanism=mechanism,
            )


def test_memory_follows_the_number_of_records_at_once_not_of_persons():
    rng = np.random.default_rng(5)
    persons = np.repeat(np.arange(60), 100)
    values = rng.standard_normal((len(persons), DIMENSION))
    asked = []

    def vectors(indices):
        asked.append(len(indices))
        return values[indices]

    cells = rng.integers(CELLS, size=len(persons))
    people = PersonIndex.of(persons)
    total = sum_of_clipped(vectors, cells, people=people, cell_count=CELLS)
    assert max(asked) <= 1024
    assert sum(asked) == len(persons)
    np.testing.assert_allclose(total, _naive(values, cells, persons), rtol=1e-8, atol=1e-12)


def test_a_person_with_more_records_than_a_block_is_clipped_as_one():
    persons = np.repeat([0, 1, 2], [3, 5000, 2])
    values = np.full((len(persons), DIMENSION), 10.0)
    cells = np.arange(len(persons)) % CELLS
    total = _clipped(values, cells, persons)
    np.testing.assert_allclose(total, _naive(values, cells, persons), rtol=1e-8)
