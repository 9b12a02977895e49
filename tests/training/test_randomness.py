"""The privacy stream: right distribution, fresh every time, nothing to replay."""

import copy

import numpy as np
import pytest
from scipy import stats

from training.randomness import PrivacyRandomness, _by_numpy, _by_torch, reproducible


def test_privacy_noise_is_standard_normal():
    # The chance that a right generator fails this is one in a million.
    assert stats.kstest(PrivacyRandomness().normal(200_000), "norm").pvalue > 1e-6


def test_noise_is_the_same_function_of_the_stream_with_torch_and_without_it():
    first, second = (PrivacyRandomness().uniform(100_000) for _ in range(2))
    cosines, sines = _by_numpy(first, second)
    assert stats.kstest(cosines, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(cosines, sines)[0, 1]) < 5 / np.sqrt(100_000)
    for ours, theirs in zip((cosines, sines), _by_torch(first.copy(), second), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_values_in_memory_come_out_on_the_lattice_of_tensors():
    import torch

    values = np.linspace(-5, 5, 1001)
    source, grid = PrivacyRandomness(), 2.0**-34
    for released in (
        source.noised_values(values, 1.5),
        source.noised(torch.from_numpy(values), 1.5).numpy(),
    ):
        np.testing.assert_array_equal(released / grid, np.rint(released / grid))
        assert np.std(released - values) == pytest.approx(1.5, rel=0.12)


def test_privacy_noise_of_any_count_has_no_correlation_between_its_halves():
    noise = PrivacyRandomness().normal(100_000).reshape(2, -1)
    assert abs(np.corrcoef(noise)[0, 1]) < 5 / np.sqrt(50_000)
    assert abs(np.corrcoef(noise**2)[0, 1]) < 5 / np.sqrt(50_000)
    assert [len(PrivacyRandomness().normal(count)) for count in (0, 1, 2, 7)] == [0, 1, 2, 7]


def test_poisson_batches_take_each_unit_at_the_rate_and_vary_in_size():
    randomness = PrivacyRandomness()
    sizes = [len(randomness.poisson_batch(1000, 0.3)) for _ in range(400)]
    assert np.mean(sizes) == pytest.approx(300, abs=5 * np.sqrt(210 / 400))
    assert 8 < np.std(sizes) < 22  # a fixed batch size would have 0, Poisson sampling has 14.5


def test_two_streams_never_agree():
    first, second = PrivacyRandomness(), PrivacyRandomness()
    assert np.intersect1d(first.normal(1000), second.normal(1000)).size == 0


def test_global_seeds_do_not_reach_the_privacy_stream():
    import torch

    draws = []
    for _ in range(2):
        torch.manual_seed(1)
        draws.append(PrivacyRandomness().normal(8).tolist())
    assert draws[0] != draws[1]


def test_privacy_stream_cannot_be_copied_into_a_checkpoint():
    with pytest.raises(TypeError, match="replayed noise cancels"):
        copy.copy(PrivacyRandomness())


def test_reproducible_stream_repeats_for_its_seed():
    assert reproducible(5).random() == reproducible(5).random()
