"""Audits the DP-SGD loop itself: gradient canaries go through `dp_sgd.train`, what comes out is tested.

The toy network is one linear layer without bias, and a person's loss is linear in it, so that the
gradient of canary number i points along axis i whatever the weights are. All canaries are orthogonal
and what Adam is handed can be read person by person, which no real training allows. Never run on
records: canaries belong to nobody.

Three probes. *Sensitivity*: the first update with and without one more person may differ by the clip.
*Sampling*: with next to no noise, who entered each step is visible; entries must be independent coins
at the declared rate. *Noise*: canaries that were left out by a fair coin show pure noise, which must
be as large as declared, Gaussian and fresh in every update; and guessing all coins from the sums of
updates must not refute the accountant's epsilon (`privacy.epsilon_bounds.epsilon_lower_bound`).

Nasr et al. 2023, arXiv:2302.07956 (gradient canaries); Steinke et al. 2023, arXiv:2305.08846 (one run).
What a sound result does not mean: the accountant itself and the objective's own use of records are
tested elsewhere; an error below the stated power stays unseen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from privacy import accounting
from privacy.epsilon_bounds import EpsilonBound, epsilon_lower_bound
from privacy.mechanisms import PoissonSubsampledGaussianMechanism
from training import dp_sgd
from training.checkpoints import Progress
from training.records import PersonIndex
from training.run import LocalRun

Floats = NDArray[np.float64]
Train = Callable[..., PoissonSubsampledGaussianMechanism]

ERROR = 1e-5
"""How often each check may accuse a sound loop."""
_DELTA = 1e-10  # far below ERROR over twice the canaries, or no bound could be positive
_CANARIES = 1000
_LOUD = 50.0  # a canary's gradient, before the clip at 1
_QUIET = 0.3
_SMALLEST_VARIANCE = 1e-6
_OUTLIERS = (_QUIET, 1.0, 1e4)
_GUESSES = (50, 100, 200, 500, 1000)
_MECHANISM = PoissonSubsampledGaussianMechanism(
    stage="dp_sgd", noise_multiplier=8.0, sampling_rate=0.5, steps=8
)
_SAMPLING = PoissonSubsampledGaussianMechanism(
    stage="dp_sgd", noise_multiplier=0.02, sampling_rate=0.2, steps=40
)
_SENSITIVITY = PoissonSubsampledGaussianMechanism(
    stage="dp_sgd", noise_multiplier=1e-6, sampling_rate=1.0, steps=1
)
_SAMPLED_PERSONS = 300
_SENSITIVITY_PERSONS = 30
_SETTINGS = dp_sgd.DpSgdSettings(expected_batch_size=250, physical_batch=64)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `reason` says what was found."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class LoopAudit:
    """What the probes found, and the bound on epsilon beside what the accountant claims."""

    checks: tuple[Check, ...]
    epsilon_claimed: float
    bound: EpsilonBound

    @property
    def failed(self) -> tuple[str, ...]:
        """Return the names of the checks that accuse the loop; none for a sound one."""
        return tuple(check.name for check in self.checks if not check.passed)


class Canaries:
    """The objective: row i pulls along row i of `gradients` (rows, axes), whatever the weights."""

    def __init__(self, gradients: Tensor) -> None:
        self._gradients = gradients

    def examples(self, records: NDArray[np.int64]) -> dp_sgd.Examples:
        """Return the gradients of records."""
        return (self._gradients[torch.from_numpy(records)],)

    def loss(self, network: Callable[..., Tensor], examples: dp_sgd.Examples) -> Tensor:
        """Return losses (R,) with these gradients."""
        result: Tensor = network(examples[0])[:, 0]
        return result


def audit_loop(*, rng: np.random.Generator, train: Train = dp_sgd.train) -> LoopAudit:
    """Run the three probes through `train`; `rng` tosses the canaries' coins."""
    noise, claimed, bound = _noise_checks(train, rng)
    checks = (_sensitivity_check(train), *_sampling_checks(train), *noise)
    return LoopAudit(checks=checks, epsilon_claimed=claimed, bound=bound)


def updates_of(
    train: Train,
    gradients: Tensor,
    *,
    mechanism: PoissonSubsampledGaussianMechanism,
    settings: dp_sgd.DpSgdSettings = _SETTINGS,
) -> Floats:
    """Return every update that Adam was handed, times the expected batch size (updates, axes)."""
    network = nn.Linear(gradients.shape[1], 1, bias=False)
    run = LocalRun([mechanism])
    with _seen_by_adam(network) as seen:
        train(
            network,
            Canaries(gradients),
            people=PersonIndex.of(np.arange(len(gradients))),
            index=0,
            settings=settings,
            run=run,
            kept=Progress(run),
        )
    return np.stack(seen) * settings.expected_batch_size


@contextmanager
def _seen_by_adam(network: nn.Linear) -> Iterator[list[Floats]]:
    """Collect what every optimizer that knows the weight applies to it; wrappers are looked through."""
    seen: list[Floats] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        known = any(
            p is network.weight for group in optimizer.param_groups for p in group["params"]
        )
        if known and isinstance(optimizer, torch.optim.Adam) and network.weight.grad is not None:
            seen.append(network.weight.grad.detach().double().flatten().numpy().copy())

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _sensitivity_check(train: Train) -> Check:
    """Compare the first update with and without one more person, whose gradient may be huge."""
    settings = replace(_SETTINGS, clipping="plain")
    people = torch.eye(_SENSITIVITY_PERSONS + 1) * _QUIET
    without = updates_of(train, people[:-1], mechanism=_SENSITIVITY, settings=settings)[0]
    worst = 0.0
    for size in _OUTLIERS:
        people[-1] *= size / float(people[-1].norm())
        update = updates_of(train, people, mechanism=_SENSITIVITY, settings=settings)[0]
        worst = max(worst, float(np.linalg.norm(update - without)))
    limit = settings.max_grad_norm * 1.001  # what float32 updates round
    return Check(
        "sensitivity",
        worst <= limit,
        f"one more person moves an update by up to {worst:.4g}; the clip is {settings.max_grad_norm}",
    )


def _sampling_checks(train: Train) -> tuple[Check, ...]:
    """Read who entered each step, and test that entries are independent coins at the rate."""
    rate = _SAMPLING.sampling_rate
    everybody = torch.eye(_SAMPLED_PERSONS) * _LOUD
    entered = updates_of(train, everybody, mechanism=_SAMPLING) > 0.5
    trials = entered.size
    tests = {
        "sampling_rate": float(stats.binomtest(int(entered.sum()), trials, rate).pvalue),
        "batch_sizes": _dispersion(entered.sum(axis=1), entered.shape[1], rate),
        "entries_per_person": _dispersion(entered.sum(axis=0), entered.shape[0], rate),
    }
    sentence = "what is expected of Poisson batches has chance {:.2g} or less"
    return tuple(
        Check(name, chance > ERROR, sentence.format(chance)) for name, chance in tests.items()
    )


def _dispersion(counts: NDArray[np.integer], trials: int, rate: float) -> float:
    """Return the two-sided p-value of "these counts are binomial": neither too equal nor too uneven."""
    square = float(((counts - trials * rate) ** 2).sum() / (trials * rate * (1 - rate)))
    below = float(stats.chi2.cdf(square, len(counts)))
    return min(1.0, 2 * min(below, 1 - below))


def _noise_checks(
    train: Train, rng: np.random.Generator
) -> tuple[tuple[Check, ...], float, EpsilonBound]:
    """Train on the canaries whose coin says so; look at the others' axes, then guess all coins."""
    coins = rng.integers(0, 2, _CANARIES)
    members = torch.eye(_CANARIES)[torch.from_numpy(coins == 1)] * _LOUD
    updates = updates_of(train, members, mechanism=_MECHANISM)
    noise = updates[:, coins == 0] / _MECHANISM.noise_multiplier
    claimed = accounting.epsilon((_MECHANISM,), _DELTA)
    bound = epsilon_lower_bound(
        {"canary": _guess_scores(updates)}, coins, delta=_DELTA, grid=_GUESSES, error=ERROR, rng=rng
    )
    checks = (
        Check(
            "one_update_per_charged_step",
            len(updates) == _MECHANISM.steps,
            f"{len(updates)} updates for {_MECHANISM.steps} charged steps",
        ),
        _size_check(noise),
        _shape_check(noise),
        _freshness_check(noise),
        Check(
            "epsilon",
            bound.value <= claimed,
            f"epsilon is at least {bound.value:.3g}, the accountant says {claimed:.3g}; "
            f"at most {bound.max_certifiable:.3g} could have been shown",
        ),
    )
    return checks, claimed, bound


def _guess_scores(updates: Floats) -> Floats:
    """Return (axes,) sums of updates, quieter ones counting more; looks at no coin.

    Updates are weighted by their precision, as the best test of a Gaussian shift does.
    """
    typical = np.median(np.abs(updates - np.median(updates, axis=1, keepdims=True)), axis=1)
    precision = 1 / (typical**2 + _SMALLEST_VARIANCE)
    return np.asarray((updates * precision[:, None]).sum(axis=0))


def _size_check(noise: Floats) -> Check:
    """Refuse noise smaller than declared, in any single update or in all together (variance 1)."""
    squares, count = (noise**2).sum(axis=1), noise.shape[1]
    single = min(1.0, float(stats.chi2.cdf(squares, count).min()) * len(noise))
    together = float(stats.chi2.cdf(squares.sum(), noise.size))
    return Check(
        "noise_size",
        min(single, together) > ERROR / 2,
        f"noise is {np.sqrt((noise**2).mean()):.3g} times as large as declared, and "
        f"{np.sqrt(squares.min() / count):.3g} times in the update that has least",
    )


def _shape_check(noise: Floats) -> Check:
    spread = float(noise.std())
    scaled = noise.ravel() / (spread if spread > 0 else 1.0)
    chance = float(stats.kstest(scaled, "norm").pvalue)
    return Check("noise_shape", chance > ERROR, f"Gaussian noise looks so with chance {chance:.2g}")


def _freshness_check(noise: Floats) -> Check:
    """Refuse noise that comes back: any two updates must be uncorrelated (Fisher 1915)."""
    pairs = np.triu_indices(len(noise), 1)
    if not len(pairs[0]) or not noise.std(axis=1).all():
        return Check("noise_is_fresh", passed=False, reason="an update has no noise to compare")
    closest = float(np.abs(np.atleast_2d(np.corrcoef(noise))[pairs]).max())
    reach = np.arctanh(min(closest, 1 - 1e-12)) * np.sqrt(noise.shape[1] - 3)
    chance = float(min(1.0, 2 * stats.norm.sf(reach) * len(pairs[0])))
    return Check(
        "noise_is_fresh", chance > ERROR, f"noise of two updates correlates up to {closest:.3f}"
    )
