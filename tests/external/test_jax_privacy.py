"""Our bounds beside jax-privacy's on the same scores, where that package is installed.

Frozen values of version 2.0.0 are compared in tests/privacy/test_epsilon_bounds.py without it. Its
module is loaded by path: the package itself would load jax, which these functions do not use.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from privacy.epsilon_bounds import (
    Guessing,
    TwoWorlds,
    one_run_epsilon,
    one_run_gaussian_epsilon,
    two_world_epsilon,
)

DELTA = 1e-5


@pytest.fixture(scope="module")
def theirs():
    found = importlib.util.find_spec("jax_privacy")
    if found is None:
        pytest.skip("jax-privacy is not installed")
    path = Path(next(iter(found.submodule_search_locations))) / "auditing.py"
    spec = importlib.util.spec_from_file_location("jax_privacy_auditing", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[(0.5, 300), (1.0, 500), (2.0, 500), (3.0, 1000)])
def run_of_a_gaussian(request):
    mu, persons = request.param
    rng = np.random.default_rng(int(10 * mu))
    coins = rng.integers(0, 2, persons)
    scores = rng.normal(size=persons) + mu * coins
    return scores, coins, mu


def test_bounds_agree_to_a_thousandth(theirs, run_of_a_gaussian):
    scores, coins, threshold = run_of_a_gaussian
    auditor = theirs.CanaryScoreAuditor(scores[coins == 1], scores[coins == 0])
    fixed = theirs.Explicit(threshold)
    accused = scores >= threshold
    hits = int(coins[accused].sum())
    guessing = Guessing(len(coins), int(accused.sum()), hits)
    members = int(coins.sum())
    seen = TwoWorlds(hits, members, guessing.guesses - hits, len(coins) - members)
    pairs = (
        (
            auditor.epsilon_one_run(0.05, DELTA, threshold_strategy=fixed),
            one_run_epsilon(guessing, delta=DELTA, error=0.05),
        ),
        (
            auditor.epsilon_one_run_fdp(0.05, DELTA, threshold_strategy=fixed),
            one_run_gaussian_epsilon(guessing, delta=DELTA, error=0.05),
        ),
        (
            auditor.epsilon_clopper_pearson(0.05, DELTA, one_sided=False, threshold_strategy=fixed),
            two_world_epsilon(seen, delta=DELTA, error=0.05),
        ),
    )
    for their, our in pairs:
        assert our == pytest.approx(their, abs=1e-3)


def test_its_gaussian_bound_of_version_2_0_0_sees_epsilon_in_noise(theirs):
    """Why we do not use it: evidence in neither direction counts as evidence."""
    from importlib import metadata

    if metadata.version("jax-privacy") != "2.0.0":
        pytest.skip("another version than 2.0.0")
    rng = np.random.default_rng(1)
    found = [
        theirs.CanaryScoreAuditor(rng.normal(size=100), rng.normal(size=100)).epsilon_from_gdp(
            0.05, DELTA
        )
        for _ in range(20)
    ]
    assert np.mean(np.array(found) > 1) >= 0.8
