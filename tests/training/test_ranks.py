"""Training by two processes: the same sum, noise added once, steps charged once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training import two_ranks
from training import generators
from training.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")  # two processes are started once


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.two_ranks", str(rank), "2", str(folder)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    for process in started:
        said, _ = process.communicate(timeout=250)
        assert process.returncode == 0, said.decode()
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def test_two_ranks_sum_to_what_one_rank_sums_to(ranks):
    alone = two_ranks.trainer(Ranks())
    alone.accumulate(np.arange(len(two_ranks.IMAGES)))
    for rank in ranks:
        np.testing.assert_allclose(
            rank["everybody"], alone.optimizer.clipped_sum, rtol=1e-5, atol=1e-7
        )


def test_two_ranks_add_the_noise_of_one_and_see_the_same(ranks):
    np.testing.assert_array_equal(ranks[0]["noise"], ranks[1]["noise"])
    # 400 steps of 37 parameters: the standard error of the deviation is 0.6 %.
    expected = two_ranks.NOISE * 1.0 / two_ranks.settings().expected_batch_size
    assert ranks[0]["noise"].std() == pytest.approx(expected, rel=0.03)


def test_two_ranks_end_with_the_same_weights_and_charge_once(ranks):
    np.testing.assert_array_equal(ranks[0]["weights"], ranks[1]["weights"])
    assert [int(rank["charged"]) for rank in ranks] == [two_ranks.STEPS, 0]
    assert [int(rank["ran"]) for rank in ranks] == [two_ranks.STEPS] * 2


@pytest.mark.parametrize(
    "what", ["release", "turns", *(f"fit {name}" for name in generators.available("image"))]
)
def test_what_each_rank_would_release_or_draw_on_its_own_is_refused_at_all_of_them(ranks, what):
    for rank in ranks:
        assert "refused in a process group of 2 ranks; the limit is 1" in str(rank[what])
        assert "Run `fit` in one process" in str(rank[what])
        assert int(rank["spent"]) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_person_belongs_to_exactly_one_rank(count):
    shares = [Ranks(index=index, count=count).own(20) for index in range(count)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(20))
