"""Mechanisms of known epsilon, and the scores of the best attack on them.

Each answers about `persons` fair coins in one run. `truths` holds, for each kind of estimator, the
largest number that it may return: epsilon at DELTA, for `gaussian` ones that of the smallest Gaussian
curve that holds for the mechanism.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from privacy.tradeoffs import gaussian_dp_epsilon

DELTA = 1e-5
GRID = (10, 20, 50, 100, 200, 500)  # the policy's numbers of guesses
ANY, GAUSSIAN = "any", "gaussian"
_HIDDEN_EPSILON = 1.2

Floats = NDArray[np.float64]
Coins = NDArray[np.int64]
Draw = Callable[[np.random.Generator, Coins], Floats]


@dataclass(frozen=True)
class Known:
    """A mechanism: its name, true bounds, and published means of bounds (`references`)."""

    name: str
    parameter: float
    persons: int
    guesses: tuple[int, ...]
    truths: dict[str, float]
    references: dict[str, float]
    threshold: float  # the best one for guessing "in", fixed beforehand
    draw: Draw

    def runs(self, count: int, rng: np.random.Generator) -> tuple[Floats, Coins]:
        """Return (runs, persons) scores, and coins."""
        coins = rng.integers(0, 2, (count, self.persons))
        return np.stack([self.draw(rng, row) for row in coins]), coins


def mechanisms() -> Iterator[Known]:
    """Yield every mechanism that is measured."""
    for epsilon, reference in ((0.5, 0.33), (1.0, 0.84), (2.0, 1.78), (4.0, 3.48)):
        yield _randomised_response(epsilon, reference)
    for mu, reference, gaussian in ((1.0, 1.03, 1.41), (2.0, 2.40, 3.57), (4.0, 3.68, 6.18)):
        yield _gaussian(mu, {ANY: reference, GAUSSIAN: gaussian})
    yield _noise()
    yield all_or_nothing()


def _randomised_response(epsilon: float, reference: float) -> Known:
    # (e^ε - e^x) / (1 + e^ε) is delta at x.
    truth = math.log(math.exp(epsilon) - DELTA * (1 + math.exp(epsilon)))
    return Known(
        name="randomised_response",
        parameter=epsilon,
        persons=1000,
        guesses=(800,),  # half highest, half lowest: all of them would force as many of each
        truths={ANY: truth},
        references={ANY: reference},
        threshold=0.5,
        draw=lambda rng, coins: _flipped(rng, coins, epsilon),
    )


def _gaussian(mu: float, references: dict[str, float]) -> Known:
    truth = gaussian_dp_epsilon(mu, DELTA)
    return Known(
        name="gaussian",
        parameter=mu,
        persons=500,
        guesses=GRID,
        truths={ANY: truth, GAUSSIAN: truth},
        references=references,
        threshold=mu / 2,
        draw=lambda rng, coins: mu * coins + rng.normal(size=len(coins)),
    )


def _noise() -> Known:
    return Known(
        name="noise",
        parameter=0.0,
        persons=1000,
        guesses=GRID,
        truths={ANY: 0.0, GAUSSIAN: 0.0},
        references={},
        threshold=0.0,
        draw=lambda rng, coins: rng.normal(size=len(coins)),
    )


def all_or_nothing() -> Known:
    """Return one that answers about everybody by randomised response, or about nobody.

    One draw decides for all: coins are guessed well together or badly together. The share of runs
    that answer is the largest that keeps the mechanism 1-Gaussian DP, so a bound that takes coins for
    independent of each other errs that often.
    """
    share = _largest_share(_HIDDEN_EPSILON)
    scale = 1 + math.exp(_HIDDEN_EPSILON)
    truth = math.log(math.exp(_HIDDEN_EPSILON) - DELTA * scale / share)

    def draw(rng: np.random.Generator, coins: Coins) -> Floats:
        answers = rng.random() < share
        return _flipped(rng, coins, _HIDDEN_EPSILON if answers else 0.0)

    return Known(
        name="all_or_nothing",
        parameter=share,
        persons=500,
        guesses=GRID,
        truths={ANY: truth, GAUSSIAN: gaussian_dp_epsilon(1.0, DELTA)},
        references={},
        threshold=0.5,
        draw=draw,
    )


def _largest_share(epsilon: float) -> float:
    """Return the share s with s · delta(x) ≤ delta of 1-Gaussian DP at every x, with a hair to spare."""
    grid = np.linspace(0, epsilon, 10_001)[:-1]
    answered = (math.exp(epsilon) - np.exp(grid)) / (1 + math.exp(epsilon))
    permitted = special.ndtr(0.5 - grid) - np.exp(grid) * special.ndtr(-0.5 - grid)
    return min(1.0, 0.999 * float(np.min(permitted / answered)))


def _flipped(rng: np.random.Generator, coins: Coins, epsilon: float) -> Floats:
    """Return coins, each told truthfully with chance e^epsilon / (1 + e^epsilon)."""
    truthful = rng.random(len(coins)) < special.expit(epsilon)
    return np.where(truthful, coins, 1 - coins).astype(np.float64)
