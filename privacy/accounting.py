"""Derives epsilon from recorded mechanisms; nothing else in the project knows how that is done.

The first accountant convolves privacy loss distributions (PLD) with pessimistic rounding, under
add-or-remove-one; the second is Rényi DP (RDP) and only ever confirms or stands in for the first.
A list that holds zCDP has no known privacy loss distribution: RDP answers first there, and its
conversion written out once more (`_zcdp_epsilon`) confirms it.
This module keeps no budget (`privacy.ledger`) and chooses no noise (`privacy.planning`).

PLD: Koskela et al. 2020, arXiv:1906.03049; Doroshenko et al. 2022, arXiv:2207.04380.
RDP: Mironov 2017, arXiv:1702.07476; Mironov, Talwar & Zhang 2019, arXiv:1908.10530.
zCDP to (epsilon, delta): Canonne, Kamath & Steinke 2020, arXiv:2004.00010, Corollary 13.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import (
    GaussianMechanism,
    Mechanism,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
    ZcdpMechanism,
)

if TYPE_CHECKING:
    from dp_accounting import DpEvent

# Outside these ranges floating point, not mathematics, would decide the answer: no epsilon.
NOISE_MULTIPLIER_RANGE = (1e-2, 1e6)
SAMPLING_RATE_RANGE = (1e-9, 1.0)
DELTA_RANGE = (1e-12, 0.5)
MAX_STEPS = 10_000_000
MAX_MECHANISMS = 256

# Above this RDP epsilon nobody can hold a budget, and the PLD grid would need gigabytes.
_LARGEST_PLD_EPSILON = 200.0
# (largest RDP epsilon, grid width of the privacy loss). A coarser grid is ten times quicker and
# only raises the answer: by 0.0006 after 3,000 steps.
_GRIDS = ((4.0, 1e-4), (_LARGEST_PLD_EPSILON, 1e-3))

# The FFT inside the PLD accountant loses about 1e-17 of probability per step (measured against
# the Gaussian closed form: 5e-13 after 100,000 steps), and sometimes *lowers* epsilon. The target
# delta is reduced by this much first, per convolution and per step; where that would halve delta,
# RDP answers instead.
_LOST_PROBABILITY = 1e-14
_LOST_PROBABILITY_PER_STEP = 2e-17

# Whole orders only: their closed form is exact, the series for fractions may fail to converge.
RDP_ORDERS: tuple[float, ...] = (
    *(float(order) for order in range(2, 65)),
    *(96.0, 128.0, 192.0, 256.0, 512.0, 1024.0),
)

# Where nothing is sampled, divergences are straight lines in the order and any order is exact. So
# dense that the best of them gives an epsilon within 2e-4 (relative) of the best order there is.
_FREE_ORDERS: tuple[float, ...] = tuple(1 + 10 ** (power / 64) for power in range(-120, 321))

_EPSILON_STEP = Decimal("0.000001")


class _Part(NamedTuple):
    """One merged part of a composition."""

    sampling_rate: float
    noise_multiplier: float
    steps: int
    is_zcdp: bool = False


def epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return an upper bound on the epsilon that all `mechanisms` together cost at `delta`.

    Pessimistic PLD under add-or-remove-one unit; no steps cost 0.0. The order is irrelevant.
    Raises: InvalidParameter for a noise multiplier, rate, step count or delta out of range.
    """
    _check_delta(delta)
    return _epsilon(_parts(mechanisms), delta)


def epsilon_decimal(mechanisms: Sequence[Mechanism], delta: float) -> Decimal:
    """Return `epsilon` as an exact decimal, rounded up to a millionth."""
    return round_up(epsilon(mechanisms, delta))


def delta(mechanisms: Sequence[Mechanism], epsilon: float) -> float:
    """Return an upper bound on the delta at `epsilon`: the ceiling on every attack's ROC curve.

    Raises: InvalidParameter as `epsilon` does, or for a negative or non-finite epsilon.
    """
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise InvalidParameter(
            f"Epsilon {epsilon} was refused: give a finite number of at least 0."
        )
    parts = _parts(mechanisms)
    if not parts:
        return 0.0
    if _has_zcdp(parts) or _rdp_epsilon(parts, DELTA_RANGE[0]) > _LARGEST_PLD_EPSILON:
        return min(1.0, float(_rdp_accountant(parts).get_delta(epsilon)))
    try:
        found = float(_pld_accountant(parts, _GRIDS[0][1]).get_delta(epsilon))
    except (ValueError, ArithmeticError):
        found = float(_rdp_accountant(parts).get_delta(epsilon))
    return min(1.0, found + _lost(parts))


def second_opinion(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return the RDP accountant's epsilon: independent code, never below the true value."""
    _check_delta(delta)
    parts = _parts(mechanisms)
    if not parts:
        return 0.0
    return _zcdp_epsilon(parts, delta) if _has_zcdp(parts) else _rdp_epsilon(parts, delta)


def renyi_divergences(mechanism: Mechanism, orders: tuple[float, ...]) -> tuple[float, ...]:
    """Return the Rényi divergence bound of `mechanism`, all its steps, at each of `orders`."""
    # Steps add up, so one step is computed (and remembered) whatever their number.
    rate, noise, is_zcdp = _checked(mechanism)
    _parts([mechanism])
    one = _Part(rate, noise, 1, is_zcdp)
    return tuple(mechanism.steps * x for x in _divergences_of_one_step(one, orders))


def gaussian_noise_multiplier(target: PrivacyTarget) -> float:
    """Return the smallest noise multiplier whose single Gaussian release meets `target`.

    Balle & Wang 2018, arXiv:1805.06530, raised by hairs until the PLD accountant agrees.
    """
    _check_delta(target.delta)
    return _gaussian_noise_multiplier(target.epsilon, target.delta)


def round_up(value: float) -> Decimal:
    """Return the smallest multiple of a millionth that is at least `value`, exactly."""
    if not math.isfinite(value):
        raise InvalidParameter(f"The cost {value} was refused: it is no finite number.")
    # The default context would round 28 digits half-even before the quantum is applied.
    return Decimal(value).quantize(_EPSILON_STEP, context=Context(prec=60, rounding=ROUND_CEILING))


@lru_cache(maxsize=4096)
def _epsilon(parts: tuple[_Part, ...], delta: float) -> float:
    if not parts:
        return 0.0
    ceiling = _rdp_epsilon(parts, delta)
    if _has_zcdp(parts):
        return ceiling
    lost = _lost(parts)
    if ceiling > _LARGEST_PLD_EPSILON or lost > delta / 2:
        return ceiling
    grid = next(width for largest, width in _GRIDS if ceiling <= largest)
    try:
        return max(0.0, float(_pld_accountant(parts, grid).get_epsilon(delta - lost)))
    except (ValueError, ArithmeticError):
        # dp_accounting loses its footing for rates within 1e-9 of 1; RDP is valid and close there.
        return ceiling


@lru_cache(maxsize=8)
def _pld_accountant(parts: tuple[_Part, ...], grid: float) -> Any:
    # Imported late: dp_accounting takes a second, and most importers only pass mechanisms along.
    from dp_accounting import pld  # noqa: PLC0415

    accountant = pld.PLDAccountant(value_discretization_interval=grid)
    return accountant.compose(_event(parts))


def _rdp_accountant(parts: tuple[_Part, ...], orders: tuple[float, ...] | None = None) -> Any:
    from dp_accounting import rdp  # noqa: PLC0415

    return rdp.RdpAccountant(orders or _orders_for(parts)).compose(_event(parts))


def _orders_for(parts: tuple[_Part, ...]) -> tuple[float, ...]:
    is_free = _has_zcdp(parts) and all(part.sampling_rate == 1 for part in parts)
    return _FREE_ORDERS if is_free else RDP_ORDERS


def _has_zcdp(parts: tuple[_Part, ...]) -> bool:
    return any(part.is_zcdp for part in parts)


@lru_cache(maxsize=4096)
def _rdp_epsilon(parts: tuple[_Part, ...], delta: float) -> float:
    return max(0.0, float(_rdp_accountant(parts).get_epsilon(delta)))


@lru_cache(maxsize=4096)
def _zcdp_epsilon(parts: tuple[_Part, ...], delta: float) -> float:
    """Return epsilon where delta at each order is written out, and the orders are searched anew."""
    from scipy.optimize import brentq  # noqa: PLC0415

    orders = _orders_for(parts)
    sums = [0.0] * len(orders)
    for part in parts:
        if part.sampling_rate == 1:
            each = [order * 0.5 / part.noise_multiplier**2 for order in orders]
        else:
            each = list(_divergences_of_one_step(part._replace(steps=1), orders))
        sums = [total + part.steps * one for total, one in zip(sums, each, strict=True)]

    def excess(epsilon: float) -> float:
        logs = [
            (order - 1) * (total - epsilon) - math.log(order - 1) + order * math.log1p(-1 / order)
            for order, total in zip(orders, sums, strict=True)
        ]
        return min(logs) - math.log(delta)

    high = 1.0
    while excess(high) > 0:
        high *= 2
    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, high, xtol=1e-12, rtol=1e-12)) * (1 + 1e-9)


@lru_cache(maxsize=4096)
def _divergences_of_one_step(part: _Part, orders: tuple[float, ...]) -> tuple[float, ...]:
    # Rounded away from zero by a relative 1e-9, far above the floating point error of the sums.
    divergences = _rdp_accountant((part,), orders).rdp
    return tuple(float(x) * (1 + 1e-9) for x in divergences)


@lru_cache(maxsize=256)
def _gaussian_noise_multiplier(target_epsilon: float, delta: float) -> float:
    from dp_accounting import get_sigma_gaussian  # noqa: PLC0415

    noise = max(float(get_sigma_gaussian(target_epsilon, delta)), NOISE_MULTIPLIER_RANGE[0])
    while _epsilon((_Part(1.0, noise, 1),), delta) > target_epsilon:
        noise *= 1 + 1e-5
    return noise


def _event(parts: tuple[_Part, ...]) -> "DpEvent":
    import dp_accounting as dp  # noqa: PLC0415

    events: list[DpEvent] = []
    for sampling_rate, noise_multiplier, steps, is_zcdp in parts:
        if is_zcdp:
            events.append(dp.SelfComposedDpEvent(dp.ZCDpEvent(0.5 / noise_multiplier**2), steps))
            continue
        release = dp.GaussianDpEvent(noise_multiplier)
        # Sampling everybody is no sampling; the closed form of the Gaussian is then exact.
        step = release if sampling_rate == 1 else dp.PoissonSampledDpEvent(sampling_rate, release)
        events.append(dp.SelfComposedDpEvent(step, steps))
    return dp.ComposedDpEvent(events)


def _lost(parts: tuple[_Part, ...]) -> float:
    steps = sum(part.steps for part in parts)
    return _LOST_PROBABILITY * len(parts) + _LOST_PROBABILITY_PER_STEP * steps


def _parts(mechanisms: Sequence[Mechanism]) -> tuple[_Part, ...]:
    """Check every mechanism, add up equal ones, and return them in one canonical order."""
    if len(mechanisms) > MAX_MECHANISMS:
        raise InvalidParameter(
            f"{len(mechanisms)} mechanisms in one list were refused: at most {MAX_MECHANISMS} "
            "are accounted for together. Split the work into several jobs."
        )
    steps: dict[tuple[float, float, bool], int] = {}
    for mechanism in mechanisms:
        key = _checked(mechanism)
        steps[key] = steps.get(key, 0) + mechanism.steps
    if sum(steps.values()) > MAX_STEPS:
        raise InvalidParameter(
            f"{sum(steps.values())} steps were refused: at most {MAX_STEPS} can be accounted for."
        )
    return tuple(
        _Part(rate, noise, count, is_zcdp)
        for (rate, noise, is_zcdp), count in sorted(steps.items())
        if count
    )


def _checked(mechanism: Mechanism) -> tuple[float, float, bool]:
    """Return (sampling rate, noise multiplier, is it zCDP) of what can be accounted for."""
    if isinstance(mechanism, GaussianMechanism | ZcdpMechanism):
        rate = 1.0
    elif isinstance(mechanism, PoissonSubsampledGaussianMechanism):
        rate = mechanism.sampling_rate
    else:
        raise UnsupportedMechanism(
            f"A {type(mechanism).__name__} was refused: only the mechanisms in "
            "privacy/mechanisms.py can be accounted for."
        )
    _check_range("noise multiplier", mechanism.noise_multiplier, NOISE_MULTIPLIER_RANGE)
    _check_range("sampling rate", rate, SAMPLING_RATE_RANGE)
    if mechanism.steps < 0:
        raise InvalidParameter(f"{mechanism.steps} steps were refused: give 0 or more.")
    return rate, mechanism.noise_multiplier, isinstance(mechanism, ZcdpMechanism)


def _check_range(name: str, value: float, limits: tuple[float, float]) -> None:
    # Written so that NaN, which compares false with everything, is refused too.
    if not limits[0] <= value <= limits[1]:
        raise InvalidParameter(
            f"The {name} {value} was refused: it must lie between {limits[0]:g} and {limits[1]:g}."
        )


def _check_delta(delta: float) -> None:
    _check_range("delta", delta, DELTA_RANGE)
