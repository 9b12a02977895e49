"""Canaries of an audit twin: whose coin is up, and what recognising them says about epsilon.

A twin is a second training with the same code, configuration and mechanisms, on the same persons and on
made-up ones, the canaries, each of whom takes part by an independent fair coin. No image of a twin is
released. Canaries are worst cases by design, so their bound on epsilon is larger than that of persons;
it speaks about the training, not about anybody's risk. Steinke, Nasr and Jagielski 2023
(arXiv:2305.08846); Jagielski, Ullman and Oprea 2020 (arXiv:2006.07709) on canaries that are made up.

Canaries of one run are not independent of each other: only bounds made for one run may be used on them.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.epsilon_bounds import epsilon_lower_bound
from privacy.errors import InvalidParameter
from privacy.evidence import Metric
from privacy.statistics import Interval, auc_interval

Floats = NDArray[np.floating]

_PURPOSE = b"kaima twin canaries v1"


@dataclass(frozen=True)
class TwinFinding:
    """What canaries showed: every attack's AUC, and the bound on epsilon beside the claim."""

    epsilon_claimed: float
    epsilon_lower_bound: float
    epsilon_max_certifiable: float
    attack: str
    auc: dict[str, Interval]
    canaries: int

    @property
    def refutes_claim(self) -> bool:
        """Return whether the twin shows that training is less private than was claimed."""
        return self.epsilon_lower_bound > self.epsilon_claimed

    def metrics(self) -> tuple[Metric, ...]:
        """Return the numbers as an audit reports them."""
        return (
            Metric(
                name="twin_epsilon_lower_bound", value=self.epsilon_lower_bound, n=self.canaries
            ),
            Metric(
                name="twin_epsilon_max_certifiable",
                value=self.epsilon_max_certifiable,
                direction="context",
            ),
            *(
                Metric(
                    name=f"twin_auc_{name}",
                    value=area.value,
                    ci_low=area.low,
                    ci_high=area.high,
                    direction="context",
                    n=area.n,
                    baseline=0.5,
                )
                for name, area in self.auc.items()
            ),
        )


def toss_canary_coins(count: int, *, key: bytes) -> NDArray[np.int64]:
    """Return (count,) independent fair coins, a pseudorandom function of key and number.

    Raises: InvalidParameter for a key shorter than 32 bytes.
    """
    if len(key) < 32:
        raise InvalidParameter(
            f"A key of {len(key)} bytes was refused: give at least 32 random bytes."
        )
    digests = (
        hmac.digest(key, _PURPOSE + number.to_bytes(8, "big"), hashlib.sha256)
        for number in range(count)
    )
    return np.array([digest[0] & 1 for digest in digests], dtype=np.int64)


def measure_twin(
    scores: Mapping[str, Floats],
    coins: NDArray[np.integer],
    *,
    epsilon_claimed: float,
    delta: float,
    guesses: tuple[int, ...],
    error: float,
    rng: np.random.Generator,
) -> TwinFinding:
    """Return what scores of all canaries (canaries,), higher = trained on, show about epsilon.

    Scores must not have seen the coins. Raises: InvalidParameter where scores are missing or not finite.
    """
    wrong = [k for k, v in scores.items() if len(v) != len(coins) or not np.isfinite(v).all()]
    if wrong or not scores:
        raise InvalidParameter(
            f"Scores of canaries were refused ({', '.join(wrong) or 'none were given'}): give one "
            f"finite number for each of the {len(coins)} canaries, those left out included."
        )
    bound = epsilon_lower_bound(scores, coins, delta=delta, grid=guesses, error=error, rng=rng)
    return TwinFinding(
        epsilon_claimed=epsilon_claimed,
        epsilon_lower_bound=bound.value,
        epsilon_max_certifiable=bound.max_certifiable,
        attack=bound.attack,
        auc={name: auc_interval(v, coins, error=0.025) for name, v in scores.items()},
        canaries=len(coins),
    )
